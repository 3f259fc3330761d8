"""Words, tables and figures of the networks' inside, in every output."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from bnbench.analysis.contents import Summary
from bnbench.analysis.inside.stored import inside_values, stored_inside
from bnbench.analysis.summary import summarize
from bnbench.base.files import strict
from bnbench.base.terminal_console import SafeConsole
from bnbench.reports.figures.all import figures, find_figure
from bnbench.reports.figures.figure import INSIDE
from bnbench.reports.figures.files import write_figures
from bnbench.reports.figures.inside_data import BINS, FULL_SHARE, LEVELS, chosen_steps, spaced, strips
from bnbench.reports.figures.strip_image import GAP
from bnbench.reports.formats.csv import probes_text
from bnbench.reports.inside_console import print_inside
from bnbench.reports.page.html import to_html
from bnbench.reports.sentences.inside import inside_line, inside_sentences
from bnbench.reports.tables.inside import index_table, layer_tables
from bnbench.results import StudyResults
from tests.fabricated import cell, record, results
from tests.fabricated_probes import probed, rows_of, usual, values_of
from tests.shown import answer, everything


@pytest.fixture(scope="module")
def results_() -> StudyResults:
    return probed(usual())


@pytest.fixture(scope="module")
def summary(results_: StudyResults) -> Summary:
    return summarize(results_)


def test_a_difference_that_holds_has_a_verb_and_its_interval(summary: Summary) -> None:
    """Geometric mean of 2.6 (1 + s) / (0.2 (1 - s)) over s = ±1/40, ...: 13.4, t interval of its logarithm."""
    assert inside_sentences(summary)[0] == (
        "batch lowers the drift of the pre-activations by a factor 13 [11, 17] against none (95% interval, 5 seeds)."
    )
    assert any(
        "raises the growth of squared gradients per layer by a factor 1.47 [" in s
        for s in inside_sentences(summary)
    )
    assert any(
        "lowers the share of dead units by 25.1 [24.0, 26.3] points" in s for s in inside_sentences(summary)
    )


def test_a_difference_that_does_not_hold_has_no_verb() -> None:
    indices = usual()
    for seed, run in enumerate(indices["batch"]):
        run["drift"] = indices["none"][seed]["drift"] * (1.2 if seed % 2 else 0.8)
    line = inside_sentences(summarize(probed(indices)))[0]
    assert re.fullmatch(
        r"Not shown to differ from none in the drift of the pre-activations: batch 0\.9\d* \[.*\] times "
        r"\(5 seeds, p 0\.\d+\)\.",
        line,
    ), line
    assert not re.search("lowers|raises", line)


def test_the_noise_floor_and_the_correction_are_said(summary: Summary) -> None:
    lines = inside_sentences(summary)
    floor = "the cosine of the gradient before and after of batch (0.885, floor 0.9)."
    assert f"Not shown to be above the noise floor: {floor}" in lines
    assert "after Holm's correction over all 4 comparisons" in lines[-1]


def test_runs_without_a_number_are_named() -> None:
    study = probed(usual())
    first, second = study.cells
    broken = replace(
        second.records[1],
        outcome="not_finite",
        inside=dict.fromkeys(second.records[1].inside, math.nan),
    )
    records = (second.records[0], broken, *second.records[3:])
    summary = summarize(replace(study, cells=(first, replace(second, records=records))))
    lines = inside_sentences(summary)
    assert any(line.startswith("batch seed 1 (not finite): no value of drift") for line in lines), lines
    assert any(line.startswith("batch seed 2 (missing): no value of drift") for line in lines)
    assert not any(re.search("lowers|raises the", line) for line in lines[:4])


@pytest.mark.parametrize("width", [80, 40])
def test_the_answer_has_one_line_where_probes_were_asked_for(summary: Summary, width: int) -> None:
    lines = answer(summary, width).splitlines()
    assert sum(line.startswith("Inside:") for line in lines) == 1
    assert inside_line(summary) == "Inside: batch lowers the drift by a factor 13 [11, 17] (--tables probes)"
    if width == 80:
        assert inside_line(summary) in lines
    without = summarize(results(cell("none", [record("none", s) for s in range(3)])))
    assert "Inside" not in answer(without, width)
    assert "Inside" not in everything(without, width)


def test_two_seeds_have_numbers_and_no_interval() -> None:
    summary = summarize(probed(usual(2)))
    assert "2 seeds: too few for an interval" in inside_sentences(summary)[0]
    assert inside_line(summary) == "Inside: no index is shown to differ from none's (--tables probes)"
    row = index_table(summary).rows[1]
    assert (row[0], row[1], row[-1]) == ("drift", "batch", "2")
    assert "[" not in row[2]


def test_the_tables_have_the_numbers(summary: Summary) -> None:
    assert index_table(summary).rows[1] == (
        "drift", "batch", "0.196 [0.175, 0.220]", "0.1", "x 0.075 [0.059, 0.094]", "<0.0001", "5"
    )  # fmt: skip
    table = layer_tables(summary, 0)[0]
    posts = [np.maximum(values_of("none", 1, 0, seed), 0).std() for seed in range(5)]
    assert table.columns == ("layer", "none", "batch")
    assert table.rows[0][1] == f"{np.mean(posts):.3f} ± {np.std(posts, ddof=1):.3f}"


@pytest.mark.parametrize("width", [80, 40])
def test_a_mean_of_some_seeds_has_a_sign(results_: StudyResults, width: int) -> None:
    def load(of: Any, run: Any) -> Any:
        rows = rows_of(of.variant, run.seed)
        lost = (of.variant, run.seed) == ("batch", 1)
        return [row._replace(value=math.nan) if lost and row.quantity == "post_std" else row for row in rows]

    console = SafeConsole(file=io.StringIO(), width=width)
    print_inside(console, summarize(replace(results_, probes=load)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert len(re.findall(r"0\.\d+\*", text)) == 6  # three layers at two steps, of one of two variants
    assert "*: not every seed has a number." in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 40])
def test_a_look_fits_the_screen(summary: Summary, width: int) -> None:
    console = SafeConsole(file=io.StringIO(), width=width)
    print_inside(console, summary, ["Figures: 8 in results/demo/figures"])
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(cell_len, lines)) <= width
    headings = [line for line in lines if line.startswith("layer ")]
    assert len(headings) == (
        2 if width == 80 else 6
    )  # all quantities together, or three tables, at two steps
    assert lines[-1] == "Figures: 8 in results/demo/figures"


def swept(stds: tuple[float, ...], layers: int = 10) -> Summary:
    """Two variants at several settings, probed before the first step alone."""
    cells = [
        cell(
            v,
            [replace(record(v, s, setting={"init.std": std}), inside={}) for s in range(2)],
            {"init.std": std},
        )
        for v in ("none", "batch")
        for std in stds
    ]

    def load(of: Any, run: Any) -> Any:
        return rows_of(of.variant, run.seed, layers, (0,))

    return summarize(replace(results(*cells), probes=load))


def test_the_lecture_fits_a_page() -> None:
    """Ten layers at three scales of the weights, with and without batch norm: one table a quantity."""
    console = SafeConsole(file=io.StringIO(), width=80)
    print_inside(console, swept((0.01, 0.045, 1)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "none 0.01  none 0.045  none 1  batch 0.01  batch 0.045  batch 1" in text
    assert len(text.splitlines()) < 60
    narrow = SafeConsole(file=io.StringIO(), width=40)
    print_inside(narrow, swept((0.01, 0.045, 1)))
    lines = narrow.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(cell_len, lines)) <= 40
    assert sum(line.split() == ["layer", "0.01", "0.045", "1"] for line in lines) == 6


@pytest.mark.parametrize(
    ("steps", "most", "chosen"),
    [
        ((0, 1, 10, 100, 200, 300, 400, 500), 4, [0, 10, 100, 500]),
        ((0, 5), 6, [0, 5]),
        ((7,), 6, [7]),
        (range(1001), 4, [0, 9, 99, 1000]),  # log(1 + step) in thirds of log(1001): 9.0, 99.07
    ],
)
def test_steps_are_chosen_evenly_by_their_logarithm(steps: Any, most: int, chosen: list[int]) -> None:
    assert chosen_steps(steps, most) == chosen


def test_layers_are_chosen_evenly_with_both_ends() -> None:
    assert spaced(list(range(1, 20)), 4) == [1, 7, 13, 19]
    assert spaced([1, 2], 4) == [1, 2]


def levels_of(url: str) -> list[list[int]]:
    """The levels of each strip, from the pixels of the picture."""
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    start = data.index(b"IDAT") + 4
    line = zlib.decompress(data[start : data.index(b"IEND") - 8])[1:]
    whole = [list(line[place : place + BINS + 2 * GAP]) for place in range(0, len(line), BINS + 2 * GAP)]
    return [strip[GAP:-GAP] for strip in whole]


def test_a_strip_shows_the_histogram_of_its_values(summary: Summary) -> None:
    """Against numpy's histogram of the values themselves: the interpolation between wider bins costs little."""
    made = strips(summary, "pre")
    assert made is not None
    assert made.labels == ["none", "layer 1", "layer 2", "layer 3", "batch", "layer 1", "layer 2", "layer 3"]
    assert [column.step for column in made.columns] == [0, 1, 10, 100]
    drawn = levels_of(made.rows[2]["image"])  # none, layer 2
    for step, levels in zip((0, 1, 10, 100), drawn, strict=True):
        values = np.concatenate([values_of("none", 2, step, seed) for seed in range(5)])
        shares = np.histogram(values, BINS, (made.low, made.high))[0] / len(values)
        wanted = np.minimum(np.sqrt(shares / FULL_SHARE), 1) * (LEVELS - 1)
        assert np.abs(np.array(levels) - wanted).mean() < 0.7
        middle = np.average(np.linspace(made.low, made.high, BINS), weights=np.square(levels))
        assert middle == pytest.approx(values.mean(), abs=0.05)


