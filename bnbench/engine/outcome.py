"""How a run ended: not finite, worse than at the start, stuck at chance, or finished (see `study.records.Outcome`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bnbench.study.records import HistoryRow, Outcome

#: A last validation loss above the first by more than this share is worse than at the start.
WORSE = 0.05
#: Where no accuracy can beat a constant guess, a loss that fell by less than this share has learnt nothing.
NO_PROGRESS = 0.01
#: Where one class is large, a loss below the best constant guess by more than this share has learnt.
BETTER = 0.05


def outcome_of(
    history: Sequence[HistoryRow],
    final: Mapping[str, float],
    step_losses: Tensor,
    model: nn.Module,
    val_labels: Tensor,
) -> Outcome:
    """The outcome of a run that ended by itself.

    history: its evaluations, the first before any step. final: every metric at the end. step_losses:
    (steps,) the objective of every step that was taken.
    """
    val_loss = final["val_loss"]
    if not (math.isfinite(val_loss) and bool(step_losses.isfinite().all()) and has_finite_weights(model)):
        return "not_finite"
    first = history[0].metrics["val_loss"]
    if above_chance(final["val_accuracy"], first, val_loss, val_labels):
        return "finished"
    return "worse_than_at_start" if val_loss > (1 + WORSE) * first else "stuck_at_chance"


def has_finite_weights(model: nn.Module) -> bool:
    """Whether every parameter is finite. Buffers don't count: a mask may hold infinities on purpose."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def above_chance(accuracy: float, first_loss: float, last_loss: float, labels: Tensor) -> bool:
    """Whether a run has learnt: it beats what a guess can reach that never looks at its input.

    Its accuracy is above the share of the largest class by 2 binomial standard errors. Where that class
    holds more than half of the samples, a network learns long before its accuracy shows it: there a
    cross-entropy more than 5 % below the entropy of the class shares, the least that a constant guess
    can have, counts too. Where no accuracy can be above chance (one class, or few and one-sided
    samples), so does a loss that fell by 1 % of its start.
    """
    shares = labels.cpu().bincount().double() / len(labels)
    largest = float(shares.max())
    threshold = largest + 2 * math.sqrt(largest * (1 - largest) / len(labels))
    if threshold >= 1 and last_loss <= (1 - NO_PROGRESS) * first_loss:
        return True
    entropy = float(torch.special.entr(shares).sum())
    return accuracy > threshold or (largest > 0.5 and last_loss < (1 - BETTER) * entropy)
