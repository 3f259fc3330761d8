"""The batches of an epoch: their order, and what happens to an incomplete last one.

The order is drawn from a private CPU stream, so it is the same for every variant, on every device.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bnbench.base.seeding import generator

LastBatch = Literal["merge", "keep", "drop"]


def _cut(num_samples: int, batch_size: int, last_batch: LastBatch) -> tuple[int, int]:
    """The number of batches, and of the samples in them. Only the last batch may differ in size."""
    full, rest = divmod(num_samples, batch_size)
    if rest == 0 or (last_batch == "merge" and rest == 1 and full):
        return full, num_samples
    if last_batch == "drop" and full:
        return full, num_samples - rest
    return full + 1, num_samples


def steps_per_epoch(num_samples: int, batch_size: int, last_batch: LastBatch = "merge") -> int:
    """The number of batches that `epoch_order` gives."""
    return _cut(num_samples, batch_size, last_batch)[0]


def batch_sizes(num_samples: int, batch_size: int, last_batch: LastBatch = "merge") -> list[int]:
    """The sizes of the batches of an epoch: all alike but the last."""
    steps, used = _cut(num_samples, batch_size, last_batch)
    return [batch_size] * (steps - 1) + [used - batch_size * (steps - 1)]


def epoch_order(
    num_samples: int, batch_size: int, seed: int, epoch: int, last_batch: LastBatch = "merge"
) -> tuple[Tensor, ...]:
    """The samples of each batch of an epoch: int64 indices on the CPU, a permutation cut into batches.

    last_batch: what happens to an incomplete one. merge: one of a single sample, which has no variance,
    joins the batch before it, and others stay. keep: it stays. drop: it goes, unless it is the only one.
    """
    steps, _ = _cut(num_samples, batch_size, last_batch)
    order = epoch_permutation(num_samples, batch_size, seed, epoch, last_batch)
    return order.tensor_split([batch_size * step for step in range(1, steps)])


def epoch_permutation(
    num_samples: int, batch_size: int, seed: int, epoch: int, last_batch: LastBatch = "merge"
) -> Tensor:
    """The batches of `epoch_order` as one tensor, for an epoch of many thousand steps of which few are made."""
    _, used = _cut(num_samples, batch_size, last_batch)
    return torch.randperm(num_samples, generator=generator(seed, "order", epoch))[:used]


def last_batch_note(num_samples: int, batch_size: int, last_batch: LastBatch = "merge") -> str | None:
    """A note on the treatment of an incomplete last batch; None where the user need not know it."""
    full, rest = divmod(num_samples, batch_size)
    start = f"{num_samples} training samples in batches of {batch_size} leave a last batch of {rest}"
    if rest and full and last_batch == "drop":
        return f"{start}: dropped"
    if rest == 1 and full and last_batch == "merge":
        return f"{start}: merged into the one before it"
    if rest == 1:
        return f"{start}: kept"
    return None
