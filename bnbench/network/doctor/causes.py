"""The likely cause of a train/eval gap at a layer, with its evidence: tried from the surest to the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.network.doctor.data import PatientData
from bnbench.network.doctor.dropout_shift import Shift
from bnbench.network.doctor.gap import square_gap
from bnbench.network.doctor.padding_effect import PaddingEffect
from bnbench.network.doctor.passes import LayerStatistics
from bnbench.network.files.checkpoint import CheckpointReport
from bnbench.network.statistics import StatisticsLayer

#: A cause must explain that share of the gap: without it the gap is at most the rest.
_REST = 0.5
#: The least of the initial values that is called left, and the share of the deviation that it must explain.
_LEFT, _FIT = 0.02, 0.8
#: A momentum that forgets the initial values within some dozens of steps.
_USUAL = 0.1
#: Two calls of a layer see two distributions where their statistics lie that many standard deviations apart.
_APART = 0.25
#: A window of fewer batches than 1 / m is noise.
_LARGE_MOMENTUM = 0.5

#: What mends the statistics of a trained network.
PRECISE = "bnbench.precise_statistics(model, batches) estimates them again"

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Cause:
    """text: a clause after "likely cause:". evidence: what speaks for it, with a number. fix: text to follow."""

    text: str
    evidence: str
    fix: str


@dataclass(frozen=True, eq=False)
class Case:
    """What is known of the layer at which the gap opens first.

    momentum: as `kept new`, torch's convention, None where it has none. steps: updates that it counted, None where it
    counts none. is_first: no layer with running statistics runs before it.
    """

    layer: StatisticsLayer
    module: nn.Module
    statistics: LayerStatistics
    running: Pair
    momentum: float | None
    is_first: bool
    data: PatientData
    checkpoint: CheckpointReport | None = None
    shift: Shift | None = None
    padding: PaddingEffect | None = None

    @property
    def steps(self) -> int | None:
        """Updates that the layer counted, None where it counts none."""
        counter = getattr(self.module, "num_batches_tracked", None)
        return int(counter) if isinstance(counter, Tensor) and counter.numel() == 1 else None

    def gap_to(self, own: Pair) -> float:
        """The gap of the running statistics to others than the precise ones."""
        return math.sqrt(float(square_gap(self.running, own, self.layer.form.eps or 0.0)))

    @property
    def gap(self) -> float:
        """To the precise ones."""
        return self.gap_to(self.statistics.total)


def likely_cause(case: Case) -> Cause:
    """The first that its evidence speaks for."""
    for one in _ORDER:
        for cause in one(case):
            return cause
    return Cause(
        "the weights moved after the statistics were taken (averaged weights, fine-tuning with frozen statistics, "
        "large last steps), or training saw other inputs",
        "no other cause explains half of the gap",
        f"{PRECISE}; do so again after weights are averaged",
    )


def _missing(case: Case) -> Iterator[Cause]:
    """A checkpoint without the buffers."""
    if case.checkpoint is None:
        return
    buffers = [f"{case.layer.name}.{name}".lstrip(".") for name in ("running_mean", "running_var")]
    if lost := [key for key in buffers if key in case.checkpoint.missing]:
        total = sum(key.endswith(("running_mean", "running_var")) for key in case.checkpoint.missing)
        yield Cause(
            "the checkpoint has no running statistics for it",
            f"{' and '.join(lost)} missing, {total} buffers of statistics in all",
            "save and load state_dict() with its buffers, not the parameters alone",
        )


def _never(case: Case) -> Iterator[Cause]:
    """Initial values."""
    mean, var = case.running
    if bool((mean == 0).all()) and bool((var == 1).all()):
        counted = "" if case.steps is None else f", {case.steps} updates counted"
        yield Cause(
            "its statistics were never updated",
            f"mean 0 and variance 1 in every channel{counted}",
            "send training batches through it in train() mode, or load a checkpoint with its buffers",
        )


def _two_distributions(case: Case) -> Iterator[Cause]:
    """One layer, called at two places."""
    calls = case.statistics.calls
    if not calls or min(map(len, calls)) < 2:
        return
    first, last = (
        LayerStatistics(
            torch.tensor([of_batch[place][0] for of_batch in calls], dtype=torch.float64),
            torch.stack([of_batch[place][1] for of_batch in calls]),
            torch.stack([of_batch[place][2] for of_batch in calls]),
            (),
        ).total
        for place in (0, -1)
    )
    apart = float(square_gap(first, last, case.layer.form.eps or 0.0)) ** 0.5
    if apart >= _APART:
        yield Cause(
            f"it is called {len(calls[0])} times in a forward pass and sees two distributions",
            f"the statistics of the first and the last call lie {apart:.2g} standard deviations apart",
            "a layer of its own at each place",
        )


def _too_few_steps(case: Case) -> Iterator[Cause]:
    """A share of the initial values is left: running = (1 - a) own + a initial, fitted by least squares."""
    (mean_r, var_r), (mean, var) = case.running, case.statistics.total
    scale = (var + (case.layer.form.eps or 1e-12)).clamp(min=1e-12)
    moved = torch.cat([(mean_r - mean) / scale.sqrt(), (var_r - var) / scale])
    towards = torch.cat([-mean / scale.sqrt(), (1 - var) / scale])
    left = float(moved @ towards / (towards @ towards).clamp(min=1e-300))
    rest = float((moved - left * towards).square().sum() / moved.square().sum().clamp(min=1e-300))
    if not (_LEFT < left <= 1.05 and 1 - rest >= _FIT):
        return
    if case.momentum and case.steps and 4 * (1 - case.momentum) ** case.steps < left:
        return  # so many steps leave less: something else looks like it
    usual = case.momentum is not None and case.momentum >= _USUAL
    if usual and not case.steps:
        return  # a dozen steps leave less
    evidence = f"{min(left, 1):.0%} of mean 0 and variance 1 is left in them"
    if case.momentum and case.steps:
        expected = (1 - case.momentum) ** case.steps
        evidence += (
            f"; momentum {case.momentum:g} leaves {expected:.0%} after the {case.steps} updates counted"
        )
    more = "a longer training" if usual else "momentum=0.1, or None (the average of all batches)"
    yield Cause(
        "its momentum is too small for the steps that were made",
        evidence,
        f"{more}; for this network {PRECISE}",
    )


def _dropout(case: Case) -> Iterator[Cause]:
    """Statistics that were taken with noise on."""
    if case.shift is not None and case.gap_to(case.shift.training) < _REST * case.gap:
        yield Cause(
            f"{case.shift.by} before it is on where the statistics are taken and off where they are used",
            f"the variance of its inputs is {case.shift.ratio.value:.2f} times as large in training; with it on the "
            f"gap is {case.gap_to(case.shift.training):.2g}",
            "put the dropout after the last normalization, or use a normalizer without running statistics",
        )


def _padding(case: Case) -> Iterator[Cause]:
    if (
        case.padding is not None
        and case.padding.name
        and case.padding.name
        in (
            case.layer.name,
            case.layer.name.rpartition(".")[0],
        )
    ):
        yield Cause(
            "padding is part of its statistics, and batches have more or less of it",
            f"more padding moves valid positions by up to {case.padding.moved:.2g} standard deviations",
            "a normalizer that takes the mask (masked_batch), or one of each position (layer)",
        )


def _within(case: Case) -> Iterator[Cause]:
    """The mean of the batches' variances, without what lies between batches."""
    one = case.statistics
    counts = one.counts[:, None]
    corrected = one.variances * counts / (counts - 1).clamp(min=1)
    share = one.counts / one.counts.sum()
    within = share @ corrected
    mean, var = one.total
    between = float(((var - share @ one.variances) / var.clamp(min=1e-300)).median())
    if case.gap_to((mean, within)) < _REST * case.gap:
        yield Cause(
            "batches are too small, or each holds samples of one kind: a batch's variance leaves out what lies between "
            "batches",
            f"{between:.0%} of the variance lies between batches",
            f"shuffled and larger batches; for this network {PRECISE}",
        )


