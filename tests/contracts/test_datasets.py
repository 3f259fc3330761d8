"""What every registered data set keeps. A new one is found here without a change."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from bnbench.data import Dataset, DatasetFacts, datasets, public_text, vision
from bnbench.data.augmentations import augmentations
from tests.prepared import prepare

NAMES = datasets.names()
FILES = Path(os.environ.get("BNBENCH_DATA_DIR", "/nowhere"))


@pytest.fixture(scope="module", params=NAMES)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    """The data set; skipped where it needs files that are not in BNBENCH_DATA_DIR."""
    entry = datasets.get(request.param)
    if any(field.is_required() for field in entry.options().model_fields.values()):
        pytest.skip("it reads the user's own files")
    with pytest.MonkeyPatch.context() as patch:
        for module in (vision, public_text):
            patch.setattr(module, "fetch", lambda *_: pytest.skip("its files are not in BNBENCH_DATA_DIR"))
        if request.param == "mnist1d":
            pytest.importorskip("mnist1d")
        loaded: Dataset = entry.factory(FILES)
    for fact, value in facts_of(loaded).items():
        assert getattr(entry.facts, fact) in (None, value), fact
    return loaded


def facts_of(data: Dataset) -> dict[str, Any]:
    return {
        "num_train": len(data.train_targets),
        "num_test": len(data.test_targets),
        "input_shape": tuple(data.train_inputs.shape[1:]),
        "num_classes": len(data.class_names),
    }


def test_the_names_that_the_documentation_lists() -> None:
    expected = "cifar10 cifar100 digits fashion_mnist imagefolder kmnist mnist npz svhn".split()
    assert set(expected) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_has_a_summary_an_augmentation_and_typed_options(name: str) -> None:
    entry = datasets.get(name)
    assert entry.summary.endswith(".")
    assert entry.facts.augment in augmentations.names()
    options = entry.options()
    assert issubclass(options, BaseModel)
    assert all(field.annotation is not Any for field in options.model_fields.values())


def test_sizes_that_are_known_before_the_data_come_together() -> None:
    with pytest.raises(ValueError, match="go together"):
        DatasetFacts(num_train=3)


def test_parts_have_one_shape_and_one_type(dataset: Dataset) -> None:
    assert dataset.train_inputs.shape[1:] == dataset.test_inputs.shape[1:]
    assert dataset.train_inputs.dtype == dataset.test_inputs.dtype
    assert dataset.train_targets.shape[1:] == dataset.test_targets.shape[1:]
    for inputs, targets in (
        (dataset.train_inputs, dataset.train_targets),
        (dataset.test_inputs, dataset.test_targets),
    ):
        assert len(inputs) == len(targets) > 0
        assert targets.isfinite().all()
    int(dataset.fingerprint, 16)


def test_images_and_classes_have_their_shapes_types_and_ranges(dataset: Dataset) -> None:
    if not _has_images_of_classes(dataset):
        pytest.skip("it is for another task")
    assert dataset.train_inputs.shape[1:] == dataset.test_inputs.shape[1:]
    for images, labels in (
        (dataset.train_inputs, dataset.train_targets),
        (dataset.test_inputs, dataset.test_targets),
    ):
        assert images.ndim == 4
        assert images.dtype in (torch.uint8, torch.float32)
        assert images.is_contiguous()
        assert labels.dtype == torch.int64
        assert images.shape[:1] == labels.shape
        assert images.float().isfinite().all()
        assert images.float().std() > 0
        # every class is there
        assert set(labels.tolist()) == set(range(len(dataset.class_names)))
    assert len(set(dataset.class_names)) == len(dataset.class_names)
    int(dataset.fingerprint, 16)


def _has_images_of_classes(dataset: Dataset) -> bool:
    return bool(dataset.class_names) and dataset.train_inputs.ndim == 4 and dataset.train_targets.ndim == 1


def test_images_of_classes_can_be_prepared(dataset: Dataset) -> None:
    if not _has_images_of_classes(dataset):
        pytest.skip("it is for another task")
    if len(dataset.train_targets) < 1200:
        pytest.skip("too few samples")
    data = prepare(
        dataset, val_fraction=0.1, split_seed=0, max_train_samples=1000, device=torch.device("cpu")
    )
    assert len(data.train_targets) == 1000
    assert data.notes == (
        f"1000 of {len(dataset.train_targets) - len(data.val_targets)} training samples are used (max_train_samples)",
    )
    assert data.train_batch(torch.arange(len(data.train_targets))).mean().abs() < 1e-5
    assert data.test_inputs.mean().abs() < 0.2