def test_the_colour_is_one_for_all_strips(summary: Summary) -> None:
    made = strips(summary, "pre")
    assert made is not None
    pictures = [base64.b64decode(row["image"].partition(",")[2]) for row in made.rows]
    palettes = {data[data.index(b"PLTE") : data.index(b"IDAT") - 4] for data in pictures}
    assert len(palettes) == 1


def test_a_deep_network_shows_some_layers_and_says_which() -> None:
    summary = summarize(probed(usual(1), layers=19, steps=(0, 1, 2, 5, 10, 20, 50, 100, 200)))
    figure = find_figure(summary, "inside_strips_pre")
    assert len([row for row in figure.data["inside_strips_pre"] if row["layer"]]) == 24
    assert "Columns: step 0, 2, 10, 20, 50, 200." in figure.caption
    assert "12 of 19 layers, evenly spaced" in figure.caption
    assert "6 of 9 steps" in figure.caption
    assert len(figure.table.rows) == 2 * 12 * 6
    assert len(find_figure(summary, "inside_gradients_first").data["inside_gradients_first"]) == 38


def test_many_variants_keep_a_readable_height() -> None:
    indices = {f"v{i}": usual(1)["none"] for i in range(20)}
    made = strips(summarize(probed(indices, layers=5, steps=(0,))), "pre")
    assert made is not None
    assert len(made.labels) <= 80
    assert made.drawn_layers == 3


