"""The task text_classification, and answers of other kinds than right or wrong. Oracles: counts by hand, NumPy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bnbench.analysis.new_samples import values_of
from bnbench.base.errors import DataError
from bnbench.base.tokens import valid_tokens
from bnbench.data import Dataset, Sizes, datasets
from bnbench.results.samples import read_samples, samples_bytes
from bnbench.study import Choice
from bnbench.study.records import RunRecord, TestSamples
from bnbench.tasks import task_of

TASK = Choice(name="text_classification")


def test_made_up_texts_are_padded_at_their_ends() -> None:
    sizes = Sizes((6,), 3, vocabulary=9, masked=True)
    tokens, classes = task_of(TASK).made_up(sizes, 50, torch.Generator().manual_seed(0))
    valid = valid_tokens(tokens)
    lengths = valid.sum(1)
    assert tokens.shape == (50, 6)
    assert torch.equal(valid, torch.arange(6) < lengths.unsqueeze(1))
    assert (int(lengths.min()), int(lengths.max())) == (1, 6)
    assert int(tokens.max()) <= 8
    assert set(classes.tolist()) == {0, 1, 2}


def test_made_up_sequences_have_a_column_for_the_mask() -> None:
    sizes = Sizes((6, 4), 2, masked=True)
    numbers, _ = task_of(TASK).made_up(sizes, 50, torch.Generator().manual_seed(0))
    mask = numbers[..., -1]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert not numbers[mask == 0].any()
    assert numbers[mask == 1][:, :-1].all()


def test_sizes_of_texts() -> None:
    data = datasets.get("text_topics").factory(Path(), length=32)
    sizes = task_of(TASK).sizes(data)
    assert sizes.input_shape == (32,)
    assert sizes.num_outputs == len(data.class_names)
    assert data.tokens is not None
    assert sizes.vocabulary == data.tokens.size > int(data.train_inputs.max())
    assert sizes.masked
    assert not sizes.per_position


def test_one_text_without_labels_and_images_are_refused() -> None:
    task = task_of(TASK)
    text = datasets.get("stdlib_text").factory(Path())
    with pytest.raises(DataError, match="one text without labels"):
        task.check(text)
    with pytest.raises(DataError, match="windows of one text"):
        task_of(Choice(name="language_model")).check(datasets.get("digits").factory(Path()))
    image = torch.zeros(2, 1, 3, 3)
    with pytest.raises(DataError, match=r"padded texts, tokens \(N, T\)"):
        task.check(Dataset(image, torch.tensor([0, 1]), image, torch.tensor([0, 1]), ("a", "b"), ""))


def run_with(**final: float) -> RunRecord:
    return RunRecord(
        variant="none",
        setting={},
        seed=0,
        cell="",
        norm="none",
        outcome="finished",
        final=final,
        num_samples={"test": 4},
    )


def test_answers_that_are_numbers_are_kept_and_read_again(tmp_path: Path) -> None:
    bits = np.array([1.0, 2.0, 3.0, 6.0], np.float32)
    samples = TestSamples(None, bits / 2, "hash", {"bits_per_character": bits})
    path = tmp_path / "test_samples.safetensors"
    path.write_bytes(samples_bytes(samples))
    found = read_samples(path, run_with(test_loss=1.5, test_bits_per_character=3.0))
    assert found is not None
    assert found.right is None
    assert values_of(found, "test_bits_per_character").tolist() == bits.tolist()
    assert values_of(found, "test_loss").tolist() == (bits / 2).tolist()
    assert values_of(found, "test_accuracy") is None
    assert values_of(found, "val_loss") is None
    with pytest.raises(ValueError, match="its mean is not the run's test_bits_per_character"):
        read_samples(path, run_with(test_loss=1.5, test_bits_per_character=2.9))
    path.write_bytes(samples_bytes(dataclasses.replace(samples, further={"bits_per_character": bits[:3]})))
    with pytest.raises(ValueError, match="it is not of 4 test samples"):
        read_samples(path, run_with(test_loss=1.5, test_bits_per_character=3.0))
