"""How a run ended: not finite, worse than at the start, stuck at chance, or finished (see `records.Outcome`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from bnbench.data.prepared import Prepared
from bnbench.study.records import HistoryRow, Outcome
from bnbench.tasks import Task

#: A last validation loss above the first by more than this share is worse than at the start.
WORSE = 0.05


def outcome_of(
    history: Sequence[HistoryRow],
    final: Mapping[str, float],
    step_losses: Tensor,
    model: nn.Module,
    task: Task,
    data: Prepared,
) -> Outcome:
    """The outcome of a run that ended by itself.

    history: its evaluations, the first before any step. final: every metric at the end. step_losses:
    (steps,) the objective of every step that was taken. task: it says what being above chance means,
    on this data.
    """
    val_loss = final["val_loss"]
    if not (math.isfinite(val_loss) and bool(step_losses.isfinite().all()) and has_finite_weights(model)):
        return "not_finite"
    if not len(step_losses):
        return "finished"  # all of its steps, of which there are none: it is neither stuck nor worse
    first = history[0].metrics
    if task.learnt(first, final, data):
        return "finished"
    # of a loss that may be negative, 5 % of its size
    return (
        "worse_than_at_start"
        if val_loss > first["val_loss"] + WORSE * abs(first["val_loss"])
        else "stuck_at_chance"
    )


def has_finite_weights(model: nn.Module) -> bool:
    """Whether every parameter is finite. Buffers don't count: a mask may hold infinities on purpose."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())
