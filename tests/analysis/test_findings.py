"""Verdicts on published claims, from values whose intervals are known in closed form."""

import math
import statistics
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from bnbench.analysis.findings.criteria import read_criterion
from bnbench.analysis.findings.finding import Claim, Published
from bnbench.analysis.findings.measured import Measured
from bnbench.analysis.findings.values import measure
from bnbench.analysis.findings.verdicts import corrected, judge
from bnbench.analysis.rates import clopper_pearson
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, RunRecord

#: Mean 0 and standard deviation 1.
UNIT = (-1.264911064067352, -0.6324555320336759, 0.0, 0.6324555320336759, 1.264911064067352)
#: Half the 95 % interval of five values with standard deviation 1, and half the prediction interval of one run.
HALF = stats.t.ppf(0.975, 4) / math.sqrt(5)
REACH = stats.t.ppf(0.975, 4) * math.sqrt(1 + 1 / 5)


def claim(criterion: str, published: Published | None = None, scale: Any = "same", **more: Any) -> Claim:
    published = published or Published("x", value=10.0)
    return Claim("", "a claim", "table 1", published, "q", read_criterion(criterion), scale, **more)


def single(mean: float, spread: float = 1.0) -> Measured:
    return Measured(tuple(range(5)), (tuple(mean + spread * value for value in UNIT),), planned=5)


def difference(mean: float, spread: float = 1.0) -> Measured:
    """A - B whose A alone varies, so that the paired scatter and the sum of variances agree."""
    side = tuple(mean + spread * value for value in UNIT)
    return Measured(tuple(range(5)), (side, (0.0,) * 5), (1, -1), planned=5)


def verdict(claim_: Claim, measured: Measured) -> str:
    return judge(claim_, measured).verdict


def test_the_interval_and_the_prediction_of_five_values() -> None:
    judged = judge(claim("> 0"), difference(10))
    assert (judged.low, judged.high) == pytest.approx((10 - HALF, 10 + HALF), rel=1e-9)
    assert (judged.prediction_low, judged.prediction_high) == pytest.approx(
        (10 - REACH, 10 + REACH), rel=1e-9
    )
    assert judged.p == pytest.approx(2 * stats.t.sf(10 * math.sqrt(5), 4), rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (10.0, "reproduced"),
        (
            10 + 1.01 * REACH + 0.5,
            "direction only",
        ),  # the published 10 ± 0.5 lies below the prediction interval
        (10 + 0.99 * REACH + 0.5, "reproduced"),  # and, with its rounding, in it
        (1.01 * HALF, "undecided"),  # our interval excludes 0, the prediction interval does not
        (0.99 * HALF, "undecided"),
        (-1.01 * HALF, "contradicted"),
    ],
)
def test_an_effect_on_the_papers_own_scale(mean: float, expected: str) -> None:
    assert verdict(claim("> 0"), difference(mean)) == expected


def test_a_noisy_study_reproduces_nothing() -> None:
    """Its prediction interval contains the published number, and no effect too."""
    noisy = judge(claim("> 0"), difference(10, spread=6))
    assert noisy.low is not None
    assert noisy.low > 0
    assert noisy.verdict == "undecided"
    assert "too noisy" in noisy.reason


def test_a_published_mean_of_many_runs_is_predicted_more_narrowly() -> None:
    mean = 10 + REACH  # one run may differ by as much, the mean of 20 may not
    assert (
        verdict(claim("> 0", Published("x", value=10.0, decimals=3)), difference(mean - 0.01)) == "reproduced"
    )
    twenty = Published("x", value=10.0, decimals=3, runs=20)
    assert verdict(claim("> 0", twenty), difference(mean - 0.01)) == "direction only"


@pytest.mark.parametrize(
    ("mean", "expected"), [(10.0, "direction only"), (-10.0, "contradicted"), (0.5, "undecided")]
)
def test_another_scale_and_no_number_reach_the_direction_alone(mean: float, expected: str) -> None:
    assert verdict(claim("> 0", scale="other"), difference(mean)) == expected
    assert verdict(claim("> 0", Published("none", text="a plot")), difference(mean)) == expected


def test_a_criterion_beyond_no_effect() -> None:
    assert verdict(claim("> 5", scale="other"), difference(10)) == "direction only"
    smaller = judge(claim("> 5", scale="other"), difference(3))
    assert smaller.verdict == "direction only"
    assert "smaller than the criterion" in smaller.reason
    assert verdict(claim("> 5", scale="other"), difference(0)) == "contradicted"
    assert verdict(claim("< 5", scale="other"), difference(0)) == "direction only"
    assert verdict(claim("< 5", scale="other"), difference(10)) == "contradicted"