def test_settings_are_columns_where_they_fit() -> None:
    made = strips(swept((0.01, 0.045, 1), layers=3), "post")
    assert made is not None
    assert [column.lines for column in made.columns] == [
        ("0.01", "step 0"), ("0.045", "step 0"), ("1", "step 0"),
    ]  # fmt: skip
    many = swept(tuple(range(1, 9)), layers=3)
    made = strips(many, "post")
    assert made is not None
    assert [column.text for column in made.columns] == ["0"]
    assert (
        "Each variant is at its best setting: none @ init.std="
        in find_figure(many, "inside_strips_post").caption
    )


def test_captions_are_czech_where_that_is_asked_for(summary: Summary) -> None:
    own = [f for f in figures(replace(summary, language="cs")) if f.section == INSIDE]
    english = [f for f in figures(summary) if f.section == INSIDE]
    assert [f.name for f in own] == [f.name for f in english]
    assert own[0].title == "Vstupy aktivací podle vrstev a kroků"
    assert all(f.title != e.title and f.caption != e.caption for f, e in zip(own, english, strict=True))
    assert [f.data for f in own] == [f.data for f in english]


def test_gradients_over_depth_are_geometric_means(summary: Summary) -> None:
    rows = find_figure(summary, "inside_gradients_first").data["inside_gradients_first"]
    logs = [math.log(4 * (1 + seed / 10)) for seed in range(5)]
    row = next(row for row in rows if (row["variant"], row["at"]) == ("none", 2))
    assert row["mid"] == pytest.approx(math.exp(np.mean(logs)), rel=1e-4)
    assert row["high"] == pytest.approx(math.exp(np.mean(logs) + np.std(logs, ddof=1)), rel=1e-4)


