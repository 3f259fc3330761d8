"""Units of text: characters, bytes, words, or byte pairs, each with a vocabulary from the training text alone.

`unit_of` gives an `Encoder`: text in, tokens out. Tokens count from 0. Where texts are padded, 0 is
`bnbench.base.tokens.PAD`. One token stands for what the training text does not have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bnbench.base.errors import DataError
from bnbench.base.tokens import PAD
from bnbench.data import Tokens

Array = npt.NDArray[np.int64]
Unit = Annotated[
    Literal["characters", "bytes", "words", "bpe"],
    Field(description="what a token is: a character, a byte of UTF-8, a word, or a byte pair (bpe)"),
]
VocabularySize = Annotated[int, Field(ge=16, le=200_000)]

#: Of a language model: a run of letters, digits and underscores with the space before it, or any other character alone.
#: Together they are the text again.
PIECES = re.compile(r" ?\w+|[\s\S]")
#: Of a classifier: the same runs, and every other character but spaces, in lower case.
WORDS = re.compile(r"\w+|[^\w\s]")
#: A word gets a token of its own if the training text has it this often: one example would teach nothing.
LEAST_COUNT = 2


class Encoder(Protocol):
    """From text to tokens."""

    @property
    def tokens(self) -> Tokens:
        """What the tokens stand for."""

    def encode(self, text: str) -> tuple[Array, int]:
        """The tokens of a text, (n,) int64, and how many of its units the vocabulary lacks."""


def unit_of(unit: str, train: Sequence[str], *, padded: bool, size: int) -> Encoder:
    """The unit, with the vocabulary of the training texts.

    padded: for texts that differ in length, each of one class: words are in lower case and without spaces. Else for a
    language model, whose tokens are the whole text. size: tokens of the vocabulary at most (words and bpe).
    Raises DataError where the package for byte pairs is missing, or the vocabulary is smaller than the alphabet.
    """
    if unit == "characters":
        return Characters("".join(train), padded)
    if unit == "bytes":
        return Bytes(padded)
    if unit == "bpe":
        from bnbench.data.text.byte_pairs import BytePairs

        return BytePairs(train, padded, size)
    return Words(train, size) if padded else SpelledWords("".join(train), size)


class Characters:
    """Each Unicode code point of the training text is a token, in their order; another one is the unknown token."""

    def __init__(self, train: str, padded: bool) -> None:
        self._alphabet = np.unique(code_points(train))
        self._first = 1 + padded  # after the padding, where there is one, and the unknown token
        size = self._first + len(self._alphabet)
        self.tokens = Tokens("characters", size, (0,) * padded + (1,) * (size - padded), padded)

    def encode(self, text: str) -> tuple[Array, int]:
        """One token a character."""
        codes = code_points(text)
        if not len(self._alphabet):
            return np.full(len(codes), self._first - 1), len(codes)
        places = np.searchsorted(self._alphabet, codes).clip(max=len(self._alphabet) - 1)
        known = self._alphabet[places] == codes
        return np.where(known, places + self._first, self._first - 1), int((~known).sum())


class Bytes:
    """Each byte of the text in UTF-8 is a token, so that nothing is unknown. A character counts at its first byte."""

    def __init__(self, padded: bool) -> None:
        self._first = int(padded)
        counts = tuple(int(starts_character(byte)) for byte in range(256))
        self.tokens = Tokens("bytes", 256 + padded, (0,) * padded + counts, padded)

    def encode(self, text: str) -> tuple[Array, int]:
        """One token a byte."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64) + self._first, 0


class SpelledWords:
    """The words of a language model; one that is no token is spelled in characters, so that the tokens are the text.

    A word is a run of letters, digits and underscores, with the space before it where there is one. The most frequent
    ones of the training text, each there at least twice, are tokens, and so is each of its characters.
    """

    def __init__(self, train: str, size: int) -> None:
        self._spelled = Characters(train, padded=False)
        if size < (least := self._spelled.tokens.size):
            raise DataError(
                f"vocabulary: {size}, and unit: words has a token for each of the {least - 1} characters of the "
                "training text, and one for all others.",
                fix=f"vocabulary: more than {least}, or unit: characters.",
            )
        counts = Counter(piece for piece in PIECES.findall(train) if len(piece) > 1)
        words = frequent(counts, size - self._spelled.tokens.size)
        start = self._spelled.tokens.size
        self._places = {word: start + place for place, word in enumerate(words)}
        lengths = (*self._spelled.tokens.characters, *map(len, words))
        self.tokens = Tokens("words", len(lengths), lengths)

    def encode(self, text: str) -> tuple[Array, int]:
        """Words, and the characters between them and of words that are no token."""
        unknown, parts, waiting = 0, list[Array](), list[str]()

        def spell() -> None:
            nonlocal unknown
            found, lacking = self._spelled.encode("".join(waiting))
            parts.append(found)
            waiting.clear()
            unknown += lacking

        for piece in PIECES.findall(text):
            place = self._places.get(piece)
            if place is None:
                waiting.append(piece)
                continue
            if waiting:
                spell()
            parts.append(np.array([place]))
        if waiting:
            spell()
        return np.concatenate(parts) if parts else np.zeros(0, np.int64), unknown


class Words:
    """The words of a classifier, in lower case; one that is no token is the unknown token.

    A word is a run of letters, digits and underscores, or any other character but spaces. The most frequent ones
    of the training texts, each there at least twice, are tokens.
    """

    def __init__(self, train: Sequence[str], size: int) -> None:
        words = frequent(Counter(word for text in train for word in words_of(text)), size - 2)
        self._places = {word: place for place, word in enumerate(words, 2)}
        self.tokens = Tokens("words", len(words) + 2, (0, 1, *map(len, words)), padded=True)

    def encode(self, text: str) -> tuple[Array, int]:
        """One token a word."""
        tokens = np.array([self._places.get(word, 1) for word in words_of(text)], np.int64)
        return tokens, int((tokens == 1).sum())


def words_of(text: str) -> list[str]:
    """The words of a classifier."""
    return WORDS.findall(text.lower())


def frequent(counts: Mapping[str, int], most: int) -> list[str]:
    """The most frequent words, each there at least twice; those that are as frequent in the order of their letters."""
    often = [(-count, word) for word, count in counts.items() if count >= LEAST_COUNT]
    return [word for _, word in sorted(often)[: max(0, most)]]


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """(n,): the Unicode number of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def starts_character(byte: int) -> bool:
    """Whether a byte is the first one of a character in UTF-8."""
    return byte & 0xC0 != 0x80


def encoded(encoder: Encoder, texts: Iterable[str]) -> tuple[list[Array], int, int]:
    """The tokens of each text; how many there are in all, and how many of them the vocabulary lacks."""
    found, lacking = [], 0
    for text in texts:
        tokens, unknown = encoder.encode(text)
        found.append(tokens)
        lacking += unknown
    return found, sum(map(len, found)), lacking


def padded_to(length: int, sequences: Sequence[Array]) -> Array:
    """(N, length): each cut to its first `length` tokens, or followed by `PAD`."""
    rows = np.full((len(sequences), length), PAD, np.int64)
    for row, tokens in zip(rows, sequences, strict=True):
        cut = tokens[:length]
        row[: len(cut)] = cut
    return rows
