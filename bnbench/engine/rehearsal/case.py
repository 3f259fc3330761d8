"""One cell of a study as the rehearsal sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from bnbench.data import Sizes
from bnbench.data.augmentations import Augmentation, augmentation_of
from bnbench.data.batches import batch_sizes
from bnbench.data.sample_transforms import Pixels
from bnbench.study import Settings
from bnbench.study.plan import RunSpec
from bnbench.tasks import task_of


@dataclass(frozen=True)
class Case:
    """The runs of a cell, and the sizes of its data.

    smallest_part: samples in the smallest evaluation batch. pixels: how its inputs are shown; None where that is not
    known yet.
    """

    runs: tuple[RunSpec, ...]
    sizes: Sizes
    num_train: int
    smallest_part: int
    pixels: Pixels | None = None

    @property
    def label(self) -> str:
        """The name of the cell."""
        return self.runs[0].label

    @property
    def settings(self) -> Settings:
        """The settings of all its runs."""
        return self.runs[0].settings

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def augmentation(self) -> Augmentation | None:
        """What happens to its training batches; None where they stay as they are."""
        return augmentation_of(self.settings.augment)

    def samples(self, count: int) -> tuple[Tensor, Tensor]:
        """Made-up inputs and targets as a data set has them, before the task makes a batch of them."""
        task, draw = task_of(self.settings.task), torch.Generator().manual_seed(0)
        try:
            return task.made_up_data(self.sizes, count, draw)
        except NotImplementedError:
            return task.made_up(self.sizes, count, draw)

    def inputs(self, count: int) -> Tensor:
        """Made-up inputs of so many samples, the same each time."""
        inputs, _ = task_of(self.settings.task).made_up(self.sizes, count, torch.Generator().manual_seed(0))
        return inputs

    def batches(self) -> Counter[int]:
        """The batch sizes of an epoch, each with its number of batches; the last batch has the last size."""
        settings = self.settings
        return Counter(batch_sizes(self.num_train, settings.batch_size, settings.last_batch))

    def batches_of_a_run(self) -> Counter[int]:
        """The batch sizes of a whole run, whose last epoch may stop before its last batch."""
        settings = self.settings
        sizes = batch_sizes(self.num_train, settings.batch_size, settings.last_batch)
        epochs, rest = divmod(settings.total_steps(len(sizes)), len(sizes))
        return Counter({size: epochs * count for size, count in Counter(sizes).items()}) + Counter(
            sizes[:rest]
        )
