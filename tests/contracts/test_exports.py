"""Every registered output format: it takes every kind of study, and says the same numbers as the others."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import Any

import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import as_json
from bnbench.analysis.summary import summarize
from bnbench.reports.formats import FORMATS
from bnbench.reports.formats.escapes import markdown_text
from bnbench.reports.sentences.headline import headline
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import TABLES, tables
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, RunRecord
from tests.shown import written, written_together

ODD_NAME = 'a_b & 50% {x} #1 $y$ \\z ~^ <i> | *"q"*, ü'


def run(variant: str, seed: int, loss: float, setting: dict[str, Any]) -> RunRecord:
    numbers = {
        f"{split}_{name}": value
        for split in ("train", "val", "test")
        for name, value in (("loss", loss), ("accuracy", 1 - loss / 3))
    }
    history = tuple(
        HistoryRow(10 * i, float(i), 0.1 * i, None, {"val_loss": loss / max(i, 1)}) for i in range(4)
    )
    return RunRecord(
        variant, setting, seed, "c", variant, "finished" if math.isfinite(loss) else "not_finite", None, 30, 30, 10,
        1 / 3, 7, numbers, numbers, 30, history, layers=("0: Linear(4, 2)",), environment={"device": "cpu"},
    )  # fmt: skip


def ordinary() -> Summary:
    cells = [
        Cell(v, {}, "c", (0, 1, 2), tuple(run(v, s, base + s / 7, {}) for s in range(3)))
        for v, base in (("none", 0.5), ("batch", 0.1))
    ]
    return summarize(
        StudyResults("plain", "none", (Target("val_loss", 0.2), Target("val_loss", 0.1)), tuple(cells))
    )


def with_failures() -> Summary:
    crashed = RunRecord(ODD_NAME, {}, 1, "c", "batch", "crashed", error=f'ValueError: {ODD_NAME}\n  File "x"')
    odd = Cell(ODD_NAME, {}, "c", (0, 1, 2), (run(ODD_NAME, 0, math.nan, {}), crashed))
    none = Cell("none", {}, "c", (0, 1, 2), tuple(run("none", s, 0.5, {}) for s in range(3)))
    results = StudyResults(
        ODD_NAME, "none", (Target("val_loss", 0.2),), (none, odd), warnings=(f"odd {ODD_NAME}",)
    )
    return summarize(results)


def swept() -> Summary:
    cells = [
        Cell(v, {"model.hidden": [w]}, "c", (0,), (run(v, 0, 1 / w, {"model.hidden": [w]}),))
        for v in ("none", "batch")
        for w in (8, 16)
    ]
    return summarize(StudyResults("sweep", "none", (), tuple(cells)))


def empty() -> Summary:
    return summarize(StudyResults("empty", "none", (), (Cell("none", {}, "c", (0, 1), ()),)))


STUDIES = {study.__name__: study for study in (ordinary, with_failures, swept, empty)}


@pytest.fixture(params=STUDIES)
def summary(request: pytest.FixtureRequest) -> Summary:
    return STUDIES[request.param]()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_every_study(name: str, summary: Summary) -> None:
    text = written(name, summary)
    assert text.endswith("\n")
    assert written(name, summary) == text
    assert not re.search(r"\b(nan|inf|None)\b", text)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_names_every_variant(name: str) -> None:
    text = written(name, ordinary())
    assert "none" in text
    assert "batch" in text


def test_the_formats_that_the_command_line_offers() -> None:
    assert set(FORMATS) == {"json", "csv", "markdown", "latex"}


def test_json_is_strict(summary: Summary) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    values = json.loads(written("json", summary), parse_constant=refuse)
    assert as_json(summary).items() <= values.items()
    assert values["sentences"]["verdicts"] == verdict_sentences(summary)
    assert values["sentences"]["headline"] == headline(summary)
    assert values["notes"] == list(summary.notes)


def test_csv_has_the_numbers_of_json(summary: Summary) -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", summary))))
    variants = json.loads(written("json", summary))["variants"]
    assert len(rows) == sum(len(variant["seeds"]) for variant in variants)
    found = {(row["variant"], row.get("setting.model.hidden", ""), row["seed"]): row for row in rows}
    for variant in variants:
        setting = str(variant["setting"].get("model.hidden", ""))
        for run in variant["runs"]:
            row = found[variant["name"], setting, str(run["seed"])]
            assert row["outcome"] == run["outcome"]
            for phase in ("final", "best"):
                for metric, value in run[phase].items():
                    assert row[f"{phase}_{metric}"] == ("" if value is None else repr(value))
            steps = run["steps_to_target"]
            assert row.get("steps_to_target", "") == ("" if steps is None else str(steps))


def test_csv_has_no_row_of_its_own_for_a_line_break() -> None:
    assert len(written("csv", with_failures()).splitlines()) == 1 + 6


def test_markdown_tables_have_as_many_cells_in_every_row(summary: Summary) -> None:
    for block in written("markdown", summary).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) <= 1
    assert written("markdown", summary).count("\n| --- |") == len(tables(summary, TABLES))


def test_latex_is_balanced_and_escaped(summary: Summary) -> None:
    text = written("latex", summary)
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)  # without what is escaped
    assert bare.count("{") == bare.count("}")
    assert not set("#_~^<>±–%") & set(re.sub(r"\$[<>]\$", "", bare))
    assert bare.count("$") % 2 == 0
    assert (
        text.count(r"\begin{table}")
        == text.count(r"\end{table}")
        == len([t for t in tables(summary, TABLES) if not t.bars])
    )
    for tabular in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns, body = tabular
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows
        for row in rows:
            assert len(re.split(r"(?<!\\)&", row)) == len(columns)


def test_every_latex_label_is_there_once() -> None:
    """Also where two names differ only in signs that a label can't have."""
    studies = {"a_b": ordinary(), "a-b": ordinary(), "other": swept()}
    labels = re.findall(r"\\label\{(.*?)\}", written_together("latex", studies))
    assert len(labels) > 30
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)


def test_latex_says_what_the_signs_are() -> None:
    text = written("latex", ordinary())
    assert r"Mean $\pm$ standard deviation (n-1) over 3 seeds" in text
    assert r"val\_loss $\leq$ 0.2" in text
    assert "$-$0.4" in text


def test_markdown_and_latex_show_the_cells_of_the_tables() -> None:
    for table in tables(ordinary()):
        for cell in (cell for row in table.rows for cell in row):
            assert markdown_text(cell) in written("markdown", ordinary())
