"""Units of text. Oracles: counts by hand, Python's own UTF-8 and code points, and the text again from its tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbench.base.errors import DataError
from bnbench.base.tokens import PAD, split_valid, valid_tokens
from bnbench.data.text.units import PIECES, Characters, padded_to, unit_of, words_of

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=200)


def test_characters_by_hand() -> None:
    """Of "banana" the alphabet is a, b, n: tokens 1, 2, 3 after the unknown token 0."""
    unit = unit_of("characters", ["banana"], padded=False, size=100)
    tokens, unknown = unit.encode("nabx")
    assert tokens.tolist() == [3, 1, 2, 0]
    assert unknown == 1
    assert unit.tokens.size == 4
    assert unit.tokens.characters == (1, 1, 1, 1)


def test_padded_characters_leave_a_token_to_the_padding() -> None:
    unit = unit_of("characters", ["ab"], padded=True, size=100)
    assert unit.encode("ba?")[0].tolist() == [3, 2, 1]
    assert unit.tokens.characters == (0, 1, 1, 1)


def test_a_training_text_without_a_character_knows_none() -> None:
    tokens, unknown = Characters("", padded=False).encode("ab")
    assert (tokens.tolist(), unknown) == ([0, 0], 2)


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_bytes_count_each_character_once(text: str) -> None:
    unit = unit_of("bytes", [""], padded=False, size=100)
    tokens, unknown = unit.encode(text)
    assert bytes(tokens.tolist()) == text.encode()
    assert unknown == 0
    assert sum(unit.tokens.characters[token] for token in tokens) == len(text)


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_pieces_are_the_text_again(text: str) -> None:
    assert "".join(PIECES.findall(text)) == text


@given(TEXTS, TEXTS)
@settings(max_examples=50, deadline=None)
def test_words_of_a_language_model_count_every_character_once(train: str, text: str) -> None:
    unit = unit_of("words", [train + " word word"], padded=False, size=1000)
    tokens, unknown = unit.encode(text + " word")
    assert sum(unit.tokens.characters[token] for token in tokens) == len(text) + 5
    known = set(train + " word")
    assert unknown == sum(character not in known for character in text)


def test_words_by_hand() -> None:
    """ " the" is there three times; "the" at the start and " cat" once each: these are spelled."""
    unit = unit_of("words", ["the the the the cat"], padded=False, size=100)
    tokens, _ = unit.encode("the the cat")
    lengths = [unit.tokens.characters[token] for token in tokens]
    assert lengths == [1, 1, 1, 4, 1, 1, 1, 1]  # t h e | " the" | " " c a t


def test_words_of_a_classifier() -> None:
    assert words_of("Don't stop, Émile_2!") == ["don", "'", "t", "stop", ",", "émile_2", "!"]
    unit = unit_of("words", ["a a b b c"], padded=True, size=100)
    tokens, unknown = unit.encode("b a c A")
    assert tokens.tolist() == [
        3,
        2,
        1,
        2,
    ]  # a before b: as frequent, in the order of letters; c is there once
    assert unknown == 1


def test_the_vocabulary_keeps_the_most_frequent_words() -> None:
    unit = unit_of("words", ["a a a b b c c c c"], padded=True, size=4)
    assert unit.encode("c a b")[0].tolist() == [2, 3, 1]


def test_padding_and_its_mask() -> None:
    rows = padded_to(3, [np.array([5]), np.array([6, 7, 8, 9])])
    assert rows.tolist() == [[5, PAD, PAD], [6, 7, 8]]
    import torch

    assert valid_tokens(torch.from_numpy(rows)).tolist() == [[True, False, False], [True, True, True]]
    numbers, mask = split_valid(torch.tensor([[[2.0, 3.0, 1.0], [0.0, 0.0, 0.0]]]))
    assert numbers.tolist() == [[[2.0, 3.0], [0.0, 0.0]]]
    assert mask.tolist() == [[True, False]]


def test_byte_pairs_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"pip install 'bnbench\[tokenizers\]'"):
        unit_of("bpe", ["text"], padded=False, size=300)


@given(TEXTS)
@settings(max_examples=20, deadline=None)
def test_byte_pairs_count_every_character_once(text: str) -> None:
    pytest.importorskip("tokenizers")
    unit = unit_of("bpe", ["the cat and the dog and the end äöü " * 3], padded=False, size=300)
    tokens, unknown = unit.encode(text)
    assert unknown == 0
    assert sum(unit.tokens.characters[token] for token in tokens) == len(text)
    assert len(tokens) <= len(text.encode())
