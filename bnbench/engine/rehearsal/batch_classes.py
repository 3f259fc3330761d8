"""Batches of a few classes that the data can't make."""

from __future__ import annotations

from bnbench.base.errors import BnbenchError
from bnbench.data.prepared import Prepared
from bnbench.study import Settings


def check_classes(settings: Settings, classes: int, num_train: int) -> None:
    """Raises BnbenchError where a batch should hold more classes than there are, or than training samples."""
    wanted = settings.batches.classes
    if wanted is not None and classes >= wanted > num_train:
        raise BnbenchError(
            f"batches.classes: {wanted}, and there are {num_train} training samples.",
            fix=f"batches.classes: {num_train} or fewer, or more training samples.",
        )
    if wanted is not None and wanted > classes:
        raise BnbenchError(
            f"batches.classes: {wanted}, and the data set {settings.dataset.name} has {classes} classes.",
            fix=f"batches.classes: {classes} or fewer, or leave it out.",
        )


def check_classes_in_training(settings: Settings, data: Prepared) -> None:
    """Raises BnbenchError where the training part has samples of fewer classes than a batch should hold."""
    wanted = settings.batches.classes
    present = sum(count > 0 for count in data.class_counts().get("train", ()))
    if wanted is not None and data.class_names and wanted > present:
        check_classes(settings, len(data.class_names), len(data.train_targets))
        raise BnbenchError(
            f"batches.classes: {wanted}, and the training part has samples of {present} classes alone.",
            fix=f"batches.classes: {max(present, 1)}, or more training samples.",
        )