def test_every_figure_is_drawn_as_a_file(summary: Summary, tmp_path: Path) -> None:
    names = [path.stem for path in write_figures(summary, tmp_path, "svg", section=INSIDE)]
    assert names == [
        "inside_strips_pre", "inside_strips_post", "inside_gradients_first", "inside_gradients_last", "inside_unit",
        "inside_loss_range", "inside_gamma", "inside_beta",
    ]  # fmt: skip
    for path in tmp_path.iterdir():
        assert not re.search("NaN|Infinity|undefined|>null<", path.read_text()), path
    assert (tmp_path / "inside_strips_pre.svg").read_text().count("<image") == 8
    assert [figure.name for figure in figures(summary)][-8:] == names


def test_one_layer_has_its_bands_side_by_side() -> None:
    figure = find_figure(summarize(probed(usual(1), layers=1)), "inside_gamma")
    rule, points = figure.draw().to_dict()["layer"]
    assert (rule["mark"]["type"], points["mark"]["type"]) == ("rule", "point")
    assert "xOffset" in rule["encoding"]


def test_the_page_has_a_section(summary: Summary, results_: StudyResults) -> None:
    page = to_html(summary, results_)
    seen, _, _ = page.partition('<script type="application/json"')
    assert '<h2 id="inside">Inside the network</h2>' in seen
    assert "by a factor 13 [11, 17] against none" in seen
    assert seen.count("Inside the network: indices") == 2  # the heading and the name of its region
    assert seen.count('data-figure="inside_') == 8
    plain = results(*(cell(v, [record(v, s) for s in range(5)]) for v in ("none", "batch")))
    without = to_html(summarize(plain), plain)
    assert "Inside the network" not in without
    assert len(page) - len(without) < 200_000


@pytest.mark.slow
def test_a_deep_network_adds_less_than_300_kilobytes() -> None:
    study = probed(usual(2), layers=19, steps=(0, 1, 10, 100, *range(200, 2100, 100)))
    plain = results(*(cell(v, [record(v, s) for s in range(2)]) for v in ("none", "batch")))
    assert len(to_html(summarize(study), study)) - len(to_html(summarize(plain), plain)) < 300_000


def test_summary_json_keeps_it(summary: Summary) -> None:
    values = json.loads(json.dumps(strict(inside_values(summary.inside))))
    kept = stored_inside(values)
    assert kept.spreads == summary.inside.spreads
    assert kept.contrasts == summary.inside.contrasts
    assert {number.step for number in kept.numbers} == {0, 100}
    again = replace(summary, inside=kept)
    assert index_table(again) == index_table(summary)
    assert layer_tables(again, 100) == layer_tables(summary, 100)
    assert inside_sentences(again) == inside_sentences(summary)
    assert not stored_inside(None).asked


def test_probes_csv_is_tidy(results_: StudyResults) -> None:
    rows = list(csv.DictReader(io.StringIO(probes_text(results_), newline="")))
    assert list(rows[0]) == ["variant", "seed", "step", "layer", "depth", "quantity", "unit", "value"]
    assert len(rows) == sum(len(rows_of(v, s)) for v in ("none", "batch") for s in range(5))
    wanted = {
        "variant": "batch", "seed": "3", "step": "100", "layer": "blocks.1", "depth": "2", "quantity": "gamma",
        "unit": "2",
    }  # fmt: skip
    (found,) = [row for row in rows if wanted.items() <= row.items()]
    assert float(found["value"]) == pytest.approx(1.3)
