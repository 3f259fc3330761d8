"""Data sets of Hugging Face from local files. Oracle: the arrays that were written; nothing is fetched."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.huggingface import huggingface
from bnbench.study import Vocabulary, load_study

BASE = "model: {name: mlp, hidden: [8]}\noptimizer: {name: sgd, lr: 0.1}\nvariants: [none, batch]\n"
DRAW = np.random.default_rng(0)
SIZES = {"train": 12, "validation": 4, "test": 6}
PIXELS = {split: DRAW.integers(0, 256, (count, 7, 5, 3), dtype=np.uint8) for split, count in SIZES.items()}
LABELS = {split: [index % 2 for index in range(count)] for split, count in SIZES.items()}
NAMES = ["zebra", "ant"]  # not in alphabetical order


@pytest.fixture(scope="module")
def hf() -> Any:
    return pytest.importorskip("datasets")


def made(hf: Any, split: str, **columns: Any) -> Any:
    """A split with its images and classes; columns: others, or in their place."""
    pictures = [Image.fromarray(image) for image in PIXELS[split]]
    features = {"image": hf.Image(), "label": hf.ClassLabel(names=NAMES)}
    values = {"image": pictures, "label": LABELS[split]}
    for name, (feature, given) in columns.items():
        if feature is None:
            del features[name], values[name]
        else:
            features[name], values[name] = feature, given(SIZES[split])
    return hf.Dataset.from_dict(values, features=hf.Features(features))


def as_disk(hf: Any, folder: Path, splits: Any) -> Path:
    hf.DatasetDict(splits).save_to_disk(folder)
    return folder


def as_parquet(hf: Any, folder: Path, splits: Any) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def as_arrow(hf: Any, folder: Path, splits: Any) -> Path:
    disk = as_disk(hf, folder.with_name("disk"), splits)
    folder.mkdir()
    for name in splits:
        shutil.copy(next((disk / name).glob("*.arrow")), folder / f"{name}.arrow")
    return folder


def as_images(hf: Any, folder: Path, splits: Any) -> Path:
    for name in splits:
        for index, (image, label) in enumerate(zip(PIXELS[name], LABELS[name], strict=True)):
            place = folder / name / NAMES[label] / f"{index:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place)
    return folder


def read(path: Path, tmp_path: Path, **options: Any) -> Dataset:
    return huggingface(tmp_path / "cache", path=path, **options)


def of(pixels: Any) -> Any:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.mark.zoo
@pytest.mark.parametrize("write", [as_disk, as_parquet, as_arrow, as_images])
def test_every_format_has_the_same_pixels_classes_and_splits(write: Any, hf: Any, tmp_path: Path) -> None:
    data = read(write(hf, tmp_path / "x", {split: made(hf, split) for split in SIZES}), tmp_path)
    names = sorted(NAMES) if write is as_images else NAMES
    for split, inputs, targets in (
        ("train", data.train_inputs, data.train_targets),
        ("validation", data.val_inputs, data.val_targets),
        ("test", data.test_inputs, data.test_targets),
    ):
        order = list(range(SIZES[split]))
        if write is as_images:  # by class, in the order of the names
            order = [i for name in names for i in range(SIZES[split]) if NAMES[LABELS[split][i]] == name]
        assert torch.equal(inputs, of(PIXELS[split][order]))
        assert [names[int(target)] for target in targets] == [NAMES[LABELS[split][i]] for i in order]
    assert data.class_names == tuple(names)


@pytest.mark.zoo
def test_it_is_converted_once_and_again_when_a_file_changes(
    hf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_parquet(hf, tmp_path / "x", {split: made(hf, split) for split in SIZES})
    monkeypatch.setattr("bnbench.data.array_cache.SETTLED", 0.0)
    first = read(path, tmp_path)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "datasets", None)  # the cache needs no package
        again = read(path, tmp_path)
    assert (first.fingerprint, first.notes) == (again.fingerprint, again.notes)
    other = made(hf, "test", label=(hf.ClassLabel(names=NAMES), lambda count: [1] * count))
    other.to_parquet(path / "data" / "test-00000-of-00001.parquet")
    assert read(path, tmp_path).fingerprint != first.fingerprint


@pytest.mark.zoo
def test_columns_are_found_or_named_and_texts_are_classes(hf: Any, tmp_path: Path) -> None:
    words = hf.Value("string"), lambda count: ["b", "a"] * (count // 2)
    path = as_disk(hf, tmp_path / "x", {s: made(hf, s, label=(None, None), kind=words) for s in SIZES})
    with pytest.raises(
        DataError, match=r"no column holds classes(.|\n)*kind \(Value of string\)(.|\n)*label: kind"
    ):
        read(path, tmp_path)
    data = read(path, tmp_path, label="kind", channels=1, image_size=4)
    assert data.class_names == ("a", "b")
    assert data.train_targets.tolist() == [1, 0] * 6
    assert data.train_inputs.shape == (12, 1, 4, 4)


def faults(hf: Any) -> dict[str, tuple[Any, str]]:
    """What is changed in every split, and the error."""
    numbers = hf.Value("int64"), lambda count: [-1] * count
    texts = hf.Value("string"), lambda count: ["word"] * count
    again = hf.Image(), lambda count: [Image.fromarray(PIXELS["test"][0])] * count
    sizes = hf.Image(), lambda count: [Image.new("RGB", (5 + (i == 3), 7)) for i in range(count)]
    nothing = hf.Image(), lambda count: [None] * count
    return {
        "no label": ({"label": (None, None)}, r"no column holds classes(.|\n)*image \(Image\)"),
        "secret labels": ({"label": numbers}, r"train\[0\] has the label -1(.|\n)*leave those samples out"),
        "two images": ({"other": again}, r"2 columns hold images: image, other(.|\n)*Fix: image: image"),
        "texts": ({"image": (None, None), "text": texts}, r"no column holds images(.|\n)*dataset: text"),
        "numbers": ({"image": (None, None)}, r"no column holds images(.|\n)*dataset: npz"),
        "sizes": ({"image": sizes}, r"train\[3\]: it is 6x7, and train\[0\] is 5x7(.|\n)*image_size: 32"),
        "nothing": ({"image": nothing}, r"train\[0\] has no image"),
    }


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", ["no label", "secret labels", "two images", "texts", "numbers", "sizes", "nothing"]
)
def test_a_table_that_does_not_fit(name: str, hf: Any, tmp_path: Path) -> None:
    columns, message = faults(hf)[name]
    path = as_disk(hf, tmp_path / "x", {split: made(hf, split, **columns) for split in SIZES})
    with pytest.raises(DataError, match=message):
        read(path, tmp_path)


@pytest.mark.zoo
def test_splits_and_names_that_are_not_there(hf: Any, tmp_path: Path) -> None:
    path = as_disk(hf, tmp_path / "x", {"train": made(hf, "train"), "validation": made(hf, "validation")})
    with pytest.raises(
        DataError, match=r'no split test(.|\n)*It has "train", "validation"(.|\n)*train_test_split'
    ):
        read(path, tmp_path)
    whole = as_disk(hf, tmp_path / "y", {split: made(hf, split) for split in SIZES})
    with pytest.raises(DataError, match=r'no column "labl"(.|\n)*Fix: label: label'):
        read(whole, tmp_path, label="labl")
    with pytest.raises(DataError, match="the column label holds ClassLabel"):
        read(whole, tmp_path, image="label")


@pytest.mark.zoo
def test_damaged_files_are_one_error(hf: Any, tmp_path: Path) -> None:
    path = as_parquet(hf, tmp_path / "x", {split: made(hf, split) for split in SIZES})
    file = path / "data" / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"can't be read: \w+: (.|\n)*damaged, or of another format"):
        read(path, tmp_path)


@pytest.mark.zoo
def test_the_hub_offline_is_a_clear_error(hf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        assert arguments == ("someone/some",)
        assert options == {"name": None, "revision": "v1"}
        raise ConnectionError("Couldn't reach 'someone/some' on the Hub")

    monkeypatch.setattr(hf, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"someone/some could not be loaded(.|\n)*can't be reached"):
        huggingface(tmp_path, path="hf://someone/some", revision="v1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE is set(.|\n)*unset HF_HUB_OFFLINE"):
        huggingface(tmp_path, path="hf://someone/some", revision="v1")


def test_without_the_package_or_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"nowhere/mnist does not exist(.|\n)*path: hf://nowhere/mnist"):
        read(tmp_path / "nowhere" / "mnist", tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"not installed(.|\n)*pip install 'bnbench\[huggingface\]'"):
        read(tmp_path / "x.parquet", tmp_path)
    with pytest.raises(DataError, match="A revision is of a data set on the hub"):
        read(tmp_path / "x.parquet", tmp_path, revision="main")


def test_a_study_keeps_names_of_the_hub_and_makes_paths_absolute(
    write_study: Callable[..., Path], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    def identity(text: str) -> Any:
        study = load_study(write_study(f"dataset: {{name: huggingface, {text}}}\n{BASE}"), [], vocabulary)
        chosen = study.variants["none"]
        return chosen.dataset.options["path"], chosen.identity()["dataset"]["options"]

    local, of_local = identity("path: some/folder")
    assert local == str(tmp_path / "some" / "folder")
    hub, of_hub = identity("path: hf://some/name, revision: v1")
    assert hub == "hf://some/name"
    assert "path" not in of_local | of_hub  # known by content
    assert (of_local["revision"], of_hub["revision"]) == (None, "v1")
