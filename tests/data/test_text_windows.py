"""Windows of a text. Oracle: slices of the text by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bnbench.base.errors import DataError
from bnbench.data import Dataset, datasets
from bnbench.data.stdlib_text import paragraphs, words_only
from bnbench.data.tensors import base_of, gathered, moved
from bnbench.data.text import windows as module
from bnbench.data.text.units import unit_of
from bnbench.data.text.windows import Remarks, cut, encoded_windows, planned_windows

TEXT = "abcdefghij" * 10


def windows_of(text: str, window: int) -> Dataset:
    parts = cut(text)
    return encoded_windows(
        "t", parts, unit_of("characters", [parts["train"]], padded=False, size=99), window, Remarks()
    )


def test_the_parts_are_the_text_and_do_not_overlap() -> None:
    parts = cut(TEXT)
    assert "".join(parts.values()) == TEXT
    assert [len(part) for part in parts.values()] == [80, 10, 10]


def test_windows_by_hand() -> None:
    """80 characters: 80 - 4 windows; 10 characters: windows at 0 and 4, each with a next character at every place."""
    data = windows_of(TEXT, 4)
    assert data.train_inputs.shape == (76, 4)
    assert data.test_inputs.shape == (2, 4)
    letters = {letter: place for place, letter in enumerate("abcdefghij", 1)}
    assert data.train_inputs[7].tolist() == [letters[c] for c in TEXT[7:11]]
    assert data.train_targets[7].tolist() == [letters[c] for c in TEXT[8:12]]
    assert data.val_inputs is not None
    assert data.val_inputs.tolist() == [[letters[c] for c in TEXT[s : s + 4]] for s in (80, 84)]
    assert data.test_targets.tolist() == [[letters[c] for c in TEXT[s + 1 : s + 5]] for s in (90, 94)]


def test_training_windows_are_a_view_of_the_text() -> None:
    data = windows_of(TEXT, 4)
    held = base_of(data.train_inputs)
    assert held is not None
    assert len(held) == 80
    assert base_of(torch.zeros(3, 4)) is None
    index = torch.tensor([75, 0, 3])
    assert torch.equal(gathered(data.train_inputs, index), data.train_inputs.clone()[index])
    copied = moved(data.train_inputs, torch.device("meta"))
    assert copied.shape == (76, 4)
    assert copied.untyped_storage().nbytes() == 80 * 8


def test_a_long_text_has_its_windows_further_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WINDOWS", 30)
    data = windows_of(TEXT, 4)
    assert len(data.train_inputs) == 26  # every third of 76
    assert torch.equal(data.train_inputs[1], windows_of_every_character()[3])
    assert "one from every 3 tokens" in data.notes[0]
    plan = planned_windows([80, 10, 10], 11, 4)
    assert (plan.num_train, plan.num_val, plan.num_test) == (26, 2, 2)


def windows_of_every_character() -> torch.Tensor:
    codes = torch.tensor([ord(c) - ord("a") + 1 for c in TEXT[:80]])
    return torch.stack([codes[s : s + 4] for s in range(76)])


def test_a_text_that_is_too_short_for_a_window() -> None:
    with pytest.raises(DataError) as caught:
        windows_of(TEXT, 10)
    assert "val has 10, test has 10. A window takes 11" in str(caught.value)
    assert "window: 9 or less" in str(caught.value)
    assert "%" not in str(caught.value)  # enwik8 is cut in other shares


def test_characters_that_training_lacks_are_counted() -> None:
    data = windows_of("ab" * 45 + "abxxabyabz", 4)
    assert "t: 4 of 10 characters of test are not in the training text" in data.notes[1]
    assert int((data.test_inputs == 0).sum()) == 3  # the z is the last character, a target of no window


def test_the_fingerprint_follows_text_and_window() -> None:
    prints = {windows_of(text, window).fingerprint for text in (TEXT, TEXT[1:] + "a") for window in (4, 5)}
    assert len(prints) == 4
    assert windows_of(TEXT, 4).fingerprint == windows_of(TEXT, 4).fingerprint


def test_stdlib_text_is_the_help_of_this_python() -> None:
    from pydoc_data.topics import topics

    data = datasets.get("stdlib_text").factory(Path(), window=64, repeats="keep")
    assert data.tokens is not None
    whole = "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"
    train = base_of(data.train_inputs)
    assert train is not None
    assert len(train) == len(whole) * 8 // 10
    alphabet = sorted(set(whole[: len(train)]))
    assert "".join(alphabet[token - 1] for token in train[:2000].tolist()) == whole[:2000]
    assert data.tokens.size == len(alphabet) + 1
    assert "".join(str(n) for n in sys.version_info[:1]) in data.cautions[0]


def test_repeated_paragraphs_are_left_out_of_stdlib_text() -> None:
    """Else validation and test would hold text that was trained on."""
    kept, dropped = (
        datasets.get("stdlib_text").factory(Path(), repeats=repeats) for repeats in ("keep", "drop")
    )
    first, second = (base_of(data.train_inputs) for data in (kept, dropped))
    assert first is not None
    assert second is not None
    assert len(second) < 0.9 * len(first)
    assert any("repeats: keep" in note for note in dropped.notes)
    assert kept.fingerprint != dropped.fingerprint


def test_a_python_without_the_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"has no module pydoc_data\.topics"):
        datasets.get("stdlib_text").factory(Path())


def test_no_paragraph_of_text_topics_is_in_two_parts() -> None:
    from pydoc_data.topics import topics

    data = datasets.get("text_topics").factory(Path(), unit="characters", length=4000)
    rows = [{row.numpy().tobytes() for row in part} for part in (data.train_inputs, data.test_inputs)]
    assert not rows[0] & rows[1]
    chosen = {name: text for name, text in topics.items() if len(text) >= 4000}
    assert data.class_names == tuple(sorted(chosen))
    distinct = {words_only(p) for text in chosen.values() for p in paragraphs(text)}
    assert len(data.train_targets) + len(data.test_targets) == sum(any(map(str.isalpha, p)) for p in distinct)
    counts = np.bincount(data.test_targets.numpy())
    assert counts.min() >= 1
