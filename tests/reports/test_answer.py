"""What is printed without --tables: the answer and one table, whole at any width."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.base.terminal import one_line
from bnbench.reports.sentences.headline import headline, title
from bnbench.reports.sentences.ranges import _short
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.main import main_table
from bnbench.reports.tables.small_curves import BARS
from bnbench.study import Margin, Target
from tests.fabricated import cell, record, results
from tests.fabricated_extremes import STUDIES
from tests.shown import answer
from tests.sweep_studies import sweep

#: A screen of 80 columns has some 25 lines; one of 40 columns about twice as many.
SCREENS = {80: 25, 40: 60}
KINDS = (
    "one seed", "two seeds", "ten seeds", "one variant", "no target", "all crashed", "all not finite", "all stuck",
    "all seeds equal", "no runs", "baseline missing", "some missing", "other machine", "one key swept",
)  # fmt: skip


def study(*names: str, gain: float = 0.02, seeds: int = 5) -> Summary:
    """Variants that are `gain` better each than the one before, give or take a tenth of a point."""
    cells = []
    for place, name in enumerate(names):
        runs = []
        for seed in range(seeds):
            run = record(name, seed, num_samples={"train": 900, "val": 100, "test": 400})
            accuracy = 0.9 + gain * place + (seed * (place + 1) % 5) / 2000
            final = {**run.final, "test_accuracy": accuracy, "test_loss": 1 - accuracy}
            runs.append(replace(run, final=final))
        cells.append(cell(name, runs))
    return summarize(results(*cells, targets=(Target("val_loss", 0.9),)))


def parts(text: str, side: str) -> list[str]:
    """What stands whole on a line: a number and its bracket, or a word."""
    return re.split(r" (?=[(\[])", text) if side == "r" else [word for word in text.split(" ") if word]


@pytest.mark.parametrize("width", SCREENS)
@pytest.mark.parametrize("name", KINDS)
def test_it_fits_a_screen(name: str, width: int) -> None:
    lines = answer(summarize(STUDIES[name]()), width).splitlines()
    assert len(lines) <= SCREENS[width], "\n".join(lines)
    assert max(map(cell_len, lines)) <= width + 4 * (
        width < 80
    )  # one number with its name and count may be wider


@pytest.mark.parametrize("width", [30, 40, 80, 200])
@pytest.mark.parametrize("name", STUDIES)
def test_no_cell_and_no_sentence_is_cut(name: str, width: int) -> None:
    summary = summarize(STUDIES[name]())
    text = answer(summary, width)
    table = main_table(summary)
    for row in table.rows:
        for text_of_cell, side in zip(row, table.align, strict=True):
            for part in parts(one_line(text_of_cell), side):
                assert part in text, (text_of_cell, part)
    words = " ".join(text.split())
    for sentence in (title(summary), *headline(summary), *summary.cautions):
        assert " ".join(one_line(sentence).split()) in words


@pytest.mark.parametrize("name", ["one seed", "two seeds"])
def test_no_interval_and_no_test_is_claimed_where_there_is_none(name: str) -> None:
    summary = summarize(STUDIES[name]())
    caption = main_table(summary).caption
    assert f"Against {summary.baseline}: points." in caption
    assert "interval" not in caption
    assert "t test" not in caption


def test_a_curve_of_a_narrow_screen_stands_under_its_name() -> None:
    lines = answer(summarize(STUDIES["ten seeds"]()), 30).splitlines()
    curves = [place for place, line in enumerate(lines) if "→" in line and any(bar in line for bar in BARS)]
    names = [lines[place - 1] for place in curves]
    assert names == ["none", "batch"]
    assert all(lines[place].startswith("  ") for place in curves)
    assert not lines[curves[0] - 2]  # no rule above: they are not a table


@pytest.mark.parametrize("width", [40, 80, 120])
def test_thirty_variants_with_long_names_are_all_there(width: int) -> None:
    names = [f"variant_{number:02}_{'x' * 48}" for number in range(30)]
    summary = study("none", *names, gain=0.002)
    text = answer(summary, width)
    assert all(name in text for name in names)
    assert len(headline(summary)) <= 4
    assert "+6.0" in text  # the last is 30 * 0.2 points better


def test_a_row_by_hand() -> None:
    """2.0 points apart, and scattered less than the rounding of 400 samples: 2.776 * 0.25 / √6 / √5 = 0.127."""
    table = main_table(study("none", "batch"))
    assert table.columns == (
        "variant", "test accuracy (%)", "against none", "test loss", "steps to 0.9", "ms per step",
    )  # fmt: skip
    assert table.rows[0][:3] == ("none", "90.100 ± 0.079", "baseline")
    assert table.rows[1][:3] == ("batch", "92.100 ± 0.079", "+2.00* [1.87, 2.13]")
    assert "*: p < 0.05." in table.caption
    assert "±: standard deviation over 5 seeds." in table.caption


def test_the_marks() -> None:
    """* where the verdict decides, = where the two are the same within the margin, and nothing else."""
    decided = study("none", "batch")
    assert main_table(decided).rows[1][2].startswith("+2.00*")
    undecided = study("none", "batch", gain=0.0)
    assert "*" not in main_table(undecided).rows[1][2]
    assert "*" not in main_table(undecided).caption
    none, batch = (cell(v.variant, v.runs) for v in undecided.variants)
    same = summarize(replace(results(none, batch), margin=Margin("test_accuracy", 0.01)))
    assert "= [" in main_table(same).rows[1][2]
    assert "=: the same within the margin" in main_table(same).caption


def test_the_sentence_and_the_table_have_the_same_numbers() -> None:
    summary = study("none", "batch")
    assert headline(summary) == [
        "batch is better than none in test accuracy: 90.10% → 92.10%, +2.00 points (95% interval 1.87 to 2.13, "
        "p <0.0001, 5 seeds). It reaches a val loss of 0.9 about as soon (speed-up 1.0, 95% interval 0.78 to 1.3, in "
        "steps)."
    ]


def test_failures_have_a_column_and_a_reason() -> None:
    runs = [
        record("batch", 0),
        *(record("batch", s, outcome="crashed", error="ValueError: too small") for s in (1, 2)),
    ]
    summary = summarize(results(cell("none", [record("none", s) for s in range(3)]), cell("batch", runs)))
    assert main_table(summary).columns[-1] == "failed runs"
    assert [row[-1] for row in main_table(summary).rows] == ["none", "2 crashed"]
    assert headline(summary)[-1] == "batch seeds 1, 2: ValueError: too small."
    assert headline(summary)[0].count("crashed") == 1


def test_many_comparisons_are_sorted_by_their_verdict() -> None:
    names = ("a", "b", "c", "d", "e")
    (line,) = [text for text in headline(study("none", *names)) if text.startswith("Better")]
    assert line == (
        "Better than none in test accuracy: a (+2.00 points), b (+4.00 points), c (+6.00 points), d (+7.90 points), "
        "e (+10.00 points)."
    )


def test_a_sweep_shows_the_effect_at_every_setting() -> None:
    """none falls from 90 to 60 % along the sweep and then does not train; batch stays at 90 %."""
    levels = {"none": (0.9, 0.8, 0.6, 0.1), "batch": (0.9, 0.9, 0.9, 0.1)}
    trains = {"none": ["+++++"] * 2 + ["-----"] * 2, "batch": ["+++++"] * 3 + ["-----"]}
    summary = sweep(
        trains, lambda variant, place, seed: levels[variant][place] + seed * (place + 1) % 3 / 1000
    )
    table = main_table(summary)
    assert table.columns == ("optimizer.lr", "none", "batch")
    assert table.rows == (
        ("0.01", "90.1", "90.1 (+0.00)"),
        ("0.1", "80.1", "90.1 (+10.00*)"),
        ("1.0", "60.0!", "90.0 (+30.00*)"),
        ("10.0", "10.1!", "10.1! (+0.00)"),
    )
    lines = headline(summary)
    assert lines[0].startswith(
        "batch against none at each optimizer.lr, in test accuracy: better at 0.1 (+10.00 points"
    )
    assert "undecided at 0.01, 10.0" in lines[0]
    assert any(line.startswith("The effect of batch depends on optimizer.lr") for line in lines)
    assert "Usable optimizer.lr, where every seed trains: none 0.01 (the sweep's lowest) to 0.1; batch 0.01 (the " \
        "sweep's lowest) to 1." in lines  # fmt: skip


def test_many_settings_are_counted_in_the_answer_and_listed_in_the_verdicts() -> None:
    values = tuple(10.0**power for power in range(6))
    trains = {"none": ["+++++"] * 6, "batch": ["+++++"] * 6}

    def height(variant: str, place: int, seed: int) -> float:
        return (
            0.5
            + (variant == "batch") * 0.05 * (place + 1)
            + seed * (place + 1) % 3 / 1000 * (variant == "none")
        )

    summary = sweep(trains, height, values=values)
    assert (
        "better at 6 settings, from +4.92 points at 1.0 to +30.00 points at 100000.0." in headline(summary)[0]
    )
    listed = next(line for line in verdict_sentences(summary) if "at each optimizer.lr" in line)
    assert all(f"{value} (+" in listed for value in values)


def test_more_variants_than_settings_turn_the_table() -> None:
    trains = {name: ["+++", "+++"] for name in ("none", "a", "b")}
    table = main_table(sweep(trains, values=(0.1, 1.0)))
    assert table.columns == ("variant", "optimizer.lr=0.1", "optimizer.lr=1.0")
    assert [row[0] for row in table.rows] == ["none", "a", "b"]


def test_a_range_without_a_value_names_the_variant_and_says_so() -> None:
    nowhere, *_ = sweep({"none": ["---"] * 5, "batch": ["+++"] * 5}).usable_ranges
    assert _short(nowhere) == "none with no value"