def _window(case: Case) -> Iterator[Cause]:
    if case.momentum is not None and case.momentum >= _LARGE_MOMENTUM:
        yield Cause(
            "its momentum keeps little more than the last batch",
            f"momentum {case.momentum:g}: {case.momentum:.0%} of the statistics are of the last batch",
            f"momentum=0.1; for this network {PRECISE}",
        )


def _other_inputs(case: Case) -> Iterator[Cause]:
    """Nothing lies between the data and it that could have moved."""
    if not case.is_first:
        return
    (mean_r, var_r), (mean, var) = case.running, case.statistics.total
    eps = case.layer.form.eps or 1e-12
    shift = ((mean - mean_r).square() / (var_r + eps)).mean().sqrt()
    ratio = ((var + eps) / (var_r + eps)).log().abs().quantile(0.9).exp()
    yield Cause(
        "these inputs are not like those of training (another scale or offset, preprocessing, domain or augmentation)",
        f"it is the first layer with statistics; means differ by {float(shift):.2g} standard deviations (root mean "
        f"square of its channels), variances by a factor of {float(ratio):.2g} or more in a tenth of them",
        "the preprocessing of training; where the data is new on purpose, its own statistics: evaluate: [batch]",
    )


_ORDER: tuple[Callable[[Case], Iterator[Cause]], ...] = (
    _missing,
    _never,
    _two_distributions,
    _too_few_steps,
    _dropout,
    _padding,
    _within,
    _window,
    _other_inputs,
)
