"""A plugin's own torch Datasets: read as they are, or refused with part and index. Oracle: the items themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

from bnbench.api.plugins import known_names
from bnbench.base.errors import DataError
from bnbench.data.torch_datasets import taken
from bnbench.engine.library import Library
from bnbench.study import load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import make_plan
from tests.training import scheduled

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
LABELS = [index % 3 for index in range(12)]


class Items(Dataset):
    """A list of items, some of which may be functions that raise."""

    def __init__(self, items: list[Any], classes: Any = None) -> None:
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        return item() if callable(item) else item


def items(change: Callable[[Any], Any] = lambda image: image, labels: Any = LABELS, offset: int = 0) -> Items:
    return Items([(change(image + offset), label) for image, label in zip(BYTES, labels, strict=True)])


FORMS: dict[str, Callable[[Any], Any]] = {
    "PIL": Image.fromarray,
    "array (H, W, C)": lambda image: image,
    "tensor (C, H, W)": lambda image: torch.from_numpy(image).permute(2, 0, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures_arrays_and_tensors_are_the_same_pixels(form: str) -> None:
    data = taken("x", (items(FORMS[form]), items(FORMS[form], offset=1)))
    assert data.train_inputs.dtype == torch.uint8
    assert np.array_equal(data.train_inputs.numpy(), BYTES.transpose(0, 3, 1, 2))
    assert np.array_equal(data.test_inputs.numpy(), (BYTES + 1).transpose(0, 3, 1, 2))
    assert data.train_targets.tolist() == LABELS
    assert data.class_names == ("0", "1", "2")


def test_gray_floats_rows_numbers_and_masks() -> None:
    gray = taken("x", (items(lambda i: Image.fromarray(i[..., 0])), items(lambda i: i[..., 0])))
    assert np.array_equal(gray.train_inputs.numpy()[:, 0], BYTES[..., 0])
    rows = Items(
        [(image[0, :, 0] / 7.0, float(label) + 0.5) for image, label in zip(BYTES, LABELS, strict=True)]
    )
    data = taken("x", (rows, rows))
    assert data.train_inputs.shape == (12, 5, 1, 1)
    assert data.train_inputs.dtype == torch.float32
    assert data.train_targets.dtype == torch.float64
    assert data.train_targets.flatten().tolist() == [label + 0.5 for label in LABELS]
    assert data.class_names == ()
    masks = [torch.from_numpy(np.where(image[..., 0] > 127, 7, 2)) for image in BYTES]
    masks[3][0, 0] = 255
    of_masks = Items(list(zip(BYTES, masks, strict=True)))
    data = taken("x", (of_masks, of_masks))
    assert data.class_names == ("2", "7")
    expected = torch.stack(masks)
    assert torch.equal(data.train_targets, torch.where(expected == 255, 255, (expected == 7).long()))


def test_texts_and_declared_classes_name_the_classes() -> None:
    data = taken("x", (items(labels=["b", "a", "b"] * 4), items(labels=["a"] * 12, offset=3)))
    assert data.class_names == ("a", "b")
    assert data.train_targets.tolist() == [1, 0, 1] * 4
    declared = items()
    declared.classes = ["cat", "dog", "emu"]
    assert taken("x", (Subset(declared, range(9)), items(offset=1))).class_names == ("cat", "dog", "emu")


def test_one_data_set_is_split_the_same_way_each_time() -> None:
    first, second = taken("x", items()), taken("x", items())
    assert torch.equal(first.train_inputs, second.train_inputs)
    assert (len(first.train_targets), len(first.test_targets)) == (9, 3)
    both = torch.cat((first.train_inputs, first.test_inputs)).flatten(1).tolist()
    assert sorted(both) == sorted(BYTES.transpose(0, 3, 1, 2).reshape(12, -1).tolist())
    assert any("a fixed draw of 3 is the test part" in note for note in first.notes)


def test_three_parts_and_a_mapping() -> None:
    named = taken("x", {"test": items(offset=2), "train": items(), "val": items(offset=1)})
    in_order = taken("x", (items(), items(offset=1), items(offset=2)))
    assert named.fingerprint == in_order.fingerprint
    assert named.val_inputs is not None
    assert np.array_equal(named.val_inputs.numpy(), (BYTES + 1).transpose(0, 3, 1, 2))


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield from zip(BYTES, LABELS, strict=True)


def broken() -> Any:
    raise OSError("no such file: 3.png")


def changed(index: int, item: Any) -> Items:
    made = items()
    made.items[index] = item
    return made


class Moving(Items):
    """Draws another image each time."""

    def __getitem__(self, index: int) -> Any:
        return torch.rand(3, 4, 4), index % 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Stream(), "train is an IterableDataset"),
        ((items(), Stream()), "test is an IterableDataset"),
        (changed(3, broken), r"train\[3\] raises OSError: no such file: 3.png."),
        (changed(4, (BYTES[0][:3], 1)), r"train\[4\] is uint8 of 3x3x5, and train\[0\] is uint8 of 3x6x5"),
        (changed(4, (BYTES[0] / 255, 1)), r"train\[4\] is float32 of 3x6x5, and train\[0\] is uint8 of 3x6x5"),
        (changed(5, BYTES[0]), r"train\[5\] is ndarray"),
        (changed(5, (BYTES[0], 1, 2)), r"train\[5\] is tuple of 3"),
        (changed(5, (BYTES[0], None)), r"train\[5\]: its label is NoneType"),
        (changed(5, (BYTES[0], -1)), r"train\[5\] has the label -1: classes count from 0"),
        ((items(), changed(2, (BYTES[0], 9))), r"test\[2\] has the label 9: train lacks it"),
        (changed(5, (BYTES[0], [0, 1])), r"train\[5\] has a label that is int64 of 2, and (.*) is one int64"),
        (items(labels=[[0, 1]] * 12), r"a label has the shape \(2,\)(.|\n)*argmax"),
        (items(labels=[4] * 12), "train has only one class, 4"),
        (Items([]), "train holds no samples"),
        ((items(), Items([])), "test holds no samples"),
        (items(lambda image: image.astype(np.int64)), r"train\[0\] is of type int64"),
        (items(lambda image: torch.from_numpy(image)[None]), r"train\[0\] has the shape \(1, 6, 5, 3\)"),
        (items(lambda image: Image.fromarray(image).convert("RGBA")), "a picture of mode RGBA"),
        (items(lambda image: "0.png"), r"train\[0\]: its image is str"),
        (changed(7, (BYTES[0] * np.nan, 0)), r"train\[7\] is float32"),
        (Moving([0] * 4), r"train\[0\] is another image when it is read again(.|\n)*augment:"),
        ({"train": items(), "dev": items()}, 'returns the parts "train", "dev"'),
        ({"train": items(), "val": items()}, "there is no test part"),
        (7, "train is int"),
        ((items(), items(lambda image: image[:4])), "images of test are uint8 of 3x4x5, those of train"),
    ],
)  # fmt: skip
def test_what_is_of_no_use_is_one_error_with_its_place(given: Any, message: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(DataError, match=message) as error:
        taken("mine", given)
    assert str(error.value).startswith("data set mine: ")
    assert torch.equal(before, torch.get_rng_state())


def test_a_label_beyond_the_declared_classes() -> None:
    made = items()
    made.classes = ["a", "b"]
    with pytest.raises(DataError, match=r"train\[2\] has the label 2: its classes are 0 to 1"):
        taken("mine", made)


PLUGIN = """
import torch
from torch.utils.data import Dataset
from bnbench.data import datasets

