"""Learning-rate schedules, as factors on the optimizer's lr. Lengths are in epochs and may be fractions."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from bnbench.optim import schedules

Schedule = Callable[[int], float]
WarmUp = Annotated[float, Field(ge=0, description="epochs of a linear warm-up; a fraction is allowed")]


def _in_order(milestones: list[float]) -> list[float]:
    """Sorted: their order means nothing. Raises ValueError for one that is repeated, which has no clear meaning."""
    repeated = sorted({milestone for milestone in milestones if milestones.count(milestone) > 1})
    if repeated:
        values = ", ".join(f"{milestone:g}" for milestone in repeated)
        raise ValueError(f"{values} is repeated; name each milestone once, or choose another gamma")
    return sorted(milestones)


Milestones = Annotated[
    list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=1000), AfterValidator(_in_order)
]


@schedules.register("constant")
def constant(total_steps: int, steps_per_epoch: int, *, warmup_epochs: WarmUp = 0.0) -> Schedule:
    """The same learning rate throughout, after an optional linear warm-up."""
    return _with_warmup(lambda step: 1.0, warmup_epochs * steps_per_epoch)


@schedules.register("cosine")
def cosine(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: WarmUp = 0.0,
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> Schedule:
    """Half a cosine from 1 down to final_factor after the last step (Loshchilov & Hutter 2017).

    final_factor: what is left of the learning rate after the last step
    """
    warmup = warmup_epochs * steps_per_epoch

    def factor(step: int) -> float:
        done = (step - warmup) / max(total_steps - warmup, 1)
        return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2

    return _with_warmup(factor, warmup)


@schedules.register("step")
def step(
    total_steps: int,
    steps_per_epoch: int,
    *,
    milestones: Milestones,
    gamma: Annotated[float, Field(gt=0)] = 0.1,
    warmup_epochs: WarmUp = 0.0,
) -> Schedule:
    """Multiply by gamma at every milestone (an epoch), as in He et al. 2015.

    milestones: epochs after which the learning rate drops
    gamma: factor on the learning rate at each of them
    """
    drops = [milestone * steps_per_epoch for milestone in milestones]
    return _with_warmup(lambda index: gamma ** bisect_right(drops, index), warmup_epochs * steps_per_epoch)


def _with_warmup(factor: Schedule, warmup_steps: float) -> Schedule:
    """Linear from 1/warmup_steps at the first step to the schedule's own value (Goyal et al. 2017)."""
    if warmup_steps < 1:
        return factor
    return lambda step: factor(step) * min(1.0, (step + 1) / warmup_steps)
