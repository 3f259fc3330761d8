"""`seeds: auto`: the boundaries, and where studies with answers by hand stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bnbench.analysis.contents import Summary
from bnbench.analysis.methods.sequential import (
    Seen,
    Track,
    decide,
    is_futile,
    needed_t,
    repeated_interval,
    weights,
)
from bnbench.analysis.new_samples import new_samples_interval
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.stops import follow, spent_rates
from bnbench.analysis.summary import summarize
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin
from bnbench.study.records import RunRecord
from tests.fabricated import cell, record, results

#: |t| that is needed, computed apart from this code: t_(n-1)(1 - 0.05 w / 2m), to two digits.
BOUNDARIES = {
    ((5, 8, 12, 20), 1): (6.36, 4.05, 3.11, 2.31),
    ((5, 8, 12, 20), 2): (7.66, 4.62, 3.50, 2.64),
    ((5, 8, 12, 20), 5): (9.73, 5.43, 4.02, 3.06),
    ((5, 8, 12, 20), 20): (13.88, 6.84, 4.86, 3.68),
    ((5, 8, 12, 20, 30), 1): (7.90, 4.72, 3.56, 2.70, 2.32),
    ((5, 8, 12, 20, 30), 5): (11.99, 6.23, 4.51, 3.42, 3.00),
    ((5, 8, 12, 20, 30, 40), 1): (9.18, 5.23, 3.89, 2.96, 2.57, 2.39),
    ((5, 8, 12, 20, 30, 40), 5): (13.88, 6.84, 4.86, 3.68, 3.22, 3.03),
    ((5, 8, 10), 1): (4.31, 3.02, 2.89),
    ((5, 8, 10), 5): (6.76, 4.23, 3.90),
}
LOOKS = (5, 8, 12, 20)
#: Mean 0 and standard deviation 1 over the first 5, 8, 12 and 20: differences with any effect are made of it.
UNIT = {
    n: [(-1) ** i * math.sqrt((n - 1) / (n - n % 2)) if i < n - n % 2 else 0.0 for i in range(n)]
    for n in LOOKS
}


@pytest.mark.parametrize(("looks", "comparisons"), BOUNDARIES)
def test_the_boundaries(looks: tuple[int, ...], comparisons: int) -> None:
    found = [needed_t(looks, index, comparisons) for index in range(len(looks))]
    assert found == pytest.approx(BOUNDARIES[looks, comparisons], abs=0.005)


def test_the_shares_of_five_per_cent() -> None:
    assert weights(LOOKS) == pytest.approx((0.0625, 0.0975, 0.2, 0.64))
    assert sum(weights((5, 8, 12, 20, 30, 40))) == pytest.approx(1)
    assert weights((5,)) == (1.0,)


def test_the_repeated_interval_excludes_0_where_t_is_needed_and_not_before() -> None:
    for index, n in enumerate(LOOKS):
        limit = needed_t(LOOKS, index) / math.sqrt(n)
        assert repeated_interval(limit * 1.001, 1.0, n, weights(LOOKS)[index])[0] > 0
        assert repeated_interval(limit * 0.999, 1.0, n, weights(LOOKS)[index])[0] < 0


def test_the_sequential_p_never_grows_and_keeps_its_direction() -> None:
    track = Track()
    for p, weight, rises, now in (
        (0.01, 0.0625, False, 0.16),
        (0.5, 0.0975, True, 0.16),
        (0.02, 0.2, True, 0.1),
    ):
        track.take(Seen(p, rises), weight)
        assert track.p == pytest.approx(now)
    assert track.rises
    track.take(Seen(0.9, False), 0.64)
    assert (track.p, track.rises, track.num_looks) == (pytest.approx(0.1), True, 4)


def test_holm_runs_over_all_and_a_decided_one_keeps_its_p() -> None:
    first, second = Track(), Track()
    first.take(Seen(0.001, True), 0.0625)  # P 0.016, twice 0.032
    second.take(Seen(0.0025, False), 0.0625)  # P 0.04 stays 0.04 after the first
    decide([first, second], "ab")
    assert (first.p_holm, second.p_holm) == pytest.approx((0.032, 0.04))
    assert (first.decided, second.decided, second.rises) == ("different", "different", False)
    alone, weak = Track(), Track()
    alone.take(Seen(0.002, True), 0.0625)  # P 0.032, twice 0.064
    weak.take(Seen(0.5, True), 0.0625)
    decide([alone, weak], "ab")
    assert (alone.decided, alone.stopped) == ("", "")


def test_the_margin_counts_first_and_no_verdict_is_taken_back() -> None:
    track = Track()
    track.take(Seen(0.0001, True, margin_p=0.001), 0.0625)
    decide([track], "a")
    assert (track.decided, track.stopped) == ("same", "decided")
    sure = Track()
    sure.take(Seen(0.0001, True, margin_p=0.5), 0.0625)
    decide([sure], "a")
    sure.margin_p = 0.0
    decide([sure], "a")
    assert sure.decided == "different"


def test_a_lost_pair_decides_nothing() -> None:
    track = Track()
    track.take(Seen(0.0, True, lost=True), 0.0625)
    decide([track], "a")
    assert (track.p, track.decided, track.stopped) == (1.0, "", "lost")


def test_a_pair_that_is_lost_later_is_not_decided_when_the_others_are() -> None:
    lost, other = Track(), Track()
    lost.take(Seen(0.002, True), 0.0625)  # P 0.032, twice 0.064
    other.take(Seen(0.5, True), 0.0625)
    decide([lost, other], "ab")
    lost.take(Seen(1.0, True, lost=True), 0.0975)
    other.take(Seen(1e-6, True), 0.0975)
    decide([lost, other], "ab")
    assert (other.decided, lost.p_holm) == ("different", pytest.approx(0.032))
    assert (lost.decided, lost.stopped) == ("", "lost")


def test_giving_up() -> None:
    # at 8 of 20: (0.1 + 1/√8) √20 = 2.03 < t_19(1 - 0.032/2) = 2.31; 0.2 gives 2.48
    assert is_futile(0.1, 1.0, 8, LOOKS)
    assert not is_futile(0.2, 1.0, 8, LOOKS)
    assert not is_futile(0.0, 1.0, 5, LOOKS)  # five seeds hardly know their scatter
    assert not is_futile(0.0, 1.0, 20, LOOKS)
    # a margin of 0.5 could still be shown: 0.5 √20 = 2.24 > t_19(1 - 0.032) = 1.97; one of 0.4 (1.79) could not
    assert stats.t.ppf(1 - 0.05 * 0.64, 19) == pytest.approx(1.97, abs=0.005)
    assert not is_futile(0.0, 1.0, 8, LOOKS, margin=0.5)
    assert is_futile(0.0, 1.0, 8, LOOKS, margin=0.4)


def study(
    variants: dict[str, Sequence[float]], margin: float | None = None, num_base: int = 20
) -> StudyResults:
    """The losses of each variant seed by seed, against a baseline of 0; the first 5, 8 … of 20 seeds may be there."""
    runs = {"none": [0.0] * num_base, **variants}
    cells = []
    for name, losses in runs.items():
        records = tuple(
            RunRecord(name, {}, seed, name, name, "finished", final={"test_loss": loss})
            for seed, loss in enumerate(losses)
        )
        cells.append(Cell(name, {}, name, tuple(range(20)), records))
    wanted = Margin("test_loss", margin) if margin else None
    return StudyResults("demo", "none", (), tuple(cells), primary="test_loss", margin=wanted, looks=LOOKS)


def shown(summary: Summary) -> dict[str, tuple[str, int]]:
    """Verdict and seeds of each variant."""
    return {
        c.variant: (c.verdict, c.n) for c in summary.comparisons if (c.metric, c.at) == ("test_loss", "final")
    }


def effect(size: float, n: int) -> list[float]:
    """n losses with that mean and a standard deviation of 1."""
    return [size + value for value in UNIT[n]]


def test_the_material_has_the_scatter_that_it_says() -> None:
    for n in LOOKS:
        assert (stats.tmean(UNIT[n]), stats.tstd(UNIT[n])) == pytest.approx((0, 1), abs=1e-12)


@pytest.mark.parametrize(("size", "verdict"), [(2.9, "worse"), (-2.9, "better"), (2.8, "undecided")])
def test_the_first_look_decides_from_6_36_standard_errors_on(size: float, verdict: str) -> None:
    # 6.36 / √5 = 2.844
    course = follow(study({"batch": effect(size, 5)}, num_base=5))
    assert course.judged["batch"].verdict == verdict
    assert course.wanted == ({} if verdict != "undecided" else {"batch": 8, "none": 8})


def test_a_decided_variant_gets_no_more_seeds_and_the_baseline_goes_on() -> None:
    course = follow(study({"batch": effect(9, 5), "layer": effect(0.5, 5)}, num_base=5))
    assert course.wanted == {"layer": 8, "none": 8}
    assert [(stop.variant, stop.seeds, stop.stopped) for stop in course.stops] == [
        ("none", 5, ""),
        ("batch", 5, "decided"),
        ("layer", 5, ""),
    ]
    later = follow(study({"batch": effect(9, 5), "layer": effect(1.7, 8)}, num_base=8))
    assert (later.judged["layer"].verdict, later.judged["layer"].n) == ("worse", 8)
    assert not later.wanted


def test_runs_beyond_the_stop_are_not_used_and_those_before_a_look_are_not_shown() -> None:
    more = summarize(study({"batch": [*effect(9, 5), -50.0, -50.0, -50.0]}))
    assert shown(more)["batch"] == ("worse", 5)
    assert [len(variant.seeds) for variant in more.variants] == [5, 5]
    assert any("18 runs lie beyond the look" in warning for warning in more.warnings)
    partly = summarize(study({"batch": [*effect(0.5, 5), 7.0]}, num_base=7))
    assert shown(partly)["batch"] == ("undecided", 5)
    assert any("the look at 8 seeds is not complete" in warning for warning in partly.warnings)
    none_yet = summarize(study({"batch": [9.0, 9.1, 9.2, 9.3]}, num_base=4))
    assert shown(none_yet)["batch"] == ("too_few_seeds", 4)
    assert [variant.outcomes["missing"] for variant in none_yet.variants] == [1, 1]


def test_the_interval_agrees_with_the_verdict() -> None:
    found = follow(study({"batch": effect(1.5, 8)}, num_base=8)).judged["batch"]
    # t_7(1 - 0.05 · 0.0975 / 2) / √8 = 1.432
    assert (found.ci_low, found.ci_high) == pytest.approx((1.5 - 1.432, 1.5 + 1.432), abs=2e-3)
    assert found.p == pytest.approx(2 * stats.t.sf(1.5 * math.sqrt(8), 7) / 0.0975)
    assert found.verdict == "worse"


def test_futility_stops_at_8_without_a_verdict() -> None:
    course = follow(study({"batch": effect(0.05, 8)}, num_base=8))
    assert not course.wanted
    assert course.judged["batch"].verdict == "undecided"
    assert [stop.stopped for stop in course.stops] == ["follows", "unlikely"]


def test_the_same_within_the_margin() -> None:
    # TOST at 8 seeds: (2 - 0.05) √8 = 5.5, p 4.5e-4; over 0.0975 that is 0.0046
    course = follow(study({"batch": effect(0.05, 8)}, margin=2.0, num_base=8))
    found = course.judged["batch"]
    assert found.verdict == "same"
    assert found.margin_p == pytest.approx(stats.t.sf(1.95 * math.sqrt(8), 7) / 0.0975, rel=1e-6)


def test_a_pair_that_is_lost_is_not_decided() -> None:
    course = follow(study({"batch": [9.0, 9.1, math.nan, 9.0, 9.2]}, num_base=5))
    assert course.judged["batch"].verdict == "pairs_lost"
    assert not course.wanted


def test_at_the_last_look_everything_stops() -> None:
    course = follow(study({"batch": effect(0.45, 20)}))
    assert [stop.stopped for stop in course.stops] == ["follows", "last"]
    assert (course.judged["batch"].verdict, course.judged["batch"].n) == ("undecided", 20)
    assert follow(study({"batch": effect(0.53, 20)})).judged["batch"].verdict == "worse"  # 2.31 / √20 = 0.517


def test_other_tests_spend_the_share_of_their_look() -> None:
    # of the first look 0.0625: Fisher's 2 / 252 of 5 of 5 against 0 of 5
    (rate,) = spent_rates([TrainedRate("batch", {}, 5, 5, None, None, p=2 / 252, p_holm=2 / 252)], LOOKS)
    assert rate.p == pytest.approx(2 / 252 / 0.0625)
    (fixed,) = spent_rates([TrainedRate("batch", {}, 5, 5, None, None, p=2 / 252)], ())
    assert (fixed.p, fixed.p_holm) == (2 / 252, None)
    random = np.random.default_rng(0)
    differences = random.normal(0.1, 1, (5, 400))
    plain, wide = new_samples_interval(differences), new_samples_interval(differences, alpha=0.05 * 0.0625)
    assert (wide[1] - wide[0]) > 1.5 * (plain[1] - plain[0])


def test_what_an_earlier_look_has_shown_counts_only_where_the_last_one_agrees() -> None:
    """P 0.032 of the first look is twice 0.064 then, and after the other is decided 0.032: within 5 %."""
    for p_now, decided in ((0.4, ""), (0.004, "different")):
        early, other = Track(), Track()
        early.take(Seen(0.002, True), 0.0625)
        other.take(Seen(0.5, True), 0.0625)
        decide([early, other], "ab")
        early.take(Seen(p_now, True), 0.0975)
        other.take(Seen(1e-6, True), 0.0975)
        decide([early, other], "ab")
        assert (other.decided, early.p_holm) == ("different", pytest.approx(0.032))
        assert early.decided == decided


def test_what_repeats_the_baseline_is_the_same_within_a_margin_at_the_first_look() -> None:
    values = [0.80, 0.81, 0.82, 0.83, 0.84, 0.5, 0.6, 0.7]
    counts: dict[str, Any] = {"num_samples": {"test": 1000}}

    def runs(name: str, last: float) -> Cell:
        made = [record(name, seed, **counts) for seed in range(8)]
        accuracies = [*values[:-1], last]
        return cell(name, [replace(run, final={**run.final, "test_accuracy": value}) for run, value in
                           zip(made, accuracies, strict=True)], seeds=20)  # fmt: skip

    study = replace(
        results(runs("none", 0.7), runs("again", 0.1)),
        looks=LOOKS, primary="test_accuracy", margin=Margin("test_accuracy", 0.01),
    )  # fmt: skip
    found = follow(study).judged["again"]
    assert (found.verdict, found.n, found.twin) == ("same", 5, "none")
    without = follow(replace(study, margin=None)).judged["again"]
    assert (without.verdict, without.n) == ("undecided", 8)
