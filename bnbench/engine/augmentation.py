"""Which augmentation the settings of a study mean."""

from __future__ import annotations

from bnbench.data import datasets
from bnbench.data.batches import Augmentation
from bnbench.study import Settings


def augmentation_of(settings: Settings) -> Augmentation:
    """The augmentation of these settings: "none" or "crop_flip"."""
    if settings.augment != "auto":
        return settings.augment
    usual: Augmentation = datasets.get(settings.dataset.name).facts.augment
    return usual