def test_a_ratio_is_judged_by_its_logarithm() -> None:
    """Factors around 4 whose logarithms have standard deviation 0.1: no effect is 1."""
    first = tuple(4 * math.exp(0.1 * value) for value in UNIT)
    ratio = Measured(tuple(range(5)), (first, (1.0,) * 5), (1, -1), ratio=True, planned=5)
    judged = judge(claim("> 1", Published("x", value=4.0)), ratio)
    assert judged.verdict == "reproduced"
    assert judged.ours == pytest.approx(4.0, rel=1e-12)
    assert judged.high == pytest.approx(4 * math.exp(0.1 * HALF), rel=1e-9)
    assert verdict(claim("> 5", Published("x", value=4.0)), ratio) == "direction only"
    broken = replace(ratio, sides=((0.0, *first[1:]), (1.0,) * 5))
    assert judge(claim("> 1"), broken).reason.endswith("a side of the ratio is not above 0")


@pytest.mark.parametrize(
    ("mean", "spread", "expected"),
    [(10.2, 0.01, "reproduced"), (10.9, 0.01, "contradicted"), (10.2, 1.0, "undecided")],
)
def test_an_absolute_number_within_a_tolerance(mean: float, spread: float, expected: str) -> None:
    """3 % of 10 and half a unit of its last digit: 9.65 to 10.35."""
    published = Published("x", value=10.0, decimals=1)
    assert verdict(claim("within 3 %", published), single(mean, spread)) == expected
    assert verdict(claim("within 3 %", published, scale="other"), single(mean, spread)) == "not comparable"


def test_a_difference_that_should_be_nothing() -> None:
    assert verdict(claim("within 2 of 0", scale="other"), difference(0)) == "direction only"
    assert verdict(claim("within 2 of 0"), difference(0)) == "reproduced"
    assert verdict(claim("within 2 of 0"), difference(5)) == "contradicted"
    assert verdict(claim("within 1 of 0"), difference(0)) == "undecided"


@pytest.mark.parametrize(
    ("mean", "nothing", "expected"),
    [
        (10.0, 0.0, "reproduced"),
        (10.0, 9.0, "undecided"),
        (10 + REACH + 0.6, 0.0, "contradicted"),
    ],
)
def test_an_absolute_number_in_the_prediction_interval(mean: float, nothing: float, expected: str) -> None:
    assert verdict(claim("prediction interval", no_effect=nothing), single(mean)) == expected


def test_lost_seeds_and_too_few_leave_it_open() -> None:
    lost = replace(difference(10), planned=6, note="1 not finite")
    assert judge(claim("> 0"), lost).reason == "1 of 6 seeds are lost: 1 not finite"
    two = Measured((0, 1), ((10.0, 10.1), (0.0, 0.0)), (1, -1), planned=2)
    assert verdict(claim("> 0"), two) == "undecided"


def test_bounds_are_taken_at_the_end_that_each_side_of_the_interval_needs() -> None:
    """A run that never reached its target needs more than 100 steps: the ratio to 10 steps is at least 10."""
    least = tuple(100 * math.exp(0.01 * value) for value in UNIT)
    never = Measured(
        tuple(range(5)), (least, (10.0,) * 5), (1, -1), ((math.inf,) * 5, (10.0,) * 5), ratio=True, planned=5
    )
    judged = judge(claim("> 2", scale="other"), never)
    assert judged.verdict == "direction only"
    assert judged.low == pytest.approx(10 * math.exp(-0.01 * HALF), rel=1e-9)
    assert judged.high == math.inf
    assert (
        verdict(claim("> 20", scale="other"), never) == "direction only"
    )  # more than 1, perhaps more than 20
    assert verdict(claim("< 20", scale="other"), never) == "undecided"
    assert verdict(claim("< 5", scale="other"), never) == "contradicted"


def test_shares_of_seeds_have_exact_intervals() -> None:
    all_trained = Measured(tuple(range(5)), ((1.0,) * 5,), shares=True, planned=5, percent=True)
    judged = judge(claim("> 50 %", Published("none", text="trains")), all_trained)
    assert judged.low == pytest.approx(clopper_pearson(5, 5, 0.05)[0])
    assert judged.p == pytest.approx(2 * 0.5**5, rel=1e-6)  # two-sided: 2 · P(5 of 5 | 1/2)
    assert judged.verdict == "undecided"
    ten = replace(all_trained, seeds=tuple(range(10)), sides=((1.0,) * 10,), planned=10)
    assert verdict(claim("> 50 %", Published("none", text="trains")), ten) == "direction only"


def test_holm_is_over_the_claims_of_one_paper() -> None:
    """p of t = 2.9, 4 degrees: 0.0441. Alone it decides; beside a second claim of the paper, 0.088 does not."""
    weak = difference(2.9 / math.sqrt(5))
    strong, other = difference(100), claim("> 0", scale="other")
    alone = corrected([judge(other, weak)], ["a"])[0]
    assert (alone.verdict, alone.family) == ("direction only", 1)
    assert alone.p_holm == pytest.approx(0.0441, abs=5e-5)
    judged = [judge(other, weak), judge(other, weak), judge(other, strong)]
    apart = corrected(judged, ["a", "b", "b"])
    assert [one.verdict for one in apart] == ["direction only", "direction only", "direction only"]
    together = corrected(judged, ["a", "a", "a"])
    assert [one.verdict for one in together] == ["undecided", "undecided", "direction only"]
    assert together[0].p_holm == pytest.approx(2 * 0.0441, abs=1e-4)
    assert together[0].uncorrected == "direction only"


