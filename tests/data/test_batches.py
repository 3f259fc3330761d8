"""The split, normalisation, order and augmentation, against plain readings of what they promise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.seeding import generator
from bnbench.data import Dataset
from bnbench.data.batches import epoch_order, last_batch_note, steps_per_epoch
from bnbench.data.catalogue import digits
from bnbench.data.prepared import PROBE_SIZE, Prepared
from bnbench.data.tensors import channel_statistics, make_dataset
from tests.prepared import prepare

CPU = torch.device("cpu")


def numbered(count: int, test_count: int = 4) -> Dataset:
    """Sample i is a 1x1 image of value i, with label i % 2: an image says which sample it is."""

    def part(size: int) -> tuple[Tensor, Tensor]:
        return torch.arange(size, dtype=torch.float32).view(-1, 1, 1, 1), torch.arange(size) % 2

    return make_dataset("numbered", part(count), part(test_count), ["even", "odd"])


def prepared(dataset: Dataset, **changes: Any) -> Prepared:
    how: dict[str, Any] = {"val_fraction": 0.1, "split_seed": 0, "max_train_samples": None, "device": CPU}
    return prepare(dataset, **(how | changes))


def samples(data: Prepared, images: Tensor) -> list[int]:
    """Which samples of `numbered` these are: undoes the normalisation."""
    return (images * data.scale + data.center).round().flatten().int().tolist()


def training(data: Prepared) -> Tensor:
    """The normalised training images."""
    return data.train_batch(torch.arange(len(data.train_targets)))


def test_unit_divides_by_the_largest_value_of_the_training_part_and_zeros_stay_zero() -> None:
    data = prepared(numbered(100, test_count=200), normalize="unit")
    largest = max(samples(data, training(data)))
    assert data.center.flatten().tolist() == [0.0]
    assert data.scale.flatten().tolist() == [largest]
    assert training(data).max() == 1.0
    assert data.test_inputs.flatten().sort().values[[0, 50, 199]].tolist() == pytest.approx(
        [0, 50 / largest, 199 / largest]
    )


# the split


def test_the_split_is_disjoint_complete_and_keeps_labels_with_their_images() -> None:
    data = prepared(numbered(100), val_fraction=0.2)
    train, val = samples(data, training(data)), samples(data, data.val_inputs)
    assert len(val) == 20
    assert sorted(train + val) == list(range(100))
    assert data.train_targets.tolist() == [sample % 2 for sample in train]
    assert data.val_targets.tolist() == [sample % 2 for sample in val]
    test = samples(data, data.test_inputs)
    assert sorted(test) == [0, 1, 2, 3]
    assert data.test_targets.tolist() == [sample % 2 for sample in test]
    # it is a draw, not a stretch of the file
    assert sorted(val) not in (list(range(20)), list(range(80, 100)))


def test_what_is_evaluated_does_not_come_a_class_at_a_time() -> None:
    labels = torch.arange(10).repeat_interleave(300)
    part = (torch.zeros(3000, 1, 1, 1), labels)
    data = prepared(make_dataset("sorted", part, part, list("abcdefghij")), val_fraction=0.4)
    for shuffled in (data.val_targets, data.test_targets, data.probe_targets):
        for batch in shuffled[:1000].split(500):
            assert batch.bincount(minlength=10).min() > 25


def test_the_split_depends_on_its_seed_alone() -> None:
    base = prepared(numbered(100))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again, other = prepared(numbered(100)), prepared(numbered(100), split_seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert samples(again, again.val_inputs) == samples(base, base.val_inputs)
    assert samples(other, other.val_inputs) != samples(base, base.val_inputs)


def test_fewer_training_samples_leave_the_validation_part_alone_and_are_nested() -> None:
    dataset = numbered(100)
    full, ten, five = (prepared(dataset, max_train_samples=limit) for limit in (None, 10, 5))
    assert samples(full, full.val_inputs) == samples(ten, ten.val_inputs) == samples(five, five.val_inputs)
    assert len(ten.train_targets) == 10
    assert (
        set(samples(five, training(five)))
        < set(samples(ten, training(ten)))
        < set(samples(full, training(full)))
    )
    assert ten.notes == ("10 of 90 training samples are used (max_train_samples)",)
    assert full.notes == prepared(dataset, max_train_samples=500).notes == ()


def test_at_least_one_sample_validates() -> None:
    assert len(prepared(numbered(5), val_fraction=0.01).val_targets) == 1


def test_nothing_left_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        prepared(numbered(10), val_fraction=0.99)
    assert str(caught.value) == (
        "validation.fraction: 0.99 of 10 training samples are 10: none is left to train on.\n"
        "The validation part is taken out of the training set.\n"
        "Fix: a smaller validation.fraction, or more data."
    )


# normalisation


def test_the_training_part_alone_sets_mean_and_std(tmp_path: Path) -> None:
    data = prepared(digits(tmp_path), max_train_samples=200)
    images = training(data).double()
    assert abs(float(images.mean())) < 1e-6
    assert abs(float(images.std(correction=0)) - 1) < 1e-6


def test_validation_and_test_are_put_on_the_scale_of_the_training_part() -> None:
    dataset = numbered(100)
    data = prepared(dataset)
    train = torch.tensor(samples(data, training(data)), dtype=torch.float64)
    mean, std = train.mean(), train.std(correction=0)
    torch.testing.assert_close(data.center.double(), mean.view(1, 1, 1), rtol=1e-6, atol=0)
    torch.testing.assert_close(data.scale.double(), std.view(1, 1, 1), rtol=1e-6, atol=0)
    expected = (torch.arange(4) - mean) / std
    torch.testing.assert_close(
        data.test_inputs.flatten().sort().values.double(), expected, rtol=1e-6, atol=1e-6
    )
    val = torch.tensor(samples(data, data.val_inputs), dtype=torch.float64)
    torch.testing.assert_close(data.val_inputs.flatten().double(), (val - mean) / std, rtol=1e-6, atol=1e-6)


def test_each_channel_has_its_own_statistics_with_divisor_n() -> None:
    # channel 0: 1, 3 -> mean 2, std 1; channel 1: 10, 10 -> mean 10, std 0
    images = torch.tensor([[1.0, 10.0], [3.0, 10.0]]).view(2, 2, 1, 1)
    mean, std = channel_statistics(images)
    assert (mean.tolist(), std.tolist()) == ([2.0, 10.0], [1.0, 0.0])


def test_a_channel_that_never_varies_is_centred_and_not_divided_by_zero() -> None:
    images = torch.stack((torch.arange(20.0), torch.full((20,), 7.0)), 1).view(20, 2, 1, 1)
    part = (images, torch.arange(20) % 2)
    data = prepared(make_dataset("X", part, part, ["a", "b"]))
    assert training(data)[:, 1].abs().max() == 0
    assert data.notes == ("1 of 2 input channels never varies in the training part: centred, not scaled",)


def test_statistics_keep_their_digits_far_from_zero() -> None:
    # a spread of 1 on an offset of 1e6: E[x²] - E[x]² in float32 would give noise
    images = 1e6 + torch.tensor([-1.0, 1.0]).repeat(3000).view(-1, 1, 1, 1)
    mean, std = channel_statistics(images)
    assert (float(mean), float(std)) == (1e6, 1.0)


def test_statistics_of_bytes_over_several_chunks_against_numpy() -> None:
    images = torch.randint(0, 256, (2500, 3, 2, 2), dtype=torch.uint8, generator=generator(0, "test"))
    mean, std = channel_statistics(images)
    array = images.numpy().astype(float)
    torch.testing.assert_close(mean, torch.from_numpy(array.mean((0, 2, 3))), rtol=1e-12, atol=0)
    torch.testing.assert_close(std, torch.from_numpy(array.std((0, 2, 3))), rtol=1e-12, atol=0)


def test_the_data_set_itself_is_left_as_it_was() -> None:
    dataset = numbered(20)
    prepared(dataset)
    assert dataset.train_inputs.flatten().tolist() == list(range(20))
    assert dataset.test_inputs.flatten().tolist() == [0, 1, 2, 3]


def test_what_travels_along(tmp_path: Path) -> None:
    dataset = digits(tmp_path)
    data = prepared(dataset)
    assert (data.sizes.num_outputs, data.input_shape, data.fingerprint) == (
        10,
        (1, 8, 8),
        dataset.fingerprint,
    )
    assert data.train_inputs.dtype == torch.uint8  # a quarter of the memory
    assert data.probe_inputs.dtype == data.val_inputs.dtype == data.test_inputs.dtype == torch.float32


def test_classes_without_a_training_sample_are_noted(tmp_path: Path) -> None:
    data = prepared(digits(tmp_path), max_train_samples=3)
    assert data.notes[:2] == (
        "3 of 1293 training samples are used (max_train_samples)",
        '7 of 10 classes have no sample in the training part: "1", "2", "3" and 4 more',
    )


# the probe


def test_a_small_training_part_is_its_own_probe() -> None:
    data = prepared(numbered(50))
    assert sorted(samples(data, data.probe_inputs)) == samples(data, training(data))
    assert data.probe_targets.tolist() == [sample % 2 for sample in samples(data, data.probe_inputs)]


def test_the_probe_of_a_large_training_part_is_a_fixed_draw_from_it() -> None:
    first, second = prepared(numbered(8000)), prepared(numbered(8000))
    probe = samples(first, first.probe_inputs)
    assert len(set(probe)) == PROBE_SIZE == 5000
    assert set(probe) < set(samples(first, training(first)))
    assert first.probe_targets.tolist() == [sample % 2 for sample in probe]
    assert probe == samples(second, second.probe_inputs)


# order


SIZES = st.integers(1, 200)
POLICIES = st.sampled_from(["merge", "keep", "drop"])


@given(SIZES, SIZES, POLICIES)
@settings(deadline=None, max_examples=300, derandomize=True)
def test_batches_are_a_permutation_cut_as_the_policy_says(count: int, batch_size: int, policy: Any) -> None:
    batches = epoch_order(count, batch_size, seed=0, epoch=0, last_batch=policy)
    sizes = [len(batch) for batch in batches]
    assert len(sizes) == steps_per_epoch(count, batch_size, policy)
    drawn = torch.cat(batches).tolist()
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(count))
    # a plain reading: cut, then look at the last one
    expected = [min(batch_size, count - start) for start in range(0, count, batch_size)]
    if len(expected) > 1 and expected[-1] < batch_size:
        if policy == "drop":
            expected.pop()
        elif policy == "merge" and expected[-1] == 1:
            expected[-2:] = [batch_size + 1]
    assert sizes == expected


@pytest.mark.parametrize(
    ("count", "batch_size", "policy", "sizes"),
    [
        (9, 4, "merge", [4, 5]),
        (9, 4, "keep", [4, 4, 1]),
        (9, 4, "drop", [4, 4]),
        (10, 4, "merge", [4, 4, 2]),
        (10, 4, "drop", [4, 4]),
        (3, 4, "drop", [3]),
        (1, 4, "merge", [1]),
        (3, 1, "merge", [1, 1, 1]),
    ],
)
def test_sizes_of_the_batches(count: int, batch_size: int, policy: Any, sizes: list[int]) -> None:
    assert [len(batch) for batch in epoch_order(count, batch_size, 0, 0, policy)] == sizes


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(epoch_order(50, 8, seed, epoch)).tolist()

    base = order(3, 0)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert order(3, 0) == base
    assert torch.equal(torch.get_rng_state(), before)
    assert order(3, 1) != base
    assert order(4, 0) != base
    # the batch size cuts the same permutation elsewhere
    assert torch.cat(epoch_order(50, 50, 3, 0)).tolist() == base


@pytest.mark.parametrize(
    ("count", "batch_size", "policy", "note"),
    [
        (
            1437,
            4,
            "merge",
            "1437 training samples in batches of 4 leave a last batch of 1: merged into the one before it",
        ),
        (1437, 32, "drop", "1437 training samples in batches of 32 leave a last batch of 29: dropped"),
        (
            1437,
            4,
            "keep",
            "1437 training samples in batches of 4 leave a last batch of 1: kept",
        ),
        (1437, 32, "merge", None),
        (1437, 32, "keep", None),
        (1440, 32, "drop", None),
        (5, 1, "merge", None),
    ],
)
def test_what_is_said_of_the_last_batch(count: int, batch_size: int, policy: Any, note: str | None) -> None:
    assert last_batch_note(count, batch_size, policy) == note


def test_a_value_that_a_tiny_spread_makes_infinite_is_refused() -> None:
    """Training values 1e-38 apart against a test value of 2: 2 / 5e-39 = 4e38 is beyond float32's 3.4e38."""
    images = torch.zeros(8, 1, 1, 1)
    images[::2] = 1e-38
    labels = torch.arange(8) % 2
    far = make_dataset("far", (images, labels), (torch.full((2, 1, 1, 1), 2.0), labels[:2]), ["a", "b"])
    with pytest.raises(DataError, match="2 of 2 test samples are too large for a float32"):
        prepared(far)
