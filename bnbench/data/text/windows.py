"""Windows of one long text, for a language model: inputs (N, T), and as targets the same text one token later.

A training window starts at every token: the windows are a view of the text, which is in memory once. Evaluation windows
do not overlap, so that each token is predicted once. The parts are cut from the text before, so no window lies in two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data import Dataset, Plan, Sizes, Tokens
from bnbench.data.tensors import Pair
from bnbench.data.text.units import Array, Encoder

PARTS = ("train", "val", "test")
#: The part of a text that is trained on, and the place where the validation part ends, in tenths.
TENTHS = 8, 9
#: Training windows at most. A longer text has them further apart, but never further than their length.
MOST_WINDOWS = 1_000_000
Window = Annotated[int, Field(ge=2, le=100_000, description="tokens of a window")]


def cut(text: str) -> dict[str, str]:
    """The first eight tenths of the characters to train on, one tenth to validate, one to test."""
    ends = [0, *(len(text) * tenths // 10 for tenths in TENTHS), len(text)]
    return {part: text[start:end] for part, start, end in zip(PARTS, ends[:-1], ends[1:], strict=True)}


@dataclass(frozen=True)
class Remarks:
    """Sentences about a text. notes: on its reading. cautions: what limits every answer."""

    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


def encoded_windows(
    name: str, parts: Mapping[str, str], encoder: Encoder, window: int, remarks: Remarks
) -> Dataset:
    """The windows of a text's parts. Raises DataError where one of them is too short."""
    codes, notes = {}, list[str]()
    for part, text in parts.items():
        codes[part], unknown = encoder.encode(text)
        if unknown:
            notes.append(
                f"{name}: {unknown:,} of {len(text):,} characters of {part} {'is' if unknown == 1 else 'are'} not in "
                "the training text: each is the unknown token"
            )
    return windows(name, codes, encoder.tokens, window, Remarks((*remarks.notes, *notes), remarks.cautions))


def windows(name: str, parts: Mapping[str, Array], tokens: Tokens, window: int, remarks: Remarks) -> Dataset:
    """From the tokens of each part. Raises DataError where one of them is too short for a window."""
    short = {part: len(codes) for part, codes in parts.items() if len(codes) <= window}
    if short:
        raise _too_short(name, short, tokens.unit, window)
    if (parts["train"] == parts["train"][0]).all():
        raise DataError(
            f"{name}: all {len(parts['train']):,} {tokens.unit} of the training part are the same one.",
            "There is nothing to predict.",
            f"a text with at least two different {tokens.unit}.",
        )
    stride = stride_of(len(parts["train"]), window)
    texts = {part: torch.from_numpy(codes) for part, codes in parts.items()}
    pairs = {part: _cut(texts[part], window, stride if part == "train" else window) for part in PARTS}
    counts = ", ".join(f"{len(parts[part]):,} {part}" for part in PARTS)
    starts = "every token" if stride == 1 else f"every {stride} tokens"
    note = (
        f"{name}: {tokens.unit}: {counts}; {tokens.size:,} tokens in the vocabulary; windows of {window}, in training "
        f"one from {starts}, elsewhere without overlap"
    )
    return Dataset(
        *pairs["train"],
        *pairs["test"],
        class_names=(),
        fingerprint=_fingerprint(texts, tokens, window, stride),
        val_inputs=pairs["val"][0],
        val_targets=pairs["val"][1],
        notes=(note, *remarks.notes),
        cautions=remarks.cautions,
        tokens=tokens,
    )


def stride_of(tokens: int, window: int) -> int:
    """How far apart the training windows of a text begin."""
    return max(1, min(window, -(-(tokens - window) // MOST_WINDOWS)))


def planned_windows(counts: Sequence[int], size: int, window: int) -> Plan:
    """Of the tokens of the three parts. size: tokens in the vocabulary."""
    train, val, test = counts
    sizes = Sizes((window,), size, vocabulary=size, per_position=True)
    num_train = max(1, (train - window - 1) // stride_of(train, window) + 1)
    held = 8 * train / (num_train * window)  # a token is an int64, and stands in many windows
    return Plan(num_train, max(1, (val - 1) // window), max(1, (test - 1) // window), sizes, held)


def _cut(text: Tensor, window: int, stride: int) -> Pair:
    """Inputs and targets, two views (N, window) of one text."""
    return text[:-1].unfold(0, window, stride), text[1:].unfold(0, window, stride)


def _fingerprint(texts: Mapping[str, Tensor], tokens: Tokens, window: int, stride: int) -> str:
    """Of the text, not of each window of it: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{tokens} {window} {stride}".encode())
    for part in PARTS:
        digest.update(f"{part} {len(texts[part])}".encode())
        digest.update(np.ascontiguousarray(texts[part].numpy(), "<i8").data)
    return digest.hexdigest()


def _too_short(name: str, short: Mapping[str, int], unit: str, window: int) -> DataError:
    shortest = min(short.values())
    counts = ", ".join(f"{part} has {count:,}" for part, count in short.items())
    fix = f"window: {shortest - 1} or less, or a longer text." if shortest > 2 else "a longer text."
    return DataError(
        f"{name}: too few {unit} for a window: {counts}. A window takes {window + 1}: {window} to read and the next.",
        "Each part of the text, to train on, to validate and to test with, needs a window of its own.",
        fix,
    )
