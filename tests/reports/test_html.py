"""report.html: self-contained, safe with any text, and the same numbers as everywhere else."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bnbench.analysis.summary import summarize
from bnbench.api.summaries import load_results, write_summaries
from bnbench.reports.page.html import pack, to_html
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.reports.tables.layers import layer_lists
from bnbench.results import REPORT, Cell, ResultsFolder, StudyResults, files
from bnbench.results.lines import with_lines
from bnbench.study import Target
from bnbench.study.records import HistoryRow, Outcome, RunRecord

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
STUDY = {"name": "demo", "description": "On digits", "epochs": 2}


def run(
    variant: str, seed: int, loss: float = 0.3, outcome: Outcome = "finished", lr: float = 0.1
) -> RunRecord:
    setting = {"optimizer.lr": lr}
    if outcome == "crashed":
        return RunRecord(variant, setting, seed, "c", variant, outcome, error=f"ValueError: {NASTY}")
    numbers = {
        f"{s}_{m}": v for s in ("train", "val", "test") for m, v in (("loss", loss), ("accuracy", 1 - loss))
    }
    history = tuple(HistoryRow(5 * i, float(i), 0.1 * i, None, numbers) for i in range(3))
    return RunRecord(
        variant, setting, seed, "c", variant, outcome, None, 10, 10, 5, 0.2, 7, numbers, numbers, 10, history,
        layers=("0: Linear", "1: <Norm>"),
    )  # fmt: skip


def results(
    *cells: Sequence[RunRecord], targets: tuple[Target, ...] = (Target("val_accuracy", 0.9),)
) -> StudyResults:
    made = tuple(
        Cell(runs[0].variant, runs[0].setting, "c", tuple(range(len(runs))), tuple(runs)) for runs in cells
    )
    return StudyResults("demo", "none", targets, made, STUDY, {"python": "3.12"})


def three(variant: str, loss: float, lr: float = 0.1) -> list[RunRecord]:
    return [run(variant, seed, loss + seed / 50, lr=lr) for seed in range(3)]


PLAIN = results(three("none", 0.3), three("batch", 0.1))


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the text of every cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.elements and self.elements[-1][0] in ("td", "th") and data.strip():
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(made: StudyResults) -> Page:
    return Page(to_html(summarize(made), made))


@pytest.fixture(scope="module")
def plain() -> Page:
    return page_of(PLAIN)


def data_of(text: str) -> Any:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[0])


def test_nothing_is_fetched(plain: Page) -> None:
    for tag, attributes in plain.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), f"<{tag} {name}={value}>"
    assert not plain.all("link")
    for style in re.findall(r"<style>(.*?)</style>", to_html(summarize(PLAIN), PLAIN), re.S):
        assert "url(" not in style
        assert "@import" not in style
    policy = next(meta for meta in plain.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none';")  # the browser refuses what we forgot


def test_one_bundle_and_a_size_that_can_be_mailed() -> None:
    text = to_html(summarize(PLAIN), PLAIN)
    assert text.count("window.vegaEmbed=") == 1
    assert len(text.encode()) < 2_000_000
    assert [attributes.get("type") for attributes in Page(text).all("script")] == [
        "application/json",
        None,
        None,
    ]


def test_headings_in_order_and_the_verdict_first(plain: Page) -> None:
    levels = [int(tag[1]) for tag, _ in plain.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[:2] == [1, 2]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    sections = [a.get("id") for tag, a in plain.elements if tag == "h2"]
    assert sections == [
        "verdict",
        "figures",
        "verdicts",
        "tables",
        "methods",
        "layers",
        "study",
        "environment",
    ]
    text = " ".join(plain.text)
    assert verdict_sentences(summarize(PLAIN))[0] in text
    assert "epochs: 2" in text
    assert "python: '3.12'" in text


def test_the_page_is_for_everyone(plain: Page) -> None:
    assert plain.all("html") == [{"lang": "en"}]
    assert plain.all("a")[0] == {"class": "skip", "href": "#main"}
    charts = [a for a in plain.all("div") if "data-figure" in a]
    assert len(charts) == len(plain.all("details")) == 5
    assert all(len(str(a["aria-label"])) > 40 for a in charts)
    assert all(a["scope"] in ("col", "row") for a in plain.all("th"))
    boxes = [a for a in plain.all("div") if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in boxes)
    ids = [a["id"] for _, a in plain.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_tables_are_those_of_the_console(plain: Page) -> None:
    summary = summarize(PLAIN)
    expected = [[list(t.columns), *map(list, t.rows)] for t in (*tables(summary), layer_lists(summary))]
    assert plain.tables[-len(expected) :] == expected


def test_no_text_becomes_markup_or_code() -> None:
    made = results(three("none", 0.3), [*three(NASTY, 0.1)[:2], run(NASTY, 2, outcome="crashed")])
    made = StudyResults(
        NASTY, "none", made.targets, made.cells, {"description": NASTY}, {"note": NASTY}, (NASTY,)
    )
    text = to_html(summarize(made), made)
    assert "<script>alert" not in text
    assert not Page(text).all("img")
    assert "<img" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert len(Page(text).all("script")) == 3
    assert data_of(text)["data"]["means"]["texts"]["variant"] == ["none", NASTY]


def test_rows_are_packed_without_loss() -> None:
    rows = [{"a": "x", "b": 1.5, "c": None}, {"a": "y", "b": 2, "c": 3}, {"a": "x", "b": 0, "c": None}]
    packed = pack(rows)
    assert packed == {
        "columns": {"a": [0, 1, 0], "b": [1.5, 2, 0], "c": [None, 3, None]},
        "texts": {"a": ["x", "y"]},
    }
    assert pack([]) == {"columns": {}, "texts": {}}


def test_a_sweep_offers_its_settings() -> None:
    made = results(
        *(three(v, loss, lr) for lr in (0.1, 1.0) for v, loss in (("none", 0.3 + lr / 5), ("batch", 0.1)))
    )
    text = to_html(summarize(made), made)
    assert data_of(text)["best"] == {"none": "optimizer.lr=0.1", "batch": "optimizer.lr=0.1"}
    assert [option["value"] for option in Page(text).all("option")] == [
        "",
        "optimizer.lr=0.1",
        "optimizer.lr=1.0",
    ]


@pytest.mark.parametrize(
    "made",
    [
        results([run("none", 0, outcome="crashed")], [run("batch", 0, outcome="crashed")]),
        results([run("none", 0)], [run("batch", 0)]),
        results(three("none", 0.3), three("batch", 0.2), targets=()),
        results(three("none", 0.3), [run("batch", 0, math.nan, "not_finite"), run("batch", 1, math.inf, "not_finite")]),
        results(three("batch", 0.3)),
    ],
    ids=["crashed", "one seed", "no target", "not_finite", "no baseline"],
)  # fmt: skip
def test_every_study_gives_a_page(made: StudyResults) -> None:
    text = to_html(summarize(made), made)
    assert "NaN" not in json.dumps(data_of(text))
    assert "Infinity" not in json.dumps(data_of(text))
    assert Page(text).tables


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultsFolder:
    found = ResultsFolder(tmp_path)
    monkeypatch.setattr(found, "load", lambda: PLAIN)
    return found


def test_the_folder_gets_its_page(folder: ResultsFolder) -> None:
    results = load_results(folder)
    summary = summarize(results)
    assert write_summaries(folder, results, summary) == ""
    text = (folder.path / "report.html").read_text()
    assert text == to_html(summarize(PLAIN), PLAIN)


def test_what_goes_wrong_in_drawing_costs_no_results(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / REPORT).write_text("of other numbers")

    def broken(*_: object) -> str:
        raise RuntimeError("no fonts\nat all")

    monkeypatch.setattr("bnbench.reports.page.html.to_html", broken)
    results = load_results(folder)
    summary = summarize(results)
    warning = write_summaries(folder, results, summary)
    assert warning == "report.html can't be drawn: RuntimeError: no fonts"
    assert json.loads((folder.path / files.SUMMARY_JSON).read_text())["name"] == "demo"
    assert not (folder.path / REPORT).exists()


def test_a_key_names_what_its_figure_draws() -> None:
    """A further way of inference has final numbers, and no learning curve."""
    inferred = [replace(one, inference={"precise": dict(one.final)}) for one in three("batch", 0.1)]
    shown = with_lines(results(three("none", 0.3), inferred))
    page = to_html(summarize(shown), shown)
    (curves,) = re.findall(r'<figure id="figure-val_loss">.*?</figure>', page, flags=re.DOTALL)
    assert re.findall(r'<li data-variant="([^"]*)">', curves) == ["none", "batch"]
    controls = page.partition('<fieldset id="legend">')[2].partition("</fieldset>")[0]
    assert "batch@precise" in controls
