"""What is said where runs end without a number. Oracles: scipy's exact tests, and the counts by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from scipy.stats import binomtest, fisher_exact

from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import as_json
from bnbench.analysis.summary import summarize
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin
from bnbench.study.records import Outcome, RunRecord

#: Ends of runs: F finished, N not finite, S stuck at chance, C crashed, . missing
ENDS: dict[str, Outcome] = {"F": "finished", "N": "not_finite", "S": "stuck_at_chance", "C": "crashed"}


def cell(
    name: str, ends: str, accuracy: float, losses: Sequence[float] = (0.1, 0.12, 0.11, 0.13, 0.1)
) -> Cell:
    runs = []
    for seed, end in enumerate(ends):
        if end == ".":
            continue
        right = {"F": accuracy + 0.01 * (seed % 3), "S": 0.1, "N": 0.0}.get(end, math.nan)
        loss = {"F": 1 - accuracy + losses[seed], "S": 2.3}.get(end, math.nan)
        final = {} if end == "C" else {"test_accuracy": right, "test_loss": loss, "val_loss": loss}
        runs.append(
            RunRecord(name, {}, seed, name, name, ENDS[end], final=final, class_counts={"test": (500,) * 2},
                      class_names=("a", "b"), error="ValueError: too small" if end == "C" else None)
        )  # fmt: skip
    return Cell(name, {}, name, tuple(range(len(ends))), tuple(runs))


def study(
    batch: str, none: str = "FFFFF", primary: str = "test_loss", margin: float | None = None
) -> Summary:
    cells = (cell("none", none, 0.7), cell("batch", batch, 0.9, (0.11, 0.11, 0.12, 0.12, 0.1)))
    declared = None if margin is None else Margin(primary, margin)
    return summarize(StudyResults("demo", "none", (), cells, primary=primary, margin=declared))


def verdict(summary: Summary) -> str | None:
    return next(c.verdict for c in summary.comparisons if c.variant == "batch" and c.verdict)


@pytest.mark.parametrize(
    ("ends", "reasons"),
    [
        ("FFFNN", "2 of 5 runs of batch are not finite; in the 3 pairs left, -0.197 (95%"),
        ("FFFCN", "1 of 5 runs of batch crashed and 1 of 5 runs of batch is not finite; in the 3 pairs"),
        ("FNNNN", "4 of 5 runs of batch are not finite; in the 1 pair left, -0.19"),
        ("NNNNN", "5 of 5 runs of batch are not finite."),
        ("CCCCC", "5 of 5 runs of batch crashed."),
    ],
)
def test_no_verdict_on_a_loss_while_pairs_are_lost(ends: str, reasons: str) -> None:
    summary = study(ends)
    assert verdict(summary) == "pairs_lost"
    assert verdict_sentences(summary)[0].startswith(
        f"batch against none: no verdict on test loss, because {reasons}"
    )
    row = next(row for table in tables(summary) if table.title == "Difference from none" for row in table.rows
               if row[1] == "test loss")  # fmt: skip
    assert row[-2:] == ("–", "pairs lost")


def test_the_baselines_lost_runs_count_as_well() -> None:
    summary = study("FFFFF", none="FFNFF")
    assert verdict(summary) == "pairs_lost"
    assert "1 of 5 runs of none is not finite; in the 4 pairs left" in verdict_sentences(summary)[0]


def test_neither_a_margin_nor_many_seeds_give_one() -> None:
    """The survivors would be "the same" within that margin."""
    assert verdict(study("FFFFN", margin=5.0)) == "pairs_lost"


def test_for_an_accuracy_every_run_counts() -> None:
    """Logits that are not finite are wrong answers: 0 right, and no pair is lost."""
    summary = study("FFFNN", primary="test_accuracy")
    found = next(c for c in summary.comparisons if c.verdict)
    assert (found.n, found.lost, found.verdict) == (5, {}, "undecided")
    assert [round(value, 2) for _, value in found.values] == [0.2, 0.2, 0.2, -0.7, -0.71]
    assert verdict(study("FFFCN", primary="test_accuracy")) == "pairs_lost"  # a crash has no number at all


def test_runs_that_are_missing_are_not_lost() -> None:
    """An interrupted study says less, and nothing wrong: who is missing does not depend on the result."""
    summary = study("FFFF.")
    assert verdict(summary) == "better"
    assert "4 of 5 seeds)" in verdict_sentences(summary)[0]
    assert verdict_sentences(summary)[0].endswith(" 1 of 5 runs of batch is missing.")
    assert summary.limits[-1].startswith(
        "not all planned runs are there (batch: 4 of 5 pairs): a verdict before "
    )
    assert not study("FFFFF").limits


def test_runs_that_did_not_learn_keep_their_number() -> None:
    assert next(c for c in study("FFFSS").comparisons if c.verdict).n == 5


def test_training_success_has_a_sentence_with_its_test() -> None:
    summary = study("FFFFF", none="NNNNN", primary="test_accuracy")
    p = fisher_exact([[5, 0], [0, 5]]).pvalue
    assert p == pytest.approx(0.0079, abs=5e-5)
    assert verdict_sentences(summary)[0].endswith(
        " batch trained in 5 of 5 runs, none in 0 of 5 (5 not finite): Fisher's exact test, p 0.0079."
    )
    rate = next(rate for rate in as_json(summary)["rates"] if rate["variant"] == "batch")
    assert rate["p"] == pytest.approx(p)
    assert rate["paired_p"] == pytest.approx(binomtest(5, 5, 0.5).pvalue)  # McNemar's: 0.0625


@pytest.mark.parametrize(("batch", "none"), [("FFFSS", "FFFFF"), ("FFSNN", "FSSSS"), ("FFFFC", "FNNNN")])
def test_against_scipy_fisher(batch: str, none: str) -> None:
    counts = [[ends.count("F"), len(ends.replace("C", "")) - ends.count("F")] for ends in (batch, none)]
    found = next(rate for rate in study(batch, none).rates if rate.variant == "batch")
    assert found.p == pytest.approx(fisher_exact(counts).pvalue)


def test_where_every_run_trained_nothing_is_said_of_it() -> None:
    assert "trained" not in " ".join(verdict_sentences(study("FFFFF")))


def test_a_metric_without_a_value_on_this_data() -> None:
    """The recall of a class that has no test samples."""
    cells = tuple(
        Cell(name, {}, name, (0, 1, 2), tuple(
            RunRecord(name, {}, s, name, name, "finished", final={"test_recall:emu": math.nan}) for s in range(3)
        )) for name in ("none", "batch")
    )  # fmt: skip
    summary = summarize(StudyResults("demo", "none", (), cells, primary="test_recall:emu"))
    assert verdict_sentences(summary) == [
        "batch against none: no verdict on test recall of emu, because 3 of 3 pairs are without a number."
    ]


def test_words_stand_at_the_primary_metric_alone() -> None:
    summary = study("FFFFF")
    judged = {(c.metric, c.at) for c in summary.comparisons if c.verdict is not None}
    assert judged == {("test_loss", "final")}
    exported = {(c["metric"], c["at"]): (c["verdict"], c["p_holm"]) for c in as_json(summary)["comparisons"]}
    assert exported["test_accuracy", "final"] == (None, None)
    assert exported["test_loss", "best"] == (None, None)
    table = next(table for table in tables(summary) if table.title == "Difference from none")
    assert {row[1]: row[-1] for row in table.rows} == {
        "test loss": "better", "test accuracy": "–", "val loss": "–",
    }  # fmt: skip
    assert "No run has a number of: val accuracy." in table.caption


def test_a_comparison_that_lost_pairs_is_in_the_family_and_helps_no_other() -> None:
    """Its survivors have a tiny p; with it, Holm would ask less of the comparison beside it."""
    clear = cell("a", "FFFFF", 0.9, (0.11, 0.11, 0.12, 0.12, 0.1))
    lost = cell("b", "FFFFN", 0.95, (0.1, 0.12, 0.1101, 0.13, 0.1))
    summary = summarize(
        StudyResults("demo", "none", (), (cell("none", "FFFFF", 0.7), clear, lost), primary="test_loss")
    )
    first, second = (c for c in summary.comparisons if c.verdict)
    assert second.p is not None
    assert first.p is not None
    assert second.p < first.p
    assert (first.family, first.p_holm) == (2, pytest.approx(2 * first.p))
    assert (second.verdict, second.p_holm) == ("pairs_lost", None)
