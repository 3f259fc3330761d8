"""Seeds that change nothing, so that all runs of a cell would be one."""

from __future__ import annotations

import torch
from torch import nn

from bnbench.base.seeding import generator
from bnbench.engine.build import build_model
from bnbench.engine.rehearsal.case import Case
from bnbench.tasks import task_of


def why_equal(case: Case, model: nn.Module, draws: bool) -> str:
    """Why all seeds of a cell would be one run; "" where they differ, or there is one.

    model: of the first seed. draws: whether its layers draw random numbers in training.
    """
    if len(case.seeds) < 2 or "split" in case.settings.vary:
        return ""
    vary, sizes = case.settings.vary, case.batches()
    if "order" in vary and (sum(sizes.values()) > 1 or sum(s * n for s, n in sizes.items()) < case.num_train):
        return ""
    if "augmentation" in vary and case.augmentation:
        return ""
    if "init" in vary and _starts_differently(case, model):
        return ""
    if "noise" in vary and (draws or _keeps_noise(model) or _task_draws(case)):
        return ""
    return (
        f"vary: [{', '.join(vary)}]: this changes nothing in a run of {case.label}, so its {len(case.seeds)} seeds "
        f"would be the same run {len(case.seeds)} times. Fix: vary: [init, order], or seeds: 1."
    )


def _starts_differently(case: Case, model: nn.Module) -> bool:
    other = build_model(case.settings, case.sizes, case.seeds[1])
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return any(not torch.equal(one.detach(), another.detach()) for one, another in pairs)


def _task_draws(case: Case) -> bool:
    """Whether the task's batches are drawn."""
    task = task_of(case.settings.task)
    if not task.makes_batches:
        return False
    draw = generator(0, "equal seeds")
    samples = task.made_up_data(case.sizes, 4, draw)
    before = draw.get_state()
    task.batch(*samples, draw)
    return not torch.equal(before, draw.get_state())


def _keeps_noise(model: nn.Module) -> bool:
    return any(callable(getattr(module, "reset_noise", None)) for module in model.modules())
