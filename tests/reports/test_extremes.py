"""Whatever a results folder holds, no output says anything absurd: every extreme in every format."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.analysis.workloads import compare_workloads
from bnbench.base.terminal_console import SafeConsole
from bnbench.reports.figures.files import write_figures
from bnbench.reports.formats import FORMATS
from bnbench.reports.page.html import to_html
from bnbench.reports.tables.all import tables, workload_tables
from bnbench.reports.tables.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.fabricated_extremes import STUDIES
from tests.shown import print_everything, written, written_together

EXTREMES = pytest.mark.parametrize("name", STUDIES)
#: No number is one of these: not finite, a negative zero, a percent sign twice, an interval without width at 0.
ABSURD = re.compile(
    r"\bnan\b|\binf\b|NaN%|(?<![\w.])[-−]0(?:\.0+)?(?![.\d])|%%|\[\+?0\.0*, \+?0\.0*\]|\bNone\b"
)

#: Numbers that are that large or small are written so.
SCIENTIFIC = ("tiny loss", "huge loss")


def summary_of(name: str) -> Summary:
    return summarize(STUDIES[name]())


def on_console(summary: Summary, width: int = 80) -> str:
    console = SafeConsole(file=io.StringIO(), width=width)
    print_everything(console, summary)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def cells_of(found: list[Table]) -> list[tuple[str, str]]:
    return [(table.title, cell) for table in found for row in table.rows for cell in row]


@EXTREMES
def test_no_table_and_no_sentence_is_absurd(name: str) -> None:
    summary = summary_of(name)
    is_swept = name == "truth swept"  # whose values are None and True
    for title, cell in cells_of(tables(summary)):
        assert is_swept or not ABSURD.search(cell), (title, cell)
        assert name in SCIENTIFIC or not re.search(r"\de[+-]?\d", cell), (title, cell)
    text = on_console(summary, 200)
    assert is_swept or not ABSURD.search(text), ABSURD.findall(text)


@EXTREMES
@pytest.mark.parametrize("width", [40, 80])
def test_every_cell_is_whole_on_the_screen(name: str, width: int) -> None:
    summary = summary_of(name)
    flat = on_console(summary, width)
    for title, cell in cells_of(tables(summary)):
        for part in re.split(r" (?=[(\[])", cell) if re.search(r"\d", cell) else [cell]:
            words = [word for word in part.split() if word.isprintable()]
            assert all(word in flat for word in words), (title, cell)


@EXTREMES
def test_every_export_can_be_read(name: str) -> None:
    summary = summary_of(name)
    told: dict[str, Any] = json.loads(written("json", summary), parse_constant=pytest.fail)
    assert [variant["name"] for variant in told["variants"]] == [v.variant for v in summary.variants]
    rows = list(csv.DictReader(io.StringIO(written("csv", summary), newline="")))
    assert len(rows) == sum(len(variant.seeds) for variant in summary.variants)
    assert not any(value.lower() in ("nan", "inf", "-inf") for row in rows for value in row.values())
    assert not any(value.startswith(("=", "@")) for row in rows for value in row.values())
    assert written("latex", summary).isascii()
    for line in written("markdown", summary).split("\n"):
        assert not line.startswith("|") or line.replace("\\|", "").endswith("|"), line


@EXTREMES
def test_the_page_can_be_made(name: str) -> None:
    results = STUDIES[name]()
    seen = to_html(summarize(results), results).partition('<script type="application/json"')[0]
    assert "<b>" not in seen
    assert not set(seen) & set("\x1b\r\x9b\u202e\u2066\x07")
    none = "" if name == "truth swept" else "|None"
    assert not re.search(rf">\s*(nan|NaN|inf{none})\s*<", seen)


@pytest.mark.parametrize(
    "name",
    ["infinite", "loss of zero", "one seed", "no runs", "a loss over two keys", "names swept", "nasty names"],
)
def test_figures_can_be_drawn(name: str, tmp_path: Path) -> None:
    for path in write_figures(summary_of(name), tmp_path, "svg"):
        assert not re.search("NaN|Infinity|undefined|>null<|\u202e|\x1b", path.read_text()), path


def test_several_studies_of_extremes() -> None:
    studies = {name: summary_of(name) for name in STUDIES}
    for form in FORMATS:
        text = written_together(form, studies)
        assert form != "json" or json.loads(text, parse_constant=pytest.fail)
        assert form != "latex" or text.isascii()


def test_a_run_that_is_missing_is_no_miss_of_the_target() -> None:
    names = ("all crashed", "baseline missing", "ten seeds", "no runs")
    found = workload_tables(compare_workloads({name: summary_of(name) for name in names}))
    rows = next(table.rows for table in found if table.title.startswith("Speed-up"))
    # equal times, evaluated every 10 of 20 steps: the logarithm's half width is t(9) 2.26216 * 0.5/√6 / √10 = 0.1460
    assert [row[4] for row in rows[:4]] == ["missed", "runs missing", "1.00 [0.864, 1.16]", "runs missing"]


# What some of them say


def sentences(name: str) -> str:
    return " ".join(on_console(summary_of(name), 200).partition("\nVerdicts\n")[2].split())


def test_without_runs_nothing_is_said_of_them() -> None:
    text = on_console(summary_of("no runs"), 200)
    assert "batch against none: no verdict on test accuracy, because no seed has a number for both." in text
    assert "reached a val loss of 0.9 in no run yet (none: no run yet): no speed-up can be given." in text
    assert "0 of 5 runs of" not in text


def test_all_right_is_no_certainty() -> None:
    """Half a sample of 100 away from all: √(0.005 * 0.995 / 100) = 0.71 pp."""
    found = next(
        table
        for table in tables(summary_of("tiny loss"))
        if table.title.startswith("Where the scatter comes from")
    )
    assert ("none", "val accuracy", "0.00 pp", "0.71 pp", "100") in found.rows


def test_a_test_set_without_samples_has_no_number() -> None:
    found = next(t for t in tables(summary_of("no test samples")) if t.title.startswith("Every seed"))
    assert found.rows[0] == ("none", "0: no number, 1: no number, 2: no number")


def test_seconds_of_another_machine_are_no_numbers() -> None:
    summary = summary_of("other machine")
    for table in tables(summary):
        for row in table.rows:
            if row[0] == "batch" and "seconds" in row:
                assert row[2:] == ("on cuda, not cpu", "5", "–", "0")
