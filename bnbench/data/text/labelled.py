"""Texts of one class each, as padded tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.tensors import fingerprint
from bnbench.data.text.units import encoded, padded_to, unit_of
from bnbench.data.text.windows import PARTS, Remarks

Length = Annotated[
    int, Field(ge=2, le=100_000, description="tokens of a text: a longer one is cut, a shorter one padded")
]


@dataclass(frozen=True)
class Labelled:
    """Texts and their classes."""

    texts: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True)
class Encoding:
    """How texts become tokens. unit, vocabulary: see `bnbench.data.text.units`. length: of each in tokens."""

    unit: str
    length: int
    vocabulary: int


def labelled_dataset(
    name: str, parts: Mapping[str, Labelled], class_names: Sequence[str], encoding: Encoding, remarks: Remarks
) -> Dataset:
    """The texts of each part ("train", "test", and "val" where there is one) as tokens (N, length) with their classes.

    Raises DataError where a text has no token.
    """
    encoder = unit_of(encoding.unit, parts["train"].texts, padded=True, size=encoding.vocabulary)
    places = {label: place for place, label in enumerate(class_names)}
    pairs, notes = {}, list[str]()
    for part in PARTS:
        if part not in parts:
            continue
        sequences, total, lacking = encoded(encoder, parts[part].texts)
        if empty := [place for place, tokens in enumerate(sequences) if not len(tokens)]:
            raise DataError(
                f"{name}: texts of {part} without a token: {len(empty)}, e.g. number {empty[0] + 1}: "
                f"{parts[part].texts[empty[0]][:40]!r}.",
                "A text without a token is all padding.",
                "remove them, or unit: characters.",
            )
        cut = sum(len(tokens) > encoding.length for tokens in sequences)
        if cut:
            notes.append(
                f"{name}: {cut:,} of {len(sequences):,} texts of {part} {'is' if cut == 1 else 'are'} longer than "
                f"{encoding.length} {encoder.tokens.unit} and cut (length)"
            )
        if lacking:
            notes.append(
                f"{name}: {lacking:,} of {total:,} {encoder.tokens.unit} of {part} ({lacking / total:.1%}) "
                f"{'is' if lacking == 1 else 'are'} not in the vocabulary: each is the unknown token"
            )
        tokens = torch.from_numpy(padded_to(encoding.length, sequences))
        pairs[part] = tokens, torch.tensor([places[label] for label in parts[part].labels])
    words, size = encoder.tokens.unit, encoder.tokens.size
    first = f"{name}: {words}: {size:,} tokens in the vocabulary, texts cut or padded to {encoding.length} {words}"
    own = pairs.get("val", (None, None))
    used = [tensor for pair in pairs.values() for tensor in pair]
    return Dataset(
        *pairs["train"],
        *pairs["test"],
        class_names=tuple(class_names),
        fingerprint=_fingerprint(fingerprint(*used), str(encoder.tokens), class_names),
        val_inputs=own[0],
        val_targets=own[1],
        notes=(*remarks.notes, first, *notes),
        cautions=remarks.cautions,
        tokens=encoder.tokens,
    )


def _fingerprint(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def held_out(
    labels: Sequence[str], share: float, draw: torch.Generator
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(N,) bool: about so large a share of each class, at least one sample of it and never all."""
    order = torch.randperm(len(labels), generator=draw).tolist()
    members: dict[str, list[int]] = {}
    for place in order:
        members.setdefault(labels[place], []).append(place)
    taken = np.zeros(len(labels), bool)
    for places in members.values():
        if len(places) > 1:
            taken[places[: min(max(1, round(len(places) * share)), len(places) - 1)]] = True
    return taken
