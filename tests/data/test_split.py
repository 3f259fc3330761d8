"""Which samples are held out, and which are evaluated: by sample, class or group, and no more than are asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.prepared import Prepared
from bnbench.data.split import split
from bnbench.data.tensors import make_dataset
from tests.prepared import prepare

CPU = torch.device("cpu")


def data(
    count: int = 100, *, groups: list[str] | None = None, labels: torch.Tensor | None = None, **more: Any
) -> Dataset:
    """Sample i is an image of the value i."""
    images = torch.arange(count).float().reshape(count, 1, 1, 1)
    labels = torch.arange(count) % 4 if labels is None else labels
    test = images[:40] + 0.5, labels[:40]
    return make_dataset("made up", (images, labels), test, list("abcd"), groups=groups, **more)


def prepared(dataset: Dataset, **options: Any) -> Prepared:
    defaults: dict[str, Any] = {
        "val_fraction": 0.2,
        "split_seed": 0,
        "max_train_samples": None,
        "device": CPU,
    }
    return prepare(dataset, **defaults | options)


@pytest.mark.parametrize("seed", range(5))
def test_whole_groups_are_held_out(seed: int) -> None:
    names = [f"patient {i // 7}" for i in range(100)]
    dataset = data(groups=names)
    found = split(dataset, "group", 0.2, seed, None)
    assert found.val is not None
    held, kept = ({names[i] for i in part.tolist()} for part in (found.val, found.train))
    assert not held & kept
    assert len(held | kept) == 15
    assert sorted([*found.val.tolist(), *found.train.tolist()]) == list(range(100))
    assert abs(len(found.val) - 20) <= 4  # nearer than half a group
    assert found.notes == (
        f"validation by group: {len(held)} of 15 groups, {len(found.val)} samples ({len(found.val) / 100:.1%})",
    )


def test_another_seed_holds_out_other_groups() -> None:
    dataset = data(groups=[str(i // 5) for i in range(100)])
    parts = {tuple(sorted(split(dataset, "group", 0.2, seed, None).val.tolist())) for seed in range(5)}  # type: ignore[union-attr]
    assert len(parts) == 5


def test_a_large_group_is_not_held_out_with_all_others_left() -> None:
    found = split(data(groups=["large"] * 90 + [str(i) for i in range(10)]), "group", 0.1, 0, None)
    assert found.val is not None
    assert sorted(found.val.tolist()) == list(range(90, 100))


def test_two_groups_leave_one_to_train_on() -> None:
    for fraction in (0.01, 0.5, 0.99):
        found = split(data(groups=["a"] * 70 + ["b"] * 30), "group", fraction, 0, None)
        assert found.val is not None
        assert (len(found.val), len(found.train)) in ((30, 70), (70, 30))


def test_what_groups_can_not_do_is_refused() -> None:
    with pytest.raises(DataError, match="the data has no groups"):
        split(data(), "group", 0.2, 0, None)
    with pytest.raises(DataError, match="all 100 training samples are of one group"):
        split(data(groups=["a"] * 100), "group", 0.2, 0, None)
    with pytest.raises(DataError, match="100 training samples and 99 groups"):
        data(groups=["a"] * 99)


def test_groups_that_are_not_used_are_noted() -> None:
    notes = prepared(data(groups=[str(i // 5) for i in range(100)])).notes
    assert any("samples of one group are both in train and in validation" in text for text in notes)


def test_by_class_holds_out_the_same_share_of_each() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 19 + [3])
    found = prepared(data(labels=labels), by="class")
    assert found.class_counts()["val"] == (10, 6, 4, 0)
    assert found.class_counts()["train"] == (40, 24, 15, 1)


def test_by_sample_is_what_auto_is_without_a_part_of_its_own() -> None:
    one, other = split(data(), "auto", 0.2, 3, 50), split(data(), "sample", 0.2, 3, 50)
    assert one.val is not None
    assert other.val is not None
    assert torch.equal(one.val, other.val)
    assert torch.equal(one.train, other.train)
    assert (len(one.val), len(one.train), one.available) == (20, 50, 80)


def test_max_eval_samples_evaluates_the_same_few_of_every_part() -> None:
    whole, few = prepared(data()), prepared(data(), max_eval_samples=15)
    assert [len(part) for part in (few.val_targets, few.test_targets, few.probe_targets)] == [15, 15, 15]
    assert torch.equal(few.val_inputs, whole.val_inputs[:15])
    assert torch.equal(few.test_inputs, whole.test_inputs[:15])
    assert torch.equal(few.train_inputs, whole.train_inputs)
    assert "15 of 20 validation samples are evaluated, a fixed random draw (max_eval_samples)" in few.notes
    assert "15 of 40 test samples are evaluated, a fixed random draw (max_eval_samples)" in few.notes
    assert torch.equal(prepared(data(), max_eval_samples=15, split_seed=9).test_targets, few.test_targets)


def test_classes_that_a_part_lacks_are_noted() -> None:
    notes = prepared(data(), max_eval_samples=2).notes
    assert any(text.startswith("2 of 4 classes have no sample in the test part: ") for text in notes) or any(
        text.startswith("3 of 4 classes have no sample in the test part: ") for text in notes
    )


def test_classes_of_unlike_size_are_noted() -> None:
    notes = prepared(data(labels=torch.tensor([0] * 50 + [1] * 30 + [2] * 19 + [3])), by="class").notes
    assert any(text.startswith("classes of the training part have 1 to 40 samples") for text in notes)
    assert not any("classes of the training part" in text for text in prepared(data()).notes)


def test_the_notes_and_cautions_of_the_data_are_kept() -> None:
    found = prepared(data(notes=("a note",), cautions=("a caution",)))
    assert "a note" in found.notes
    assert found.cautions == ("a caution",)


def test_the_fingerprint_knows_every_part() -> None:
    plain = data()
    own = data(val=(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])))
    grouped = data(groups=[str(i // 5) for i in range(100)])
    assert len({plain.fingerprint, own.fingerprint, grouped.fingerprint}) == 3


def test_signed_takes_the_smallest_value_to_minus_one_and_the_largest_to_one_in_all_channels_alike() -> None:
    """By hand: (x - 8) / 8 for pixels from 0 to 16, whatever the range of a single channel."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(3, 12, (40, 2, 4, 4), generator=draw, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 1, 1, 1] = 0, 16
    labels = torch.arange(40) % 2
    data = Dataset(images, labels, images, labels, class_names=("a", "b"), fingerprint="")
    done = prepare(data, val_fraction=0.1, split_seed=0, device=CPU, normalize="signed")
    assert sorted(done.test_inputs.tolist()) == sorted(((images.float() - 8) / 8).tolist())
    assert (done.test_inputs.min(), done.test_inputs.max()) == (-1, 1)
