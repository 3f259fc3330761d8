"""The probe batch: fixed samples of a run's training part, as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from bnbench.base.seeding import generator
from bnbench.data.prepared import Prepared
from bnbench.data.tensors import gathered
from bnbench.study import Settings
from bnbench.tasks import task_of

#: Inputs and targets of the probe batch, then of the second one.
Batches = tuple[Tensor, Tensor, Tensor, Tensor]


def probe_batches(data: Prepared, settings: Settings, seed: int) -> Batches:
    """Two batches of `batch_size` samples (or of `probe.samples`), without augmentation: equal for every variant.

    A study with several batch sizes has them one inside the other. The second batch has other samples; where the
    training part is too small for that, as many others as there are.
    """
    total = len(data.train_targets)
    wanted = settings.probe.samples if settings.probe and settings.probe.samples else settings.batch_size
    count = min(wanted, total)
    order = torch.randperm(total, generator=generator(seed, "probe"))
    draw = generator(settings.seed_of("noise", seed), "batch", "probe")
    first, second = (probe_batch(data, index, draw) for index in (order[:count], order.flip(0)[:count]))
    return *first, *second


def probe_batch(data: Prepared, index: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """These training samples as the task makes a batch of them. draw: for what it draws."""
    index = index.to(data.train_targets.device)
    targets = gathered(data.train_targets, index)
    return task_of(data.task).batch(data.train_batch(index), targets, draw)
