"""The batches of a training, step by step, from any step on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bnbench.base.seeding import generator
from bnbench.base.stacked import aligned
from bnbench.data.augmentations import Augmentation
from bnbench.data.batches import batch_sizes, epoch_permutation, steps_per_epoch
from bnbench.data.class_batches import class_batches
from bnbench.data.prepared import Prepared
from bnbench.data.tensors import gathered
from bnbench.engine.task_batches import task_draws, training_batches
from bnbench.study import Settings

#: By what is drawn, the states of the generators of one replica.
Draws = dict[str, Tensor]


class BatchStream:
    """The batches of replicas that train together.

    seeds: of the replicas. augmentation: None for none.
    """

    def __init__(
        self,
        settings: Settings,
        seeds: Sequence[int],
        data: Prepared,
        augmentation: Augmentation | None,
        device: torch.device,
    ) -> None:
        self.settings, self.seeds, self.data, self.device = settings, seeds, data, device
        self.augmentation = augmentation
        self.class_batches = class_batches(settings, data.train_targets)
        self.steps_per_epoch = steps_per_epoch(
            len(data.train_targets), settings.batch_size, settings.last_batch
        )
        self._draws: dict[str, list[torch.Generator]] = {}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From the first step on, without an end."""
        return self.from_step(0)

    def from_step(self, step: int, draws: Sequence[Draws] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (S, N, ...) and targets (S, N, ...) of every step, in each replica's order, as the task makes them.

        draws: of each replica, where its generators were; needed within an epoch alone.
        """
        first, place = divmod(step, self.steps_per_epoch)
        for epoch in itertools.count(first):
            within = epoch == first and place > 0
            self._draws = own = self._draws_of(epoch, draws if within else None)
            made = training_batches(self.settings, own["batch"])
            for index in itertools.islice(self.orders(epoch), place if within else 0, None):
                yield self._batch(index, own["augment"], made)

    def _draws_of(self, epoch: int, states: Sequence[Draws] | None) -> dict[str, list[torch.Generator]]:
        """The generators of an epoch, at its start or in the given states."""
        seeds = [self.settings.seed_of("augmentation", seed) for seed in self.seeds]
        augment = [generator(seed, "augment", epoch) for seed in seeds] if self.augmentation else []
        draws = {"augment": augment, "batch": task_draws(self.settings, self.seeds, epoch)}
        for name, generators in draws.items():
            for each, state in zip(generators, states or (), strict=bool(states and generators)):
                each.set_state(state[name])
        return draws

    def draws(self, replica: int) -> Draws:
        """Where the generators of a replica are, in the epoch that is under way."""
        return {name: each[replica].get_state() for name, each in self._draws.items() if each}

    def check_draws(self, step: int, draws: Draws) -> None:
        """Raises ValueError where these are not the generators' states that a run needs to go on after `step`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if place:
            self._draws_of(epoch, [draws] * len(self.seeds))
            needed = {name for name, each in self._draws_of(epoch, None).items() if each}
            if needed != draws.keys():
                raise ValueError(f"generators of {sorted(draws)} in place of {sorted(needed)}")

    def _batch(self, index: Tensor, draws: Sequence[torch.Generator], made: Any) -> tuple[Tensor, Tensor]:
        inputs, targets = self._gather(index)
        if self.augmentation:
            pixels = self.data.pixels()
            for batch, asked, draw in zip(inputs, targets, draws, strict=True):
                changed, moved = self.augmentation.augmented(batch, asked, draw, pixels)
                batch.copy_(changed)
                if moved is not asked:
                    asked.copy_(moved)
        return made(inputs, targets) if made else (inputs, targets)

    def orders(self, epoch: int) -> Iterator[Tensor]:
        """The samples (S, N) of every step of an epoch, on the device."""
        count, settings = len(self.data.train_targets), self.settings
        seeds = [settings.seed_of("order", seed) for seed in self.seeds]
        size, last = settings.batch_size, settings.last_batch
        if self.class_batches:
            orders = [torch.cat(self.class_batches.order(seed, epoch)) for seed in seeds]
        else:
            orders = [epoch_permutation(count, size, seed, epoch, last) for seed in seeds]
        whole, start = torch.stack(orders).to(self.device), 0
        # step by step: an epoch of a text has a window at every token, and most studies end long before it does
        for samples in batch_sizes(count, size, last):
            yield whole[:, start : start + samples]
            start += samples

    def _gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The training inputs of an index (S, N), each replica's at an aligned place, and their targets."""
        data, samples = self.data, index.flatten()
        inputs = gathered(data.train_inputs, samples)
        inputs = inputs.view(*index.shape, *inputs.shape[1:])
        targets = gathered(data.train_targets, samples)
        targets = targets.view(*index.shape, *targets.shape[1:])
        if data.center is None:
            return inputs, targets
        out = aligned(inputs.shape, data.center)
        return data.normalise_(out.copy_(inputs)), targets


def planned_steps(settings: Settings, data: Prepared) -> int:
    """The steps of a run."""
    count = len(data.train_targets)
    return settings.total_steps(steps_per_epoch(count, settings.batch_size, settings.last_batch))
