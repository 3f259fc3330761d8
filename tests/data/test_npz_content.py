"""What an npz file may hold: names, labels, groups, scales, types, and offsets that float32 alone would lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.npz import npz
from bnbench.data.tensors import channel_statistics
from tests.prepared import prepare

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 4, 5), np.uint8)
Y = np.array([0, 1, 2] * 4)
ARRAYS: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": 255 - X[:6], "y_test": Y[:6]}


def read(folder: Path, *, same_scale: bool = True, **changes: Any) -> Dataset:
    """The data set with some arrays changed; None leaves one out."""
    arrays = {name: array for name, array in (ARRAYS | changes).items() if array is not None}
    np.savez(folder / "d.npz", **arrays)
    return npz(folder, path=folder / "d.npz", same_scale=same_scale)


def error(folder: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, **changes)
    return str(caught.value).removeprefix(f"{folder / 'd.npz'}: ")


def renamed(**names: str) -> dict[str, Any]:
    return dict.fromkeys(ARRAYS) | {new: ARRAYS[old] for old, new in names.items()}


# names


@pytest.mark.parametrize(
    "names",
    [
        {"x_train": "X_train", "y_train": "Y_train", "x_test": "X_test", "y_test": "Y_test"},
        {
            "x_train": "train_inputs",
            "y_train": "train_targets",
            "x_test": "test_inputs",
            "y_test": "test_targets",
        },
        {"x_train": "train_x", "y_train": "train_y", "x_test": "test_x", "y_test": "test_y"},
        {"x_train": "Xtrain", "y_train": "ytrain", "x_test": "Xtest", "y_test": "ytest"},
        {
            "x_train": "train_data",
            "y_train": "train_targets",
            "x_test": "test_data",
            "y_test": "test_targets",
        },
    ],
)
def test_names_that_others_use(names: dict[str, str], tmp_path: Path) -> None:
    assert read(tmp_path, **renamed(**names)).fingerprint == read(tmp_path).fingerprint


def test_one_array_under_two_names_is_refused(tmp_path: Path) -> None:
    assert error(tmp_path, X_train=X).startswith("x_train and X_train are both x_train.")


def test_data_and_labels_that_are_not_split_get_the_line_that_splits_them(tmp_path: Path) -> None:
    message = error(tmp_path, **dict.fromkeys(ARRAYS), data=X, labels=Y)
    assert "it has no x_train, y_train, x_test, y_test" in message
    assert "x_train, x_test, y_train, y_test = train_test_split(data, labels, test_size=0.2" in message


def test_a_missing_name_has_the_nearest_one(tmp_path: Path) -> None:
    assert "Is x_trian meant to be x_train?" in error(
        tmp_path, **renamed(x_train="x_trian", y_train="y_train")
    )


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    assert 'arrays that are not used: "ids", "w"' in read(tmp_path, w=Y, ids=Y).notes


@pytest.mark.parametrize(
    "names", [("x_val", "y_val"), ("x_valid", "y_valid"), ("val_inputs", "val_targets"), ("X_dev", "Y_dev")]
)
def test_a_validation_part_is_used(names: tuple[str, str], tmp_path: Path) -> None:
    part: dict[str, Any] = {names[0]: 255 - X[6:9], names[1]: Y[6:9]}
    data = read(tmp_path, **part)
    prepared = prepare(
        data, val_fraction=0.5, split_seed=3, max_train_samples=None, device=torch.device("cpu")
    )
    assert (len(prepared.train_targets), len(prepared.val_targets)) == (12, 3)
    assert sorted(prepared.val_targets.tolist()) == [0, 1, 2]
    assert (
        "validation: the data's own part of 3 samples (validation.fraction and split_seed do nothing)"
        in prepared.notes
    )
    sampled = prepare(
        data, val_fraction=0.5, split_seed=3, max_train_samples=None, device=torch.device("cpu"), by="sample"
    )
    assert (len(sampled.train_targets), len(sampled.val_targets)) == (6, 6)
    assert any("own validation part of 3 samples is not used" in text for text in sampled.notes)


def test_half_a_validation_part_is_refused(tmp_path: Path) -> None:
    assert error(tmp_path, x_val=X).startswith("it has no y_val.")
    assert error(tmp_path, y_val=Y).startswith("it has no x_val.")


# labels


@pytest.mark.parametrize(
    "names",
    [
        np.array(["cat", "dog", "emu"]),
        np.array([b"cat", b"dog", b"emu"]),
        np.array(["cat ", "dog", "emu\n"]),
        np.array(["cat", "dog", "emu"], dtype="<U99"),
    ],
)
def test_strings_name_the_classes(names: Any, tmp_path: Path) -> None:
    data = read(tmp_path, y_train=names[Y], y_test=names[Y[:6]])
    assert data.class_names == ("cat", "dog", "emu")
    assert data.train_targets.tolist() == Y.tolist()


def test_strings_of_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    y = np.array(["9", "10", "2"])[Y]
    assert read(tmp_path, y_train=y, y_test=y[:6]).class_names == ("2", "9", "10")


def test_names_in_two_forms_of_unicode_are_one_class(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        y_train=np.array(["café", "dog", "emu"])[Y],
        y_test=np.array(["cafe\u0301", "dog"])[Y[:6] % 2],
    )
    assert data.class_names == ("café", "dog", "emu")
    assert data.test_targets[0] == 0


def test_a_name_that_train_lacks_has_its_twin(tmp_path: Path) -> None:
    message = error(
        tmp_path, y_train=np.array(["cat", "dog", "emu"])[Y], y_test=np.array(["Cat", "dog", "emu"])[Y[:6]]
    )
    assert message.startswith("y_test has labels that y_train lacks: Cat.")
    assert '"Cat" reads like "cat".' in message


def test_empty_strings_and_bytes_of_no_text_are_refused(tmp_path: Path) -> None:
    assert "y_train has 4 empty labels, e.g. sample 1" in error(
        tmp_path, y_train=np.array(["a", " ", "b"])[Y]
    )
    assert "bytes that are no UTF-8" in error(tmp_path, y_train=np.array([b"a", b"\xff", b"b"])[Y])


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", ">i4", "uint64", "int8"])
def test_whole_numbers_of_any_type_are_the_same_labels(dtype: str, tmp_path: Path) -> None:
    data = read(tmp_path, y_train=Y.astype(dtype)[:, None], y_test=Y[:6].astype(dtype))
    assert data.class_names == ("0", "1", "2")
    assert data.train_targets.tolist() == Y.tolist()


def test_gaps_and_truth_values_are_classes_by_their_value(tmp_path: Path) -> None:
    data = read(tmp_path, y_train=np.array([0, 5, 11])[Y], y_test=np.array([0, 5, 11])[Y[:6]])
    assert data.class_names == ("0", "5", "11")
    assert "the labels of y_train are 0, 5, 11, not 0 to 2: 3 classes, by their values" in data.notes
    assert read(tmp_path, y_train=Y > 0, y_test=Y[:6] > 0).class_names == ("False", "True")


def test_labels_that_may_be_measured_values_are_noted(tmp_path: Path) -> None:
    data = read(tmp_path, y_train=np.arange(12), y_test=np.arange(6))
    assert "y_train has 12 classes for 12 samples: are they class labels, or measured values?" in data.notes


@pytest.mark.parametrize(
    ("labels", "message", "fix"),
    [
        (np.eye(3)[Y], "it looks one-hot", "argmax"),
        (np.eye(3, dtype=bool)[Y], "it looks one-hot", "argmax"),
        (
            np.tile([1, 0, 1], (12, 1)),
            "12 samples have several labels or none, e.g. sample 0 has 2",
            "one label",
        ),
        (
            np.eye(3)[Y] * (Y != 1)[:, None],
            "4 samples have several labels or none, e.g. sample 1 has 0",
            "one label",
        ),
        (np.full((12, 4), 0.25), "its rows are probabilities", "one class"),
        (np.zeros((12, 2, 2)), "has the shape (12, 2, 2)", "one label a sample"),
        (np.full((12, 2), "a"), "has the shape (12, 2)", "one label a sample"),
        (Y + 0.5, "12 values that are no whole numbers, e.g. 0.5", "astype"),
        (
            np.where(Y == 1, np.nan, Y),
            "4 values that are no whole numbers, e.g. nan (sample 1)",
            "without a label",
        ),
        (Y - 1, "a negative label, -1 (sample 0)", "number the classes"),
        (Y.astype(complex), "y_train holds complex128", "astype"),
        (Y.astype("datetime64[s]"), "y_train holds datetime64[s]", "astype"),
        (np.array(["a", 1, None] * 4, dtype=object), "an array of Python objects", "astype(str)"),
    ],
)
def test_labels_that_are_no_classes(labels: Any, message: str, fix: str, tmp_path: Path) -> None:
    found = error(tmp_path, y_train=labels)
    assert message in found
    assert fix in found.partition("Fix: ")[2]
    assert ("argmax" in found) == ("one-hot" in message)


# scales


@pytest.mark.parametrize(
    ("train", "test", "fix"),
    [
        (X, (255 - X[:6]) / 255, "x_test = x_test * 255"),
        (X.astype(float), ((255 - X[:6]) / 255).astype("float32"), "x_test = x_test * 255"),
        (X / 255, X[:6], "x_test = x_test / 255"),
        (X, (X[:6] - 128) / 74, "bring them to one scale"),
        (X, X[:6] / 127.5 - 1, "scale x_train as you scaled the other"),
        (RNG.normal(size=(12, 20)), RNG.normal(size=(6, 20)) + 1e4, "bring them to one scale"),
    ],
)
def test_parts_on_different_scales_are_refused(train: Any, test: Any, fix: str, tmp_path: Path) -> None:
    message = error(tmp_path, x_train=train, x_test=test)
    assert message.startswith("train and test are on different scales: test has mean ")
    assert fix in message.partition("Fix: ")[2]
    data = read(tmp_path, x_train=train, x_test=test, same_scale=False)
    assert any("are they on one scale?" in text for text in data.cautions)


def test_the_validation_part_has_to_have_the_scale_too(tmp_path: Path) -> None:
    assert "train and val are on different scales" in error(tmp_path, x_val=X[:6] / 255, y_val=Y[:6])


def test_scales_that_differ_less_are_a_caution(tmp_path: Path) -> None:
    (caution,) = read(tmp_path, x_train=X / 255, x_test=X[:6] / 16).cautions
    assert caution.startswith("test has mean ")
    assert caution.endswith("are they on one scale?")
    assert not read(tmp_path).cautions


def test_single_features_on_another_scale_are_a_caution(tmp_path: Path) -> None:
    train, test = RNG.normal(size=(60, 30)), RNG.normal(size=(30, 30))
    test[:, 3] *= 13
    labels: dict[str, Any] = {"y_train": np.tile(Y, 5), "y_test": np.tile(Y, 5)[:30]}
    (caution,) = read(tmp_path, x_train=train, x_test=test, **labels).cautions
    assert caution.startswith(
        "1 of 30 inputs of test are on another scale than those of train, e.g. input 3:"
    )


def test_a_test_set_of_one_value_is_a_caution(tmp_path: Path) -> None:
    assert read(tmp_path, x_test=X[:6] * 0).cautions == (
        "every input of test is equal, and those of train are not",
    )


def test_test_samples_that_are_in_train_are_a_caution(tmp_path: Path) -> None:
    (caution,) = read(tmp_path, x_test=np.concatenate((255 - X[:4], X[:2]))).cautions
    assert caution == (
        "in test and in train, value for value: 2 of 6 samples of test, e.g. sample 4: the test numbers are too good"
    )


# types


@pytest.mark.parametrize(
    "dtype", ["float16", ">f4", "float64", "int16", ">i8", "uint32", "bool", "longdouble"]
)
def test_numbers_of_any_type_keep_their_values(dtype: str, tmp_path: Path) -> None:
    train = (X > 100) if dtype == "bool" else (X // 2)
    test = (X[:6] > 90) if dtype == "bool" else (X[:6] // 3)
    data = read(tmp_path, x_train=train.astype(dtype), x_test=test.astype(dtype))
    assert data.train_inputs.dtype == torch.float32
    np.testing.assert_array_equal(data.train_inputs[:, 0].numpy(), train.astype("float32"))
    assert not data.shifted


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "longdouble"])
@pytest.mark.parametrize("offset", [1e9, 1e12, 1.7e18])
def test_an_offset_does_not_cost_the_differences(dtype: str, offset: float, tmp_path: Path) -> None:
    """The oracle: the same arrays without the offset, normalised."""
    if dtype == "float64" and offset > 1e15:
        pytest.skip("float64 itself can't tell 1.7e18 from its neighbours")
    x = (X // 2).reshape(12, 20)
    shift = np.array(int(offset)).astype(dtype)
    moved = read(tmp_path, x_train=x.astype(dtype) + shift, x_test=x[:6].astype(dtype) + shift)
    plain = read(tmp_path, x_train=x.astype("float32"), x_test=x[:6].astype("float32"))
    assert moved.shifted
    assert any("20 of 20 inputs were standardised before they became float32" in text for text in moved.notes)

    def normalised(data: Dataset) -> Any:
        return prepare(
            data, val_fraction=0.2, split_seed=0, max_train_samples=None, device=torch.device("cpu")
        ).test_inputs

    torch.testing.assert_close(normalised(moved), normalised(plain), atol=2e-4, rtol=1e-4)
    with pytest.raises(DataError, match="normalize: unit"):
        prepare(
            moved,
            val_fraction=0.2,
            split_seed=0,
            max_train_samples=None,
            device=torch.device("cpu"),
            normalize="unit",
        )


def test_values_too_small_for_float32_are_not_flushed_to_zero(tmp_path: Path) -> None:
    x = X.reshape(12, 20) * 1e-60
    _, std = channel_statistics(read(tmp_path, x_train=x, x_test=x[:6]).train_inputs)
    torch.testing.assert_close(std, torch.ones(20, dtype=torch.float64), atol=1e-5, rtol=0)


def test_complex_numbers_and_dates_are_refused(tmp_path: Path) -> None:
    assert "x_train holds complex128: complex numbers." in error(tmp_path, x_train=X + 1j)
    assert "x_train holds datetime64[s], not numbers." in error(tmp_path, x_train=X.astype("datetime64[s]"))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((12, 20), "taken as 20 features"),
        ((12, 4, 5), "taken as gray images, 4 high and 5 wide"),
        ((12, 4, 5, 1), "taken as images of 1 channel, 4 high and 5 wide"),
        (
            (12, 3, 7, 3),
            "taken as images of 3 channels, 3 high and 7 wide (the channels are last",
        ),
    ],
)
def test_how_a_shape_is_taken_is_noted(shape: tuple[int, ...], said: str, tmp_path: Path) -> None:
    x = RNG.integers(0, 256, shape, np.uint8)
    assert said in read(tmp_path, x_train=x, x_test=255 - x[:6]).notes[0]


def test_samples_on_the_last_axis_are_refused_with_the_shapes(tmp_path: Path) -> None:
    assert "the shapes are (4, 5, 12) and (12,)" in error(tmp_path, x_train=X.transpose(1, 2, 0))


# groups


def test_groups_of_any_type_are_read(tmp_path: Path) -> None:
    for groups in (Y, Y.astype(float), np.array(["a", "b", "c"])[Y], Y[:, None]):
        found = read(tmp_path, groups=groups).groups
        assert found is not None
        assert found.tolist() == Y.tolist()
    assert read(tmp_path, groups_train=Y).groups is not None


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (Y[:5], "groups_train has the shape (5,), and there are 12 samples"),
        (np.eye(12), "groups_train has the shape (12, 12), and there are 12 samples"),
        (np.where(Y == 2, np.nan, 1.0), "groups_train: 4 samples have no group, e.g. sample 2"),
        (np.array(["a", "", "b"])[Y], "groups_train: 4 samples have no group, e.g. sample 1"),
        (Y + 1j, "groups_train holds complex128"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups: Any, message: str, tmp_path: Path) -> None:
    assert message in error(tmp_path, groups=groups)


def test_groups_in_two_parts_are_a_caution(tmp_path: Path) -> None:
    (caution,) = read(tmp_path, groups_train=Y, groups_test=np.array([0, 7, 7, 7, 7, 7])).cautions
    assert (
        caution
        == '1 of 6 samples of test are of groups that are in train, too ("0"): the test numbers are too good'
    )


# what fits only in part


def test_another_number_of_features_is_one_message(tmp_path: Path) -> None:
    features = RNG.normal(size=(12, 6)).astype(np.float32)
    said = error(tmp_path, x_train=features, x_test=features[:6, :5])
    assert said.startswith("a sample of x_test has the shape (5,), one of x_train (6,).")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_spreads_that_float32_can_not_divide_by_are_standardised(dtype: str, tmp_path: Path) -> None:
    """Oracle: by hand. The smallest number above 0 of float32 and 0 become the same inputs as 1 and 0 would."""
    tiny = np.float64(np.nextafter(np.float32(0), np.float32(1)))
    x = np.array([0, 1] * 6)[:, None] * np.array([tiny, 1.0])
    data = read(tmp_path, x_train=x.astype(dtype), x_test=x[:6].astype(dtype))
    found = prepare(data, val_fraction=0.3, split_seed=0, max_train_samples=None, device=torch.device("cpu"))
    assert found.test_inputs.isfinite().all()
    torch.testing.assert_close(found.test_inputs[:, 0], found.test_inputs[:, 1], atol=1e-5, rtol=1e-5)


def test_groups_of_another_type_are_the_same_groups(tmp_path: Path) -> None:
    """Oracle: by hand. Group 2.0 of train is group 2 of test, as it is with labels."""
    found = read(tmp_path, groups=np.arange(12) / 2 + 0.0, groups_test=np.arange(6))
    assert '6 of 6 samples of test are of groups that are in train, too ("0", "1", "2" and 3 more)' in str(
        found.cautions
    )
