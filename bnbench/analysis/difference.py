"""A paired difference: one metric of one variant and its baseline, with its uncertainty and its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bnbench.analysis.methods.intervals import ALPHA
from bnbench.analysis.pairs import Phase
from bnbench.study.labels import Labelled, cell_label

Verdict = Literal["better", "worse", "same", "undecided", "pairs_lost", "too_few_seeds"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Method = Literal["t", "bootstrap"]


@dataclass(frozen=True)
class Difference(Labelled):
    """A variant minus its baseline, in one metric, paired by seed.

    at: "final" (after the last step) or "best" (at the lowest validation loss). difference: mean
    over the n of n_planned seeds where both have a finite number. values: the difference of each seed. lost:
    how many pairs lack a finite number, by the reason (see `Pairs`); a comparison that lost a pair has no verdict.
    grain: the largest change that one sample can make; no scatter below grain/√6 is believed. None
    where nothing bounds it; then equal differences of fewer than 6 seeds have no interval.
    ci_low, ci_high: the 95 % interval by `method` ("t"; "bootstrap" from 20 pairs on) for new seeds on
    these samples, not corrected for the number of comparisons. new_low, new_high: 95 % interval for
    new samples from the same source, never narrower (see `new_samples`); None where the answers on
    single test samples are not there. p: two-sided, of the same method. p_holm: p after Holm's
    correction over the `family` comparisons that verdicts were asked for; None without a verdict.
    family_low, family_high: the interval that all of the family hold together (at 5 % / family).
    sign_flip_p: from 6 pairs on. welch_low, welch_high: 95 % interval as if the runs were not
    paired. rho: correlation over the seeds, None where undefined; pairing pays where it is well
    above 0. better_share: of the seeds, ties one half, with Wilson's 95 % interval: how probable it is
    that the variant is better with a new seed. detectable: the true difference that n seeds with this
    scatter find in 4 studies of 5, and detectable_low, detectable_high: as well as n seeds know
    the scatter; two-sided at 5 % / family, None where n < 3. margin: what the study declares as no
    difference in this metric; seeds_for_margin: how many seeds find a true difference of that size;
    inner_low, inner_high: the 90 % t interval that is held against it; margin_p: p of the two
    one-sided tests, after Holm. twin: the first comparison of the family that has the same
    results, which counts for both. uncorrected: the verdict before Holm's correction and the margin.
    verdict, uncorrected: None where no verdict was asked for: any metric but the primary one.
    """

    baseline: str
    baseline_setting: Mapping[str, Any]
    metric: str
    at: Phase
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_planned: int
    values: tuple[tuple[int, float], ...]
    welch_low: float | None
    welch_high: float | None
    rho: float | None
    verdict: Verdict | None
    uncorrected: Verdict | None
    lost: Mapping[str, int] = field(default_factory=dict)
    grain: float | None = None
    new_low: float | None = None
    new_high: float | None = None
    num_samples: int | None = None
    method: Method = "t"
    p: float | None = None
    p_holm: float | None = None
    family: int = 1
    family_low: float | None = None
    family_high: float | None = None
    sign_flip_p: float | None = None
    better_share: float | None = None
    better_low: float | None = None
    better_high: float | None = None
    detectable: float | None = None
    detectable_low: float | None = None
    detectable_high: float | None = None
    margin: float | None = None
    seeds_for_margin: int | None = None
    inner_low: float | None = None
    inner_high: float | None = None
    margin_p: float | None = None
    twin: str | None = None

    @property
    def baseline_label(self) -> str:
        """For example "none", or "none @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.baseline, self.baseline_setting)

    @property
    def checks_disagree(self) -> bool:
        """Whether t (or the bootstrap) and the sign-flip test differ at 5 %, before any correction."""
        if self.p is None or self.sign_flip_p is None or self.verdict in (None, "pairs_lost"):
            return False
        return (self.p <= ALPHA) != (self.sign_flip_p <= ALPHA)
