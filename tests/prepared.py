"""A data set of the first task prepared as the settings of a study would, said in a few words."""

from __future__ import annotations

import torch

from bnbench.data import Dataset
from bnbench.data.normalisation import Normalize
from bnbench.data.prepared import Preparation, Prepared
from bnbench.data.split import Sampling, SplitBy
from bnbench.study import Choice
from bnbench.tasks import task_of

IMAGES = Choice(name="image_classification")


def prepare(
    dataset: Dataset,
    *,
    val_fraction: float,
    split_seed: int,
    device: torch.device,
    max_train_samples: int | None = None,
    normalize: Normalize = "standard",
    by: SplitBy = "auto",
    max_eval_samples: int | None = None,
) -> Prepared:
    """Split, normalised and on the device."""
    sampling = Sampling(by, val_fraction, split_seed, max_train_samples, max_eval_samples)
    return task_of(IMAGES).prepare(dataset, Preparation(sampling, IMAGES, normalize), device)