class Squares(Dataset):
    classes = ["dark", "bright"]
    def __init__(self, count, seed):
        draw = torch.Generator().manual_seed(seed)
        self.images = torch.randint(0, 128, (count, 1, 5, 5), dtype=torch.uint8, generator=draw)
        self.images[::2] += 127
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        print("reading", index)
        return self.images[index], 1 - index % 2

@datasets.register("squares")
def squares(data_dir, *, count: int = 40):
    "Bright and dark squares."
    return Squares(count, 0), Squares(20, 1)
"""
STUDY = (
    "dataset: {name: squares, count: 30}\nmodel: {name: mlp, hidden: [4]}\noptimizer: {name: sgd, lr: 0.1}\n"
    "variants: [none, batch]\nepochs: 1\nseeds: 2\nbatch_size: 10\n"
)


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    path = tmp_path / "own.py"
    path.write_text(PLUGIN)
    yield path
    known_names()


def test_a_factory_of_a_plugin_returns_torch_data_sets(
    plugin: Path, tmp_path: Path, write_study: Callable[..., Path], capsys: Any
) -> None:
    names = known_names([plugin])
    study = load_study(write_study(STUDY), [], names.vocabulary)
    library = Library(tmp_path, torch.device("cpu"))
    data = library.dataset(study.variants["none"])
    assert data is library.dataset(study.variants["batch"])  # read once
    assert data.class_names == ("dark", "bright")
    assert data.train_inputs.shape == (30, 1, 5, 5)
    assert names.uses_plugins(study.variants["none"])
    assert capsys.readouterr().out == ""  # what the user's code prints is no result


@pytest.mark.slow
def test_workers_read_it_too(plugin: Path, tmp_path: Path, write_study: Callable[..., Path]) -> None:
    names = known_names([plugin])
    study = load_study(write_study(STUDY), [], names.vocabulary)
    found = []
    for workers in (1, 2):
        runs = make_plan(study, lambda settings: {})
        library = Library(tmp_path, torch.device("cpu"))
        events = scheduled(runs, library, workers=workers, prepare=names.loader())
        ended = [event.record for event in events if isinstance(event, RunEnded)]
        found.append({(one.variant, one.seed): repr((one.step_losses, one.final)) for one in ended})
    assert len(found[0]) == 4
    assert found[0] == found[1]
