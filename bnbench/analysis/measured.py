"""What an expression came to on a study's results: its interval, its verdict and its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from bnbench.analysis.quantities import Unit
from bnbench.study.expressions import Sign

#: confirmed: the whole 95 % interval lies on the claimed side. refuted: the whole on the other. not_confirmed: shown to
#: be the same within the margin (the 90 % interval lies inside it). depends: parts of a claim disagree.
Verdict = Literal["confirmed", "refuted", "not_confirmed", "undecided", "depends"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
#: Why there is no interval, or no verdict from it. cut: the number lies beyond the end of the sweep or of the budget.
Reason = Literal[
    "",
    "pairs_lost",
    "runs_missing",
    "too_few_seeds",
    "no_scatter",
    "not_positive",
    "same_results",
    "cut",
    "not_measured",
]
Method = Literal["t", "bootstrap", "exact"]


@dataclass(frozen=True)
class Measured:
    """What an expression came to.

    difference: whether it is a difference of quantities.
    value: the mean over the seeds (of a ratio the geometric one); of numbers between bounds the middle of what it can
        be, None where that is open on a side.
    low, high: its 95 % interval, None where it is open.
    inner_low, inner_high: the 90 % interval that is held against the margin.
    margin: what counts as the same, of a ratio as a share.
    values: the bounds of each seed, of a ratio of the ratio.
    lost: pairs of ended runs without a number, by the reason.
    censored: numbers that are known on one side alone.
    """

    text: str
    unit: Unit
    difference: bool
    sign: Sign
    limit: float
    ratio: bool
    n: int
    n_planned: int
    verdict: Verdict = "undecided"
    reason: Reason = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    inner_low: float | None = None
    inner_high: float | None = None
    margin: float | None = None
    method: Method = "t"
    values: tuple[tuple[int, float, float], ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
    censored: int = 0