def test_rounding_of_the_printed_numbers() -> None:
    assert Published("pp", value=10.6, decimals=1).band(ratio=False) == pytest.approx((0.1055, 0.1065))
    both = Published("%", values=(97.32, 80.94), decimals=2)
    assert both.band(ratio=False) == pytest.approx((0.1637, 0.1639))
    ratio = Published("x", values=(3.0, 2.0), decimals=0).band(ratio=True)
    assert ratio == pytest.approx((2.5 / 2.5, 3.5 / 1.5))


@pytest.mark.parametrize(
    "text", ["", "bigger", "> ", "within", "within -3 %", "within 0", "> 0 and < 3", "≥ 2"]
)
def test_a_criterion_that_can_not_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        read_criterion(text)


def run(variant: str, seed: int, steps: int | None, accuracy: float = 0.9) -> RunRecord:
    """A run of 100 steps that reaches a validation accuracy of 0.8 at that step, or never (None)."""
    rows = tuple(
        HistoryRow(
            step, 0.0, 0.0, None, {"val_accuracy": 0.8 if steps and step >= steps else 0.1, "val_loss": 1.0}
        )
        for step in range(0, 101, 10)
    )
    final = {"test_accuracy": accuracy}
    return RunRecord(
        variant,
        {},
        seed,
        variant,
        "batch",
        "finished",
        steps=100,
        planned_steps=100,
        final=final,
        history=rows,
    )


def results(runs: dict[str, list[RunRecord]], seeds: tuple[int, ...]) -> StudyResults:
    cells = tuple(Cell(name, {}, name, seeds, tuple(records)) for name, records in runs.items())
    return StudyResults("s", "none", (Target("val_accuracy", 0.8),), cells)


def of_quantity(quantity: str, criterion: str = "> 1") -> Claim:
    return replace(claim(criterion), quantity=quantity)


def test_a_run_that_never_reached_its_target_needs_more_than_its_budget() -> None:
    kept = results(
        {
            "none": [run("none", 0, 80), run("none", 1, None), run("none", 2, 60)],
            "batch": [run("batch", seed, 20) for seed in range(3)],
        },
        (0, 1, 2),
    )
    measured = measure(kept, of_quantity("none.steps_to_target / batch.steps_to_target"))
    assert measured.sides == ((80, 100, 60), (20, 20, 20))
    assert measured.most == ((80, math.inf, 60), (20, 20, 20))
    assert measured.note == "1 known as a bound alone"
    judged = judge(of_quantity("q"), measured)
    assert judged.high == math.inf
    # its rounding: a target is seen every 10 steps, so that a logarithm is off by 10/(mean √12) on each side
    error = math.hypot(10 / 80 / math.sqrt(12), 10 / 20 / math.sqrt(12))
    logs = [math.log(ratio) for ratio in (4, 5, 3)]
    spread = max(statistics.stdev(logs), error)
    low = statistics.mean(logs) - stats.t.ppf(0.975, 2) * spread / math.sqrt(3)
    assert judged.low == pytest.approx(math.exp(low), rel=1e-9)


def test_seeds_that_are_lost_are_counted() -> None:
    crashed = replace(run("batch", 2, 20), outcome="crashed", final={})
    kept = results(
        {
            "none": [run("none", seed, 50, 0.5) for seed in range(4)],
            "batch": [run("batch", 0, 20, 0.7), run("batch", 1, 20, 0.8), crashed],
        },
        (0, 1, 2, 3),
    )
    measured = measure(kept, of_quantity("batch.test_accuracy - none.test_accuracy", "> 0"))
    assert (measured.n, measured.planned, measured.percent) == (2, 4, True)
    assert measured.values() == pytest.approx((0.2, 0.3))
    assert measured.note == "1 crashed, 1 not run"
    assert judge(of_quantity("q", "> 0"), measured).verdict == "undecided"


def test_what_the_results_do_not_have_is_undecided_with_the_reason() -> None:
    kept = results({"none": [run("none", seed, 50) for seed in range(3)]}, (0, 1, 2))
    judged = judge(
        of_quantity("q", "> 0"), measure(kept, of_quantity("batch.test_accuracy - none.test_accuracy", "> 0"))
    )
    assert judged.verdict == "undecided"
    assert 'unknown variant "batch"' in judged.reason


def test_ranges_that_are_open_on_both_sides_have_no_estimate() -> None:
    """At least 4 decades against at least 3: the difference can be anything."""
    open_ended = Measured(
        (0, 1, 2), ((4.0,) * 3, (math.inf,) * 3), (1, -1), ((math.inf,) * 3, (3.0,) * 3), planned=3
    )
    judged = judge(claim("> 0"), open_ended)
    assert (judged.ours, judged.low, judged.high) == (None, -math.inf, math.inf)
    assert judged.verdict == "undecided"
