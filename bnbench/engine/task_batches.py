"""The batches that a task makes of samples, in training, in evaluation and for a look inside a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from bnbench.base.seeding import generator
from bnbench.base.stacked import aligned
from bnbench.data import Sizes
from bnbench.data.prepared import Prepared
from bnbench.study import Choice, Settings
from bnbench.tasks import Task, task_of

#: Samples in one evaluation batch at most, and input or output values in it: larger ones allocate too much memory.
EVAL_BATCH, EVAL_VALUES = 1000, 2**20
#: Minimum batch size, even for large inputs.
EVAL_LEAST = 32

Pair = tuple[Tensor, Tensor]


def task_draws(settings: Settings, seeds: Sequence[int], epoch: int) -> list[torch.Generator]:
    """The generators of what a task draws in an epoch, one a run; none where it leaves samples as they are.

    They follow from each run's source "noise" and the epoch.
    """
    if not task_of(settings.task).makes_batches:
        return []
    return [generator(settings.seed_of("noise", seed), "batch", epoch) for seed in seeds]


def training_batches(
    settings: Settings, draws: Sequence[torch.Generator]
) -> Callable[[Tensor, Tensor], Pair] | None:
    """From samples (S, N, ...) of a step to what the task makes of them; None where it leaves them as they are.

    draws: see `task_draws`.
    """
    task = task_of(settings.task)
    if not task.makes_batches:
        return None

    def made(inputs: Tensor, targets: Tensor) -> Pair:
        pairs = [task.batch(*each) for each in zip(inputs, targets, draws, strict=True)]
        first, second = zip(*pairs, strict=True)
        return _side_by_side(first), _side_by_side(second)

    return made


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """(S, N, ...), each replica's at an aligned place."""
    if len(parts) == 1:
        return parts[0].unsqueeze(0)
    out = aligned((len(parts), *parts[0].shape), parts[0])
    for place, part in zip(out, parts, strict=True):
        place.copy_(part)
    return out


def largest_batch(inputs: Tensor, sizes: Sizes | None = None) -> int:
    """Samples of an evaluation batch of such inputs (N, ...) at most. sizes: where outputs may be the larger ones."""
    values = max(1, inputs[0].numel())
    if sizes is not None and sizes.per_position:
        values = max(values, positions(sizes) * sizes.num_outputs)
    return max(EVAL_LEAST, min(EVAL_BATCH, EVAL_VALUES // values))


def positions(sizes: Sizes) -> int:
    """Of one sample: tokens or steps of a sequence (T,) or (T, features), pixels of an image (C, H, W)."""
    return math.prod(sizes.input_shape[1:]) if len(sizes.input_shape) == 3 else sizes.input_shape[0]


def evaluation_batches(
    task: Task, pair: Pair, part: str, sizes: Sizes, size: int | None = None
) -> Iterator[Pair]:
    """A part in near-equal batches, so that no batch is a single sample beside a full one; as the task makes them.

    part: its name, which with nothing else says what the task draws: it is the same for all runs, and for batches of
    any size. size: samples of a batch at most, where that matters.
    """
    largest = largest_batch(pair[0], sizes)
    if not task.makes_batches:
        yield from _cut(pair, size or largest)
        return
    draw = generator(0, "batch", part)
    made = (task.batch(inputs, targets, draw) for inputs, targets in _cut(pair, largest))
    if size is None:
        yield from made
    else:
        first, second = zip(*made, strict=True)
        yield from _cut((torch.cat(first), torch.cat(second)), size)


def _cut(pair: Pair, size: int) -> Iterator[Pair]:
    count = math.ceil(len(pair[0]) / size)
    yield from zip(pair[0].tensor_split(count), pair[1].tensor_split(count), strict=True)


def made_up_prepared(
    task: Choice, sizes: Sizes, counts: Sequence[int], draw: torch.Generator, device: torch.device
) -> Prepared:
    """Noise in the shape of a data set. counts: samples to train on, and of each other part."""
    known = task_of(task)
    made = [known.made_up_data(sizes, count, draw) for count in counts]
    train, other = ((inputs.to(device), targets.to(device)) for inputs, targets in made)
    numbers = train[0].is_floating_point()
    return Prepared(
        *train,
        *other,
        *other,
        *other,
        class_names=tuple(map(str, range(sizes.num_outputs))) if known.facts.per_class else (),
        task=task,
        sizes=sizes,
        fingerprint="",
        center=torch.zeros((), device=device) if numbers else None,
        scale=torch.ones((), device=device) if numbers else None,
        notes=(),
    )
