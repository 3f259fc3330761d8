"""Batches that hold a few classes each: not independent draws, as a stream of similar samples gives them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bnbench.base.seeding import generator
from bnbench.data.batches import LastBatch, batch_sizes
from bnbench.study import Settings


@dataclass(frozen=True)
class ClassBatches:
    """How the batches of an epoch are drawn. classes: in each. labels: (N,) of the training samples, on the CPU."""

    labels: Tensor
    classes: int
    batch_size: int
    last_batch: LastBatch = "merge"

    def order(self, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """The samples of each batch of an epoch: int64 indices on the CPU, each sample at most once.

        The batches have the sizes of `epoch_order`, and what `last_batch: drop` leaves out is what is left at the end.
        For each batch the classes are drawn at random, in proportion to their samples that are left, of those with
        enough for an equal share of the batch, or of all where too few have enough. Each gives an equal share, to one
        sample; where one runs out the others fill the batch, and further classes where all of them do, which
        happens at the end of an epoch. The samples of a batch are in random order.
        """
        draw = generator(seed, "class order", epoch)
        shuffled = torch.randperm(len(self.labels), generator=draw)
        by_class = shuffled[self.labels[shuffled].argsort(stable=True)]
        counts = self.labels.bincount()
        left = counts.clone()
        ends = counts.cumsum(0)
        batches = []
        for size in batch_sizes(len(self.labels), self.batch_size, self.last_batch):
            taken = self._shares(left, size, draw)
            starts = ends - left
            parts = [by_class[starts[c] : starts[c] + taken[c]] for c in taken.nonzero().flatten().tolist()]
            left -= taken
            batch = torch.cat(parts)
            batches.append(batch[torch.randperm(len(batch), generator=draw)])
        return tuple(batches)

    def _shares(self, left: Tensor, size: int, draw: torch.Generator) -> Tensor:
        """How many samples of each class the next batch takes, (K,)."""
        number = min(self.classes, size)
        enough = left * (left >= -(-size // number))
        pool = enough if int((enough > 0).sum()) >= number else left
        chosen = torch.multinomial(pool.double(), min(number, int((pool > 0).sum())), generator=draw)
        further = torch.randperm(len(left), generator=draw)
        taken = torch.zeros_like(left)
        shares = [size // len(chosen) + (place < size % len(chosen)) for place in range(len(chosen))]
        taken[chosen] = torch.minimum(torch.tensor(shares), left[chosen])
        for each in (*chosen.tolist(), *further.tolist()):
            missing = size - int(taken.sum())
            if not missing:
                break
            taken[each] += min(missing, int(left[each] - taken[each]))
        return taken

    def note(self, seed: int) -> str | None:
        """How many batches of the first epoch hold another number of classes; None where all hold as many as wanted."""
        batches = self.order(seed, 0)
        held = (int(self.labels[batch].bincount().count_nonzero()) for batch in batches)
        other = sum(number != self.classes for number in held)
        if not other:
            return None
        return (
            f"batches: {other} of {len(batches)} of the first epoch do not hold {self.classes} classes, as the samples "
            "of their classes ran out"
        )


def class_batches(settings: Settings, targets: Tensor) -> ClassBatches | None:
    """What draws the batches of these settings; None where they are independent draws. targets: (N,) to train on."""
    if settings.batches.classes is None:
        return None
    return ClassBatches(targets.cpu(), settings.batches.classes, settings.batch_size, settings.last_batch)
