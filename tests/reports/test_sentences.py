"""Sentences of a verdict: grammar at one run, and what limits a decided verdict stands in the same sentence."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import workloads_as_json
from bnbench.analysis.summary import summarize
from bnbench.analysis.workloads import compare_workloads
from bnbench.reports.console import print_joint_answer
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.speed import area_tables
from bnbench.study import Margin, Target
from bnbench.study.records import RunRecord
from tests.fabricated import cell, record, results
from tests.shown import written, written_together

COUNTS: dict[str, Any] = {"class_counts": {"test": (50,) * 10}, "class_names": tuple("0123456789")}


def study(
    ours: Sequence[float], margin: float | None = None, metric: str = "test_accuracy", base: float = 0.5
) -> Summary:
    """The variant's values, seed by seed, against a baseline that has the same value with every seed."""
    made = [cell(name, [_run(name, i, value, metric) for i, value in enumerate(values)]) for name, values in
            (("none", [base] * len(ours)), ("batch", ours))]  # fmt: skip
    declared = None if margin is None else Margin(metric, margin)
    return summarize(replace(results(*made), primary=metric, margin=declared))


def _run(name: str, seed: int, value: float, metric: str, **fields: Any) -> RunRecord:
    found = record(name, seed, **COUNTS, **fields)
    return replace(found, final={**found.final, metric: value})


def test_one_run_is_one_run() -> None:
    crashed = summarize(
        results(cell("none", [record("none", 0)]), cell("batch", [record("batch", 0, outcome="crashed")]))
    )
    (said,) = verdict_sentences(crashed)
    assert said.endswith("1 of 1 run of batch crashed.")
    missing = summarize(results(cell("none", [record("none", 0)]), cell("batch", [], seeds=1)))
    assert verdict_sentences(missing)[0].endswith("1 of 1 run of batch is missing.")
    lost = record("batch", 0, (2.3, math.nan), "not_finite")
    (said,) = verdict_sentences(summarize(results(cell("none", [record("none", 0)]), cell("batch", [lost]))))
    assert "batch trained in 0 of 1 run (1 not finite), none in 1 of 1" in said


def test_equal_losses_within_the_margin_have_no_empty_interval() -> None:
    (said,) = verdict_sentences(study([0.4] * 6, 0.2, "test_loss"))
    assert said == (
        "batch is the same as none within 0.2 in test loss: 0.5000 → 0.4000, -0.1000 (p <0.0001, 6 seeds); better, but "
        "by less than the study's margin."
    )


def test_a_sure_difference_that_may_be_within_the_margin_says_so() -> None:
    ours = [0.53, 0.54, 0.55, 0.56, 0.54]  # +4.4 pp, 95 % interval [3.0, 5.8] by scipy.stats.ttest_1samp
    assert "; it may be less than the margin of 4 points." in verdict_sentences(study(ours, 0.04))[0]
    assert "may be less" not in verdict_sentences(study(ours, 0.02))[0]


def test_a_sweep_says_what_limits_each_verdict() -> None:
    """Five of six seeds differ by 9 points, one by none: t has p 0.004, the exact sign flips 2 / 2^5."""
    ours = [0.41, 0.41, 0.41, 0.41, 0.5, 0.41]
    cells = [
        cell(name, [_run(name, i, value, "test_accuracy", setting={"optimizer.lr": lr}) for i, value in
             enumerate(ours if (name, lr) == ("batch", 1.0) else [0.5] * 6)], {"optimizer.lr": lr})
        for name in ("none", "batch") for lr in (0.1, 1.0)
    ]  # fmt: skip
    said = next(
        line for line in verdict_sentences(summarize(results(*cells))) if "at each optimizer.lr" in line
    )
    assert "worse at 1.0 (-7.5 points, -11.4 to -3.6" in said
    assert "; but the sign-flip test says otherwise (p 0.062))" in said


def test_one_exploded_seed_makes_no_tie_of_the_others() -> None:
    """Better with 4 of 5: a loss of 1e9 tells nothing of the rounding of 0.4 and 0.5."""
    ours = cell(
        "batch", [_run("batch", i, value, "test_loss") for i, value in enumerate([0.4, 0.4, 0.4, 0.4, 2e9])]
    )
    base = cell(
        "none", [_run("none", i, value, "test_loss") for i, value in enumerate([0.5, 0.5, 0.5, 0.5, 1e9])]
    )
    found = next(
        c for c in summarize(results(base, ours)).comparisons if c.metric == "test_loss" and c.at == "final"
    )
    assert found.better_share == 0.8


def test_the_area_says_which_runs_have_none() -> None:
    runs = [record("none", i) for i in range(3)]
    lost = [
        record("batch", 0, (2.3, math.nan), "not_finite", planned_steps=20),
        *(record("batch", i) for i in (1, 2)),
    ]
    summary = summarize(results(cell("none", runs), cell("batch", lost), targets=[Target("val_loss", 0.9)]))
    area = next(area_tables(summary))
    assert "(2 of 3)" in area.rows[1][1]
    assert area.caption.endswith("up to the last step; the others are left out.")


def test_cautions_stand_beside_the_verdicts_in_every_output() -> None:
    """What limits the verdict of one study is said with the joint one too, and in a table for a paper."""
    limit = "2 more seeds after a look at 3: not a 5 % test."
    made = summarize(results(cell("none", [record("none", 0)]), cell("batch", [record("batch", 0)])))
    studies = {"first": replace(made, limits=(limit,)), "second": made}
    found = compare_workloads(studies)
    assert found.cautions == (f"first: {limit}",)
    assert workloads_as_json(found)["cautions"] == [f"first: {limit}"]
    assert f"- first: {limit}" in written_together("markdown", studies).split("# Workloads")[1]
    console = Console(file=io.StringIO(), width=200)
    print_joint_answer(console, found)
    assert f"first: {limit}" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "Caution: 2 more seeds" in written("latex", studies["first"])
    assert "Caution" not in written("latex", made)
    assert "Caution: first: 2 more seeds" in written_together("latex", studies)


def test_seeds_that_are_not_there_are_named_though_the_others_have_a_verdict() -> None:
    """Where a comparison is too short for a verdict, the family is smaller than the planned one."""
    base = cell("none", [record("none", i) for i in range(5)])
    whole = cell("batch", [record("batch", i, (2.3, 0.4 + 0.01 * i)) for i in range(5)])
    begun = cell("layer", [record("layer", 0)], seeds=5)
    (limit,) = summarize(results(base, whole, begun)).limits
    assert limit.startswith("not all planned runs are there (layer: 1 of 5 pairs)")
