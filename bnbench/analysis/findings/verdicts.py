"""The verdict on a published claim, and Holm's correction over the claims of one paper.

- reproduced: our 95 % interval lies wholly on the paper's side of the criterion and excludes "no effect", and the 95 %
  prediction interval around our result contains the published number and excludes "no effect". Of an absolute number
  with a tolerance: our interval lies wholly within it.
- direction only: our interval lies on the paper's side, and the size is another one, or is not on the paper's scale, or
  the paper prints none.
- contradicted: our interval lies wholly on the other side, or outside the tolerance; or the prediction interval
  excludes the published absolute number.
- undecided: everything else. A noisy study reproduces nothing.
- not comparable: an absolute number on another scale.

Holm (1979) is over all claims of one paper that were run: the p value of a claim is that of the statement its verdict
makes. A verdict whose corrected p is above 5 % becomes undecided. Prediction intervals stay at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from bnbench.analysis.findings.finding import Claim
from bnbench.analysis.findings.measured import Estimate, Measured
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS, holm
from bnbench.analysis.methods.prediction import Prediction

Verdict = Literal["reproduced", "direction only", "undecided", "contradicted", "not comparable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_NO_CLAIM: tuple[Verdict, ...] = ("undecided", "not comparable")


@dataclass(frozen=True)
class Judged:
    """One claim with what came out.

    ours: mean over the seeds, of a ratio the geometric mean, with its 95 % interval. prediction: where the published
    number would lie. band: the published number with its rounding. p: two-sided, of the statement that the verdict
    makes; p_holm: corrected over `family` claims of the paper; uncorrected: the verdict before that. reason: what
    decided.
    """

    claim: Claim
    n: int
    planned: int
    percent: bool
    verdict: Verdict
    uncorrected: Verdict
    reason: str
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    prediction_low: float | None = None
    prediction_high: float | None = None
    band: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    family: int = 1


@dataclass(frozen=True)
class _Said:
    verdict: Verdict
    reason: str
    p: float | None = None


def judge(claim: Claim, measured: Measured) -> Judged:
    """The verdict of one claim by itself; `corrected` takes the others of its paper into account."""
    band = claim.published.band(ratio=measured.ratio)
    if not measured.is_positive:
        measured = measured.without_values("a side of the ratio is not above 0")
    estimate = measured.estimate()
    low, high = estimate.interval() if estimate else (None, None)
    prediction = measured.prediction(claim.published.runs) if band and claim.scale == "same" else None
    ends = prediction.interval() if prediction else (None, None)
    said = _said(claim, measured, estimate, prediction, band)
    return Judged(
        claim=claim,
        n=measured.n,
        planned=measured.planned,
        percent=measured.percent,
        verdict=said.verdict,
        uncorrected=said.verdict,
        reason=said.reason,
        ours=_outer(measured, estimate.centre) if estimate and math.isfinite(estimate.centre) else None,
        low=_outer(measured, low),
        high=_outer(measured, high),
        prediction_low=_outer(measured, ends[0]),
        prediction_high=_outer(measured, ends[1]),
        band=band,
        p=said.p,
        p_holm=said.p,
    )


def _outer(measured: Measured, number: float | None) -> float | None:
    return None if number is None else measured.outer(number)


def _said(
    claim: Claim,
    measured: Measured,
    estimate: Estimate | None,
    prediction: Prediction | None,
    band: tuple[float, float] | None,
) -> _Said:
    kind = claim.criterion.kind
    absolute = kind == "prediction" or (kind == "within" and claim.criterion.number is None)
    if absolute and claim.scale == "other":
        return _Said("not comparable", "the published number is on another scale")
    if measured.n < measured.planned:
        why = measured.note or "no value"
        return _Said(
            "undecided", f"{measured.planned - measured.n} of {measured.planned} seeds are lost: {why}"
        )
    if estimate is None or measured.n < MIN_SEEDS:
        return _Said("undecided", f"{measured.n} seeds are too few")
    ours = _Ours(claim, measured, estimate, prediction, band)
    if kind == "prediction":
        return ours.against_prediction()
    return ours.against_tolerance() if kind == "within" else ours.against_number()


class _Ours:
    """Our result against the published one, on the scale of the arithmetic (logarithms of ratios)."""

    def __init__(
        self,
        claim: Claim,
        measured: Measured,
        estimate: Estimate,
        prediction: Prediction | None,
        band: tuple[float, float] | None,
    ) -> None:
        self.claim, self.measured, self.estimate, self.prediction = claim, measured, estimate, prediction
        self.band = tuple(map(measured.inner, band)) if band else None
        nothing = claim.no_effect
        if nothing is None and not measured.is_single:
            nothing = 1.0 if measured.ratio else 0.0
        self.nothing = None if nothing is None else measured.inner(nothing)
        self.low, self.high = estimate.interval()

    def against_number(self) -> _Said:
        """`> x` and `< x`."""
        rises = self.claim.criterion.kind == "above"
        number = self.measured.inner(self.claim.criterion.number or 0.0)
        nothing = number if self.nothing is None else self.nothing
        p = self.estimate.p(number, number)
        if _beyond(self.low, self.high, number, rises):
            if not _beyond(self.low, self.high, nothing, rises):  # the criterion allows an effect of nothing
                return self._sized("no more than the criterion allows", p, nothing)
            return self._sized(
                "the interval lies on the paper's side", max(p, self.estimate.p(nothing, nothing)), nothing
            )
        if _beyond(self.low, self.high, nothing, rises):
            return _Said(
                "direction only",
                "the effect is smaller than the criterion asks",
                self.estimate.p(nothing, nothing),
            )
        if _beyond(self.low, self.high, number, not rises):
            return _Said("contradicted", "the interval lies on the other side", p)
        return _Said("undecided", "the interval contains both", p)

    def _sized(self, reason: str, p: float, nothing: float) -> _Said:
        """A direction that holds: whether the size does, too."""
        if self.claim.scale == "other":
            return _Said("direction only", f"{reason}; the size is on another scale", p)
        if self.prediction is None or self.band is None:
            return _Said("direction only", f"{reason}; the paper prints no number", p)
        low, high = self.prediction.interval()
        if low <= nothing <= high:
            return _Said(
                "undecided", "the prediction interval contains no effect: too noisy to reproduce anything", p
            )
        if self.band[1] < low or self.band[0] > high:
            more = "larger" if self.band[1] < low else "smaller"
            return _Said("direction only", f"{reason}; ours is {more} than the published one", p)
        return _Said("reproduced", f"{reason}, and the prediction interval contains the published number", p)

    def against_tolerance(self) -> _Said:
        """`within ...`: of the published number with its rounding, or of a number of the criterion's own."""
        criterion = self.claim.criterion
        if criterion.number is not None:
            middle = (criterion.number, criterion.number)
        else:
            middle = self.claim.published.band(ratio=self.measured.ratio) or (0.0, 0.0)
        size = criterion.tolerance * (abs(sum(middle)) / 2 if criterion.relative else 1.0)
        bounds = (self.measured.inner(middle[0] - size), self.measured.inner(middle[1] + size))
        p_each = [self.estimate.p(bound, bound) for bound in bounds]
        if bounds[0] <= self.low and self.high <= bounds[1]:
            if self.claim.scale == "other":
                return _Said("direction only", "within the tolerance, on another scale", max(p_each))
            return _Said("reproduced", "the interval lies within the tolerance", max(p_each))
        if self.low > bounds[1] or self.high < bounds[0]:
            return _Said("contradicted", "the interval lies outside the tolerance", min(p_each))
        return _Said("undecided", "the interval reaches over the tolerance", max(p_each))

    def against_prediction(self) -> _Said:
        """`prediction interval`: of an absolute number."""
        if self.prediction is None or self.band is None:
            return _Said("not comparable", "the paper prints no number")
        low, high = self.prediction.interval()
        p = self.prediction.p(*self.band)
        if self.band[1] < low or self.band[0] > high:
            return _Said("contradicted", "the published number lies outside the prediction interval", p)
        if self.nothing is not None and low <= self.nothing <= high:
            return _Said(
                "undecided", "the prediction interval contains no effect: too noisy to reproduce anything", p
            )
        nothing_p = self.prediction.p(self.nothing, self.nothing) if self.nothing is not None else 0.0
        return _Said("reproduced", "the published number lies in the prediction interval", nothing_p)


def _beyond(low: float, high: float, number: float, rises: bool) -> bool:
    return low > number if rises else high < number


def corrected(judged: Sequence[Judged], papers: Sequence[str]) -> list[Judged]:
    """Holm's correction over the claims of each paper (`papers`: the paper of each claim), in the given order.

    Claims that are not comparable make no statement, so they don't count.
    """
    result = list(judged)
    groups: dict[str, list[int]] = {}
    for index, (one, paper) in enumerate(zip(judged, papers, strict=True)):
        if one.p is not None:
            groups.setdefault(paper, []).append(index)
    for indices in groups.values():
        adjusted = holm([judged[index].p or 0.0 for index in indices])
        for index, p in zip(indices, adjusted, strict=True):
            one = replace(judged[index], p_holm=p, family=len(indices))
            if one.verdict not in _NO_CLAIM and p > ALPHA:
                reason = f"{one.verdict} before Holm's correction over {len(indices)} claims"
                one = replace(one, verdict="undecided", reason=reason)
            result[index] = one
    return result


def counts(judged: Sequence[Judged]) -> Mapping[Verdict, int]:
    """How many claims have each verdict."""
    return {verdict: sum(one.verdict == verdict for one in judged) for verdict in VERDICTS}
