"""Batches of other sizes: none, one value, one sample, and many samples."""

from __future__ import annotations

import torch

from bnbench.verification.cause import Cause
from bnbench.verification.causes import ghost_causes
from bnbench.verification.checklist import check
from bnbench.verification.fit import deviation
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.rules import hold
from bnbench.verification.subject import CHANNELS, TOLERANCE, Subject

#: Large enough for ghost batches of 512 to show, and a multiple of no usual size.
_MANY = 603
_GHOST_SIZES = (*range(2, 65), 96, 100, 128, 192, 200, 250, 256, 300, 500, 512)
_GHOST_COUNTS = (2, 3, 4, 5, 6, 8, 10, 16, 32, 64)


@check("larger batch")
def larger(subject: Subject) -> None:
    """Many samples are normalized as a few are: with statistics of the whole batch."""
    if subject.forward_is_wrong:
        raise Skip("the output is wrong already")
    x = subject.data("larger", samples=_MANY)
    y = subject.output(subject.layer(), x).detach()

    def causes() -> tuple[Cause, ...]:
        for cause in ghost_causes((*_GHOST_SIZES, *(-count for count in _GHOST_COUNTS))):
            predicted = subject.training_under(cause.applied(subject.rules.right), x)["forward"]
            if deviation(y, predicted, 1) <= TOLERANCE:
                return (cause,)
        return ()

    hold(deviation(y, subject.forward_expected(x), 1), TOLERANCE, causes)
    x[0] *= 1000  # some 20 deviations from the mean, which few values cannot be
    y = subject.output(subject.layer(), x).detach()
    hold(deviation(y, subject.forward_expected(x), 1), TOLERANCE, quantity="the output with an outlier")


@check("one value in training", group="library")
def one_value(subject: Subject) -> None:
    """One value per channel has no variance: refused (as torch does), or at least no NaN comes of it."""
    subject.output(subject.layer(), subject.data("forward"))  # an error here would be no refusal
    layer, x = subject.layer(), torch.ones(1, CHANNELS, *[1] * (subject.rank - 2))
    try:
        y = subject.output(layer, x)
    except Wrong:
        raise
    except Exception:
        return  # refused
    kept = [] if subject.statistics_are != "tensors" else list(subject.statistics(layer))
    if not all(bool(part.isfinite().all()) for part in (y, *kept)):
        raise Wrong(
            "one value per channel gives NaN or infinity, without an error",
            causes=[
                "n - 1 is 0 for one value per channel: running_var is NaN from then on; torch refuses such a "
                "batch with ValueError"
            ],
        )


@check("one sample of many positions", ranks=(3, 4, 5))
def one_sample(subject: Subject) -> None:
    """A single sample with several positions has statistics, and is normalized as any batch."""
    if subject.forward_is_wrong:
        raise Skip("the output is wrong already")
    x = subject.data("forward")[:1]
    y = subject.output(subject.layer(), x).detach()
    hold(deviation(y, subject.forward_expected(x), 1), TOLERANCE)


@check("empty batch", group="library")
def empty(subject: Subject) -> None:
    """A batch without samples comes out empty (as from torch's layer) or is refused; no NaN comes of it."""
    layer = subject.layer()
    try:
        y = subject.output(layer, subject.data("forward")[:0])
    except Wrong:
        raise
    except Exception:
        return  # refused
    kept = [] if subject.statistics_are != "tensors" else list(subject.statistics(layer))
    if y.numel() or not all(bool(part.isfinite().all()) for part in kept):
        raise Wrong(
            "an empty batch makes the running statistics NaN or infinite",
            causes=["the mean of no values is NaN: return early where x.numel() == 0"],
        )
