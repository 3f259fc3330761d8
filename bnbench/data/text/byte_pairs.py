"""Byte pairs (Sennrich et al. 2016, arXiv 1508.07909) over bytes (Radford et al. 2019), by the package `tokenizers`.

All 256 bytes are tokens, so that nothing is unknown and the tokens are the whole text. The merges come from the
training text alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bnbench.base.errors import DataError
from bnbench.data import Tokens
from bnbench.data.text.units import Array, starts_character


class BytePairs:
    """Text to byte pairs. Where texts are padded, token 0 is the padding.

    size: tokens at most, with the 256 bytes. Raises DataError where the package is missing.
    """

    def __init__(self, train: Sequence[str], padded: bool, size: int) -> None:
        if size < 256 + padded:
            raise DataError(
                f"vocabulary: {size}, and unit: bpe has a token for each of the 256 bytes.",
                fix="vocabulary: 512 or more, or unit: bytes.",
            )
        self._first = int(padded)
        self._tokenizer = _learnt(train, size - padded)
        names = self._tokenizer.get_vocab()
        pieces = sorted(names, key=lambda name: int(names[name]))
        counts = tuple(_characters(piece) for piece in pieces)
        self.tokens = Tokens("byte pairs", len(counts) + padded, (0,) * padded + counts, padded)

    def encode(self, text: str) -> tuple[Array, int]:
        """One token a byte pair."""
        return np.array(self._tokenizer.encode(text).ids, np.int64) + self._first, 0


def _learnt(train: Sequence[str], size: int) -> Any:
    """A tokenizer with at most so many tokens. Training it is deterministic."""
    package = _package()
    tokenizer = package.Tokenizer(package.models.BPE())
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = package.trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        initial_alphabet=sorted(package.pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(train, trainer)
    return tokenizer


def _package() -> Any:
    """The package. Raises DataError with the command that installs it."""
    try:
        return importlib.import_module("tokenizers")
    except Exception as error:  # whatever the import of a compiled package raises
        raise DataError(
            f"unit: bpe: the package tokenizers can't be imported: {str(error) or type(error).__name__}.",
            "It learns the byte pairs of the training text.",
            "pip install 'bnbench[tokenizers]' (from a checkout: pip install '.[tokenizers]'), or unit: characters, "
            "bytes or words.",
        ) from error


def _characters(piece: str) -> int:
    """How many characters of UTF-8 begin in a token, whose bytes are written as printable letters."""
    return sum(starts_character(_BYTES[letter]) for letter in piece)


def _byte_letters() -> dict[str, int]:
    """The letter of each byte in GPT-2's table: printable ones of Latin-1 stand for themselves, others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_letters()
