"""Usable ranges: between which grid points their edges lie, and how far they are from the baseline's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from scipy import stats

from bnbench.analysis.ranges import longest_block
from bnbench.analysis.serial import as_json
from bnbench.reports.sentences.verdicts import verdict_sentences
from tests.sweep_studies import sweep, table


@pytest.mark.parametrize(
    ("values", "trains", "block"),
    [
        # four values over 0.24 decades, three over two: the longer range has fewer values
        ((1, 1.2, 1.4, 1.75, 2, 3, 30, 300), "++++-+++", (5, 7)),
        ((0.1, 1, 10, 100, 1000), "+-++-", (2, 3)),
        ((0.1, 1, 10), "+-+", (0, 0)),  # of equally long ones the first
        ((0.1, 1), "--", None),
        ((), "", None),
        ((1, 10, 11, 12, 13), "++-++", (0, 1)),
    ],
)
def test_the_longest_range_is_that_of_most_decades(
    values: Sequence[float], trains: str, block: tuple[int, int] | None
) -> None:
    assert longest_block(values, [sign == "+" for sign in trains]) == block


def test_an_irregular_grid_end_to_end() -> None:
    values = (1, 1.2, 1.4, 1.75, 2, 3, 30, 300)
    patterns = ["+++" if sign == "+" else "---" for sign in "++++-+++"]
    none, _ = sweep({"none": patterns, "batch": patterns}, values=values).usable_ranges
    assert none.least == pytest.approx(2.0)
    assert (none.first, none.last, none.fails_below, none.fails_above) == (3, 300, 2, None)


def test_a_range_is_known_to_a_step_at_either_end() -> None:
    trains = {"none": ["---", "+++", "+++", "---"], "batch": ["+++", "+++", "+++", "---"]}
    none, batch = sweep(trains).usable_ranges
    assert (none.least, none.most) == (1.0, 3.0)  # from 0.1 to 1 at least, from 0.01 to 10 at most
    # equal on every seed: the scatter is at least that of two roundings to a decade, 1/√6; t_2 = 4.303
    half = stats.t.ppf(0.975, 2) / math.sqrt(6) / math.sqrt(3)
    assert (none.low, none.high) == pytest.approx((1 - half, 3 + half))
    assert (none.cut_below, none.cut_above) == (0, 0)
    assert (batch.least, batch.most, batch.high, batch.cut_below) == (2.0, None, None, 3)
    assert table(sweep(trains), "Usable range of optimizer.lr").rows == (
        ("none", "0.1 (0.01 fails)", "1 (10 fails)", "1.00 to 3.00 [0.00, 4.01]", "3", "–", "–"),
        (
            "batch",
            "0.01 (cut)",
            "1 (10 fails)",
            ">= 2.00 [>= 0.99]",
            "3",
            ">= +0.00 [>= -1.01]",
            "-1.00 to +1.00 [-2.01, +2.01]",
        ),
    )


def test_edges_apart_from_the_baseline() -> None:
    values = tuple(10.0**power for power in range(-6, 4))
    trains = {"none": ["+" * 5] * 4 + ["-" * 5] * 6, "batch": ["+" * 5] * 8 + ["-" * 5] * 2}
    _, batch = sweep(trains, values=values).usable_ranges
    assert batch.upper
    assert batch.lower
    # none's edge lies between 1e-3 and 1e-2, batch's between 10 and 100: 3 to 5 decades further out
    assert (batch.upper.low, batch.upper.high) == pytest.approx((3, 5))
    half = stats.t.ppf(0.975, 4) / math.sqrt(6) / math.sqrt(5)
    assert (batch.upper.ci_low, batch.upper.ci_high) == pytest.approx((3 - half, 5 + half))
    assert batch.upper.p == pytest.approx(2 * stats.t.sf(3 * math.sqrt(6) * math.sqrt(5), 4))
    assert batch.upper.verdict == "further"
    assert (batch.lower.verdict, batch.lower.low, batch.lower.high, batch.lower.p) == (
        "cut",
        None,
        None,
        None,
    )
    said = next(s for s in verdict_sentences(sweep(trains, values=values)) if "edge of" in s)
    assert "batch trains on all of 5 seeds with optimizer.lr from 1e-06 (cut) to 10 (100 fails)" in said
    assert "the lower edge of batch can't be compared" in said
    assert "the upper edge of batch lies further out (+3.00 to +5.00 [+2.49, +5.51] decades" in said


def test_a_cut_on_one_side_leaves_one_bound() -> None:
    values = tuple(10.0**power for power in range(6))
    trains = {"none": ["+" * 4] * 2 + ["-" * 4] * 4, "batch": ["+" * 4] * 6}
    _, batch = sweep(trains, values=values).usable_ranges
    assert batch.upper
    assert (batch.upper.low, batch.upper.high, batch.upper.ci_high) == (pytest.approx(3), None, None)
    assert batch.upper.verdict == "further"  # at least three decades, however far the sweep would have to go
    mirrored = {"none": trains["batch"], "batch": trains["none"]}
    _, less = sweep(mirrored, values=values).usable_ranges
    assert less.upper
    assert (less.upper.low, less.upper.high, less.upper.verdict) == (None, pytest.approx(-3), "less far")


def test_one_step_is_no_proof() -> None:
    trains = {"none": ["+++++"] * 2 + ["-----"] * 2, "batch": ["+++++"] * 3 + ["-----"]}
    _, batch = sweep(trains).usable_ranges
    assert batch.upper
    assert (batch.upper.low, batch.upper.high) == pytest.approx((0, 2))  # 0.1 to 1 against 1 to 10
    assert (batch.upper.p, batch.upper.verdict) == (1.0, "undecided")


def test_seeds_that_are_not_whole_are_counted() -> None:
    # batch's crash at seed 3 says nothing; none trains nowhere with seed 2
    summary = sweep({"none": ["++-+", "++-+", "---+", "----"], "batch": ["++++", "++++", "++++", "+-+x"]})
    none, batch = summary.usable_ranges
    assert [(seed.first, seed.last) for seed in none.seeds] == [
        (0.01, 0.1),
        (0.01, 0.1),
        (None, None),
        (0.01, 1.0),
    ]
    assert none.most is None
    assert [seed.least for seed in batch.seeds] == pytest.approx([3.0, 2.0, 3.0])
    assert (batch.n, batch.n_planned, batch.cut_above) == (3, 4, 2)
    assert batch.upper
    assert (batch.upper.n, batch.upper.verdict) == (2, "too_few_seeds")
    assert len(as_json(summary)["usable_ranges"]) == 2


def test_where_everything_trains_no_edge_is_seen() -> None:
    summary = sweep({"none": ["+++"] * 4, "batch": ["+++"] * 4})
    (said,) = [s for s in verdict_sentences(summary) if "usable range" in s]
    assert said == (
        "Every variant trains with every optimizer.lr from 0.01 to 10: the edges of the usable range lie outside "
        "the sweep."
    )
