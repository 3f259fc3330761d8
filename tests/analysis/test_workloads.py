"""Several studies together: against numbers had by hand and by scipy, with misses, gaps and unlike studies."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from bnbench.analysis.contents import Summary
from bnbench.analysis.gates import share_gates
from bnbench.analysis.summary import summarize
from bnbench.analysis.workloads import Standing, Workloads, compare_workloads
from bnbench.base.errors import GateError
from bnbench.base.files import to_json
from bnbench.reports.console import print_sections
from bnbench.reports.formats.json import workload_values
from bnbench.reports.sections import joint_sections, section_names
from bnbench.reports.sentences.speed import speed_sentences
from bnbench.reports.sentences.workloads import workload_sentences
from bnbench.reports.tables.all import workload_tables
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, RunRecord
from tests.shown import written_together

TARGET = Target("val_accuracy", 0.9)
Times = Sequence[int | None]


def run(
    variant: str,
    seed: int,
    at: int | None,
    *,
    setting: Mapping[str, Any] | None = None,
    accuracy: float = 0.8,
) -> RunRecord:
    """100 steps in 10 s, evaluated every 5; reaches the target at step `at` (None: never)."""
    steps = sorted({*range(0, 101, 5), *([] if at is None else [at])})
    history = tuple(
        HistoryRow(
            step,
            step / 50,
            step / 10,
            None,
            {"val_accuracy": 0.95 if at is not None and step >= at else 0.1},
        )
        for step in steps
    )
    loss = (1 - accuracy) * (1 + seed / 100)
    final = {"test_accuracy": accuracy + seed / 1000 * accuracy, "test_loss": loss, "val_loss": loss}
    environment = {"device": "cpu", "num_threads": 1}
    return RunRecord(
        variant, setting or {}, seed, "c", variant, "finished", None, 100, 100, 50, 10.0, 7, final, final,
        100, history, environment=environment,
    )  # fmt: skip


def study(
    times: Mapping[str, Times],
    *,
    baseline: str = "none",
    targets: tuple[Target, ...] = (TARGET,),
    primary: str = "test_accuracy",
    accuracy: Mapping[str, float] | None = None,
) -> Summary:
    """One seed an entry."""
    cells = tuple(
        Cell(
            name,
            {},
            "c",
            tuple(range(len(found))),
            tuple(
                run(
                    name,
                    seed,
                    at,
                    accuracy=(accuracy or {}).get(name, 0.8),
                )
                for seed, at in enumerate(found)
            ),
        )
        for name, found in times.items()
    )
    return summarize(StudyResults("study", baseline, targets, cells, primary=primary))


def standing(workloads: Workloads, variant: str, workload: str) -> Standing:
    (found,) = (item for item in workloads.of(variant) if item.workload == workload)
    return found


def mean(workloads: Workloads, variant: str, clock: str = "steps") -> Any:
    (found,) = (item for item in workloads.means if (item.variant, item.clock) == (variant, clock))
    return found


def test_the_geometric_mean_and_its_interval_against_scipy() -> None:
    # seed by seed 40/20 = 2, 80/20 = 4, 30/30 = 1; within a workload the geometric mean over seeds
    workloads = compare_workloads(
        {
            "a": study({"none": [40, 40, 40], "batch": [20, 20, 20]}),
            "b": study({"none": [80, 20, 40], "batch": [20, 20, 10]}),
            "c": study({"none": [30, 60, 90], "batch": [30, 60, 90]}),
        }
    )
    ratios = [2, (4 * 1 * 4) ** (1 / 3), 1]
    for name, ratio in zip("abc", ratios, strict=True):
        for clock in ("steps", "seconds"):
            assert standing(workloads, "batch", name).speeds[clock].ratio == pytest.approx(ratio)  # type: ignore[index]
    found = mean(workloads, "batch")
    assert (found.n, found.num_workloads, found.left_out) == (3, 3, ())
    assert found.ratio == pytest.approx(stats.gmean(ratios))
    interval = stats.ttest_1samp([math.log(ratio) for ratio in ratios], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    paired = stats.ttest_1samp([math.log(4), 0, math.log(4)], 0).confidence_interval()
    b = standing(workloads, "batch", "b").speeds["steps"]
    assert (b.ratio_low, b.ratio_high) == pytest.approx((math.exp(paired.low), math.exp(paired.high)))


def test_two_workloads_give_a_number_and_no_interval() -> None:
    pair = {"none": [40, 40], "batch": [20, 20]}
    found = mean(compare_workloads({"a": study(pair), "b": study(pair)}), "batch")
    assert (found.ratio, found.low, found.high) == (pytest.approx(2), None, None)
    assert (
        "fewer than 3 give no interval"
        in workload_sentences(compare_workloads({"a": study(pair), "b": study(pair)}))[0]
    )


MISSES = {
    "good": study({"none": [40, 40, 40], "batch": [20, 20, 20], "layer": [40, 40, 40]}),
    "variant misses": study({"none": [40, 40, 40], "batch": [10, None, 10], "layer": [80, 80, 80]}),
    "baseline misses": study({"none": [40, None, None], "batch": [10, 10, 10], "layer": [20, 20, 20]}),
    "all miss": study({"none": [None] * 3, "batch": [None] * 3, "layer": [None] * 3}),
}


def test_a_miss_is_no_number() -> None:
    workloads = compare_workloads(MISSES)
    for name, reached in (("variant misses", (2, 3)), ("baseline misses", (3, 1)), ("all miss", (0, 0))):
        found = standing(workloads, "batch", name)
        assert found.speeds["steps"].gap == "missed"
        assert found.speeds["steps"].ratio is None
        assert (found.reached, found.base_reached) == reached
    assert standing(workloads, "layer", "variant misses").speeds["steps"].ratio == pytest.approx(0.5)
    found = mean(workloads, "batch")
    assert (found.n, found.num_workloads) == (1, 4)
    assert [name for name, _ in found.left_out] == ["variant misses", "baseline misses", "all miss"]
    sentence = workload_sentences(workloads)[0]
    assert "geometric mean over 1 of 4 workloads" in sentence
    assert "variant misses (missed: batch reached it with 2 of 3 runs, none with 3 of 3)" in sentence


def test_the_profile_of_misses() -> None:
    profiles = {p.variant: p for p in compare_workloads(MISSES).profiles if p.clock == "steps"}
    taus = {
        "none": (2, 1, math.inf, math.inf),
        "batch": (1, math.inf, 1, math.inf),
        "layer": (2, 2, 2, math.inf),
    }
    for name, expected in taus.items():
        assert profiles[name].taus == pytest.approx(expected)
    assert [profiles["layer"].within(factor) for factor in (1, 1.99, 2, 1e9)] == [0, 0, 3, 3]
    (table,) = (
        t for t in workload_tables(compare_workloads(MISSES)) if t.title.endswith("steps to the target")
    )
    assert dict(zip(table.columns, table.rows[1], strict=True)) == {
        "variant": "batch", "fastest": "2 of 4", "1.25x": "2 of 4", "1.5x": "2 of 4", "2x": "2 of 4",
        "4x": "2 of 4", "ever": "2 of 4",
    }  # fmt: skip


def test_the_profile_against_brute_force() -> None:
    draw = random.Random(7)
    names = ["none", "a", "b", "c"]
    times = [{name: [draw.randint(1, 99) for _ in range(3)] for name in names} for _ in range(12)]
    workloads = compare_workloads({str(index): study(found) for index, found in enumerate(times)})
    for profile in workloads.profiles:
        for factor in (1, 1.2, 1.5, 2, 3, 10):
            means = [{name: stats.gmean(found[name]) for name in names} for found in times]
            expected = sum(found[profile.variant] <= factor * min(found.values()) + 1e-9 for found in means)
            assert profile.within(factor) == expected


def unlike() -> dict[str, Summary]:
    """Studies that differ in everything that they may."""
    pair: dict[str, Times] = {"none": [40, 40, 40], "batch": [20, 20, 20]}
    clear = {"none": 0.5, "batch": 0.9, "layer": 0.5}
    cells = tuple(
        Cell(
            name,
            {"optimizer.lr": lr},
            f"{name}{lr}",
            (0, 1, 2),
            tuple(run(name, s, at, setting={"optimizer.lr": lr}, accuracy=accuracy) for s in range(3)),
        )
        for name, lr, at, accuracy in (
            ("none", 0.1, 80, 0.6),
            ("none", 1.0, 40, 0.7),
            ("batch", 0.1, 10, 0.9),
            ("batch", 1.0, 5, 0.2),
        )
    )
    return {
        "first": study(pair, accuracy=clear),
        "few": study({"none": [40], "batch": [20]}),
        "other way": study(pair, baseline="batch", accuracy=clear),
        "loss": study({**pair, "layer": [10, 10, 10]}, primary="test_loss", accuracy=clear),
        "no target": study(pair, targets=()),
        "two targets": study(pair, targets=(TARGET, Target("val_accuracy", 0.99))),
        "at once": study({"none": [0, 0, 0], "batch": [20, 20, 20]}),
        "no baseline": study(pair, baseline="ghost"),
        "sweep": summarize(StudyResults("sweep", "none", (TARGET,), cells)),
    }


def test_studies_that_are_not_alike() -> None:
    workloads = compare_workloads(unlike())
    assert workloads.variants == ("none", "batch", "layer")
    gaps = {s.workload: s.speeds["steps"].gap for s in workloads.compared("batch")}
    assert gaps == {
        "first": "", "few": "", "loss": "", "no target": "no target", "two targets": "", "at once": "at the start",
        "no baseline": "no baseline", "sweep": "",
    }  # fmt: skip
    assert standing(workloads, "batch", "other way").is_baseline
    assert standing(workloads, "none", "other way").speeds["steps"].ratio == pytest.approx(0.5)
    # at the best setting of each: batch at 0.1 (10 steps), none at 1.0 (40 steps)
    sweep = standing(workloads, "batch", "sweep")
    assert (sweep.label, sweep.speeds["steps"].ratio) == ("batch @ optimizer.lr=0.1", pytest.approx(4))
    assert sweep.comparison is not None
    assert sweep.comparison.baseline_label == "none @ optimizer.lr=1.0"
    assert dict(workloads.verdicts("batch")) == {
        "better": 2, "too_few_seeds": 2, "undecided": 3, "no verdict": 1,
    }  # fmt: skip
    notes = "\n".join(workloads.notes)
    assert "the baselines differ: none in first, few, loss" in notes
    assert "batch in other way; ghost in no baseline." in notes
    assert "the primary metrics differ: test_accuracy in first" in notes
    assert "no target has no target" in notes
    assert "two targets has 2 targets; its speed is the time to the first, val_accuracy" in notes
    assert "layer is not in first, few, other way, no target" in notes


@pytest.mark.parametrize("studies", [MISSES, unlike()], ids=["misses", "unlike"])
def test_every_format_is_one_valid_document(studies: dict[str, Summary]) -> None:
    workloads = compare_workloads(studies)
    told = json.loads(written_together("json", studies), parse_constant=pytest.fail)
    assert [item["name"] for item in told["studies"]] == list(studies)
    assert told["workloads"] == json.loads(
        to_json(workload_values(workloads), ascii=True), parse_constant=pytest.fail
    )
    assert {item["name"] for item in told["workloads"]["variants"]} == set(workloads.variants)
    rows = list(csv.DictReader(io.StringIO(written_together("csv", studies))))
    planned = [(name, v.variant, str(s)) for name, x in studies.items() for v in x.variants for s in v.seeds]
    assert [(row["study"], row["variant"], row["seed"]) for row in rows] == planned
    markdown = written_together("markdown", studies)
    assert [line for line in markdown.splitlines() if line.startswith("# ")][:-1] == [
        f"# {n}" for n in studies
    ]
    latex = written_together("latex", studies)
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") > len(workload_tables(workloads))
    for table in workload_tables(workloads):
        assert all(len(row) == len(table.columns) == len(table.align) for row in table.rows)


@pytest.mark.parametrize("width", [80, 120])
def test_the_console_cuts_no_number(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    workloads = compare_workloads(unlike())
    print_sections(console, joint_sections(workloads, section_names()))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    cells = {
        word for t in workload_tables(workloads) for row in t.rows for cell in row for word in cell.split()
    }
    assert cells <= set(text.split())
    assert text.rstrip().splitlines()[-1].startswith("  ")  # the sentences stand last


def test_the_speed_of_one_study_in_words() -> None:
    summary = study({"none": [40, 40, None], "batch": [20, 10, 20], "layer": [None, None, None]})
    # 40/20 and 40/10: geometric mean √8 = 2.83; an interval of two seeds would be useless
    batch, layer = speed_sentences(summary)
    assert batch == (
        "batch reached 90% val accuracy in 3 of 3 runs (none: 2 of 3 runs): 2.8 times sooner (in steps), over the 2 of "
        "3 seeds where both did."
    )
    assert layer.endswith("in 0 of 3 runs (none: 2 of 3 runs): no speed-up can be given.")
    single = {"optimizer.lr": 0.1}  # a sweep of one value is none
    cells = tuple(
        Cell(v, single, "c", (0,), (run(v, 0, at, setting=single),))
        for v, at in (("none", 40), ("batch", 20))
    )
    (sentence,) = speed_sentences(summarize(StudyResults("one", "none", (TARGET,), cells)))
    assert sentence.startswith("batch @ optimizer.lr=0.1 reached")
    assert sentence.endswith("2.0 times sooner (in steps), over the 1 seed where both did.")


def test_which_gates_are_about_which_study() -> None:
    studies = [["none", "batch"], ["none", "layer"]]
    gates = ["none.val_loss > 1", "layer.val_loss > 1", "batch.val_loss worse than none"]
    assert share_gates(gates, studies) == [(gates[0], gates[2]), (gates[0], gates[1])]
    with pytest.raises(GateError, match=r'unknown variant "bacth". Did you mean "batch"'):
        share_gates(["bacth.val_loss > 1"], studies)
    with pytest.raises(GateError, match="no study has both of its variants"):
        share_gates(["batch.val_loss worse than layer"], studies)
