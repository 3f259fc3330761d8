"""The data behind every figure, against numbers worked out here; and the figures as files."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.base.errors import ResultsError, UnknownNameError
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures import sweep_data
from bnbench.reports.figures.all import Figure, figures, find_figure, specification
from bnbench.reports.figures.charts import colour_of, dash_of
from bnbench.reports.figures.colours import BASELINE_COLOUR, COLOURS, colours
from bnbench.reports.figures.figure import KINDS, kind_of_figure
from bnbench.reports.figures.files import COLUMN_WIDTH, write_figures
from bnbench.reports.page.html import to_html
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, Outcome, RunRecord

NAN = math.nan


def run(
    variant: str,
    seed: int,
    losses: list[float],
    outcome: Outcome = "finished",
    setting: Mapping[str, Any] | None = None,
) -> RunRecord:
    """An evaluation every 10 steps (2 epochs, 1 + seed seconds) with those val losses; accuracy 1 - loss / 10."""
    if outcome == "crashed":
        return RunRecord(variant, setting or {}, seed, "c", variant, outcome, error="ValueError: no")
    history = tuple(
        HistoryRow(
            10 * i,
            2.0 * i,
            (1.0 + seed) * i,
            None,
            {
                "train_loss": loss / 2,
                "val_loss": loss,
                "train_accuracy": 1 - loss / 20,
                "val_accuracy": 1 - loss / 10,
            },
        )
        for i, loss in enumerate(losses)
    )
    last = losses[-1]
    final = {
        f"{s}_{m}": v
        for s in ("train", "val", "test")
        for m, v in (("loss", last), ("accuracy", 1 - last / 10))
    }
    steps = 10 * (len(losses) - 1)
    return RunRecord(
        variant, setting or {}, seed, "c", variant, outcome, None, steps, 20, 5, (1.0 + seed) * 2, 7,
        final, final, steps, history, layers=("0: Linear",),
    )  # fmt: skip


def cell(variant: str, *runs: RunRecord, setting: Mapping[str, Any] | None = None, seeds: int = 3) -> Cell:
    return Cell(variant, setting or {}, "c", tuple(range(seeds)), runs)


def study(*cells: Cell, targets: tuple[Target, ...] = (Target("val_loss", 1.0),)) -> Summary:
    return summarize(StudyResults("demo", "none", targets, cells))


NONE = cell("none", *(run("none", s, [3.0, 2.0 + s, 1.5]) for s in range(3)))
BATCH = cell(
    "batch",
    run("batch", 0, [3.0, 1.0, 0.5]),
    run("batch", 1, [3.0, 2.0, 0.7]),
    run("batch", 2, [3.0, NAN], "not_finite"),
)


def sweep(*keys: str) -> Summary:
    """Two variants over lr 0.01 and 1 (and batch_size 8 and 64 with a second key)."""
    sizes = (8, 64) if len(keys) > 1 else (8,)
    cells = []
    for variant, shift in (("none", 0.0), ("batch", 0.2)):
        for lr in (0.01, 1.0):
            for size in sizes:
                setting = dict(zip(keys, (lr, size), strict=False))
                runs = [
                    run(variant, s, [3.0, lr + shift + s / 10 + size / 64], setting=setting) for s in range(2)
                ]
                cells.append(cell(variant, *runs, setting=setting, seeds=2))
    return study(*cells)


def rows_of(rows: list[figure_data.Row], **wanted: Any) -> list[figure_data.Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_mean_curves_have_mean_band_and_count_at_every_step() -> None:
    rows = rows_of(figure_data.mean_rows(study(NONE, BATCH)), variant="none")
    assert [row["step"] for row in rows] == [0, 10, 20]
    middle = rows[1]  # losses 2, 3, 4: mean 3, std 1; accuracies 80, 70, 60 %
    assert (middle["val_loss"], middle["val_loss_low"], middle["val_loss_high"]) == (3.0, 2.0, 4.0)
    assert (middle["val_accuracy"], middle["val_accuracy_low"], middle["val_accuracy_n"]) == (70.0, 60.0, 3)
    assert (middle["epoch"], middle["second"]) == (2.0, 2.0)  # seconds 1, 2, 3


def test_a_run_that_is_not_finite_leaves_the_mean_and_the_count_says_so() -> None:
    rows = rows_of(figure_data.mean_rows(study(NONE, BATCH)), variant="batch")
    assert [(row["val_loss"], row["val_loss_n"]) for row in rows] == [(3.0, 3), (1.5, 2), (0.6, 2)]
    broken = rows_of(figure_data.seed_rows(study(NONE, BATCH)), variant="batch", seed=2)
    assert [(row["val_loss"], row["outcome"]) for row in broken] == [
        (3.0, "not_finite"),
        (None, "not_finite"),
    ]


def test_one_seed_has_no_band() -> None:
    row = figure_data.mean_rows(study(cell("none", run("none", 0, [3.0, 1.0]), seeds=1)))[1]
    assert (row["val_loss"], row["val_loss_low"], row["val_loss_high"]) == (1.0, None, None)


def test_a_long_history_is_thinned_and_keeps_its_ends() -> None:
    rows = figure_data.mean_rows(study(cell("none", run("none", 0, [1.0] * 400), seeds=1)))
    assert [row["step"] for row in (rows[0], rows[1], rows[-1])] == [0, 30, 3990]
    assert len(rows) == 134


def test_survival_counts_every_run_and_a_diverged_one_never_arrives() -> None:
    rows = figure_data.survival_rows(study(NONE, BATCH), 0)
    steps = rows_of(rows, variant="batch", by="step")
    assert [(row["x"], row["k"], row["n"]) for row in steps] == [
        (0, 0, 3),
        (10, 1, 3),
        (20, 2, 3),
        (20, 2, 3),
    ]
    assert steps[-1]["share"] == pytest.approx(200 / 3)
    seconds = rows_of(
        rows, variant="batch", by="second"
    )  # seed 0 after 1 s, seed 1 (2 s an evaluation) after 4 s
    assert [row["x"] for row in seconds] == [0, 1, 4, 6]
    assert [row["share"] for row in rows_of(rows, variant="none", by="epoch")] == [0, 0]


def test_differences_are_in_points_with_their_interval() -> None:
    better = cell("batch", *(run("batch", s, [3.0, 1.0 - s / 10]) for s in range(3)))
    rows = figure_data.difference_rows(study(NONE, better).comparisons, "accuracy")
    test = rows_of(rows, split="test")[0]
    # accuracies 90, 91, 92 % against 85 %: 5, 6, 7 pp: mean 6, t(2) 4.303 * 1 / √3 = 2.484
    assert test["difference"] == pytest.approx(6)
    assert (test["low"], test["high"]) == (pytest.approx(3.516, abs=1e-3), pytest.approx(8.484, abs=1e-3))
    assert (test["n"], test["verdict"]) == (3, "better")


def test_a_sweep_has_a_row_a_cell_and_one_a_run() -> None:
    summary = sweep("optimizer.lr")
    assert sweep_data.swept_keys(summary) == ["optimizer.lr"]
    first = sweep_data.sweep_mean_rows(summary, "test_accuracy")[0]
    # losses 0.135 and 0.235: accuracies 98.65 and 97.65 %
    assert (first["key_0"], first["mean"], first["mean_n"]) == (0.01, pytest.approx(98.15), 2)
    assert first["mean_high"] - first["mean"] == pytest.approx(0.7071, abs=1e-3)
    assert len(sweep_data.sweep_seed_rows(summary, "test_accuracy")) == 8
    assert figure_data.best_settings(summary) == {"none": "optimizer.lr=0.01", "batch": "optimizer.lr=0.01"}


def test_curves_of_a_sweep_are_drawn_at_the_best_setting() -> None:
    summary = sweep("optimizer.lr")
    shown = figure_data.at_best_setting(figure_data.mean_rows(summary), summary)
    assert {row["setting"] for row in shown} == {"optimizer.lr=0.01"}


def test_swept_values_are_numbers_in_order_or_texts() -> None:
    assert sweep_data.swept_values(sweep("optimizer.lr"), "optimizer.lr") == [0.01, 1.0]
    assert sweep_data.swept_values(sweep("x"), "missing") == []


def names(found: list[Figure]) -> list[str]:
    return [figure.name for figure in found]


def test_which_figures_a_study_has() -> None:
    curves = ["val_loss", "val_accuracy", "train_loss", "train_accuracy"]
    differences = ["differences_accuracy", "differences_loss"]
    best = ["differences_best_accuracy", "differences_best_loss"]
    assert names(figures(study(NONE, BATCH))) == [*curves, "target_1", *differences]
    assert names(figures(study(NONE, targets=()))) == curves
    assert names(figures(sweep("optimizer.lr"))) == ["sweep", *curves, "target_1", *best, *differences]
    two = names(figures(sweep("optimizer.lr", "batch_size")))
    assert two[:3] == ["heat_1", "heat_2", "val_loss"]


def figure(summary: Summary, name: str) -> Figure:
    return next(found for found in figures(summary) if found.name == name)


def encodings(spec: Any, channel: str) -> list[dict[str, Any]]:
    return [layer["encoding"][channel] for layer in spec["layer"] if channel in layer["encoding"]]


def test_a_loss_that_spans_decades_starts_on_a_log_axis_and_an_accuracy_never_does() -> None:
    summary = study(cell("none", run("none", 0, [5000.0, 1.0]), seeds=1))
    assert figure(summary, "val_loss").log
    assert not figure(summary, "val_accuracy").log
    assert not figure(study(NONE), "val_loss").log
    scales = [
        y.get("scale", {}).get("type") for y in encodings(specification(figure(summary, "val_loss")), "y")
    ]
    assert "log" in scales


def test_swept_values_over_decades_are_on_a_log_axis() -> None:
    spec = specification(figure(sweep("optimizer.lr"), "sweep"))
    assert {x["scale"]["type"] for x in encodings(spec, "x")} == {"log"}


def test_colours_differ_and_the_baseline_is_grey() -> None:
    assert colours(["none", "a", "b"]) == [BASELINE_COLOUR, COLOURS[0], COLOURS[1]]
    assert len(colours([str(i) for i in range(20)])) == 20


def test_words_name_the_numbers() -> None:
    summary = study(NONE, BATCH)
    assert "none from 3 to 1.5 at step 20; batch from 3 to 0.6" in figure(summary, "val_loss").alternative
    assert "batch: 2 of 3 runs by step 20" in figure(summary, "target_1").alternative
    assert figure(summary, "val_loss").table.rows[1] == ("none", "10", "2", "2", "3 ± 1", "1.5 ± 0.5", "3")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["svg", "png", "pdf"])
def test_files_are_one_column_wide(format: str, tmp_path: Path) -> None:
    summary = study(NONE, BATCH)
    paths = write_figures(summary, tmp_path / "new", format)
    assert [path.name for path in paths] == [f"{found.name}.{format}" for found in figures(summary)]
    for path in paths:
        content = path.read_bytes()
        if format == "svg":
            assert abs(float(ElementTree.fromstring(content).attrib["width"]) - COLUMN_WIDTH) <= 1
        elif format == "png":  # 3.3 inches at 300 dots an inch
            assert content[:8] == b"\x89PNG\r\n\x1a\n"
            assert abs(struct.unpack(">I", content[16:20])[0] - 3.3 * 300) <= 6
        else:
            assert content.startswith(b"%PDF")
            box = content.partition(b"/MediaBox")[2].partition(b"]")[0].strip(b" [").split()
            assert abs(float(box[2]) - 3.3 * 72) <= 1.5


def test_svg_shows_the_names_and_the_step_axis(tmp_path: Path) -> None:
    write_figures(study(NONE, BATCH), tmp_path, "svg")
    svg = (tmp_path / "val_loss.svg").read_text()
    for text in (">none<", ">batch<", ">step<", ">val loss<"):
        assert text in svg


@pytest.mark.parametrize("keys", [("optimizer.lr",), ("optimizer.lr", "batch_size")])
def test_files_of_a_sweep(keys: tuple[str, ...], tmp_path: Path) -> None:
    paths = write_figures(sweep(*keys), tmp_path, "svg")
    assert "optimizer.lr" in paths[0].read_text()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="can't be written: File exists") as error:
        write_figures(study(NONE, BATCH), tmp_path / "file", "svg")
    assert "--figures" in error.value.fix


def test_nothing_heavy_is_imported_before_a_figure_is_drawn() -> None:
    code = (
        "import sys, bnbench.reports.page.html, bnbench.reports.figures.all, bnbench.api.summaries;"
        "print([name for name in ('altair', 'vl_convert', 'jinja2', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_new_kind_of_figure_is_one_function(tmp_path: Path) -> None:
    """Page, files and `find_figure` have it then."""
    summary = study(NONE, BATCH)
    made = replace(find_figure(summary, "val_loss"), name="again", title="Once more")

    @kind_of_figure
    def repeated(summary: Summary) -> list[Figure]:
        return [made]

    try:
        assert find_figure(summary, "again") is made
        assert tmp_path / "again.svg" in write_figures(summary, tmp_path, "svg")
        results = StudyResults("demo", "none", (), (NONE, BATCH))
        assert 'data-figure="again"' in to_html(summary, results)
    finally:
        KINDS.remove(repeated)


def test_an_unknown_figure_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r'unknown figure "val_los"\. Did you mean "val_loss"'):
        find_figure(study(NONE, BATCH), "val_los")


def test_a_legend_has_further_ways_of_inference_only_where_they_are_drawn() -> None:
    """The colours stay those of all variants: a variant has one colour in every figure."""
    names = ["none", "batch", "batch@precise", "layer"]
    curves, lines, sweep, plain = (
        cast(dict[str, Any], channel.to_dict())
        for channel in (
            colour_of(names),
            dash_of(names),
            colour_of(names, inferred=True),
            colour_of(names[:2]),
        )
    )
    assert curves["legend"] == lines["legend"] == {"values": ["none", "batch", "layer"]}
    assert (curves["scale"]["domain"], curves["scale"]["range"]) == (names, colours(names))
    assert "values" not in {**sweep["legend"], **plain["legend"]}


def test_curves_of_many_seeds_show_the_first_ones_and_say_so() -> None:
    """600 runs of two variants: 500 of each are drawn one by one; the mean is of all 600."""
    runs = [[run(name, seed, [2.0, 1.0 + seed]) for seed in range(600)] for name in ("none", "batch")]
    summary = study(*(cell(many[0].variant, *many, seeds=600) for many in runs))
    drawn = {row["seed"] for row in figure_data.seed_rows(summary) if row["variant"] == "batch"}
    assert drawn == set(range(500))
    last = [row for row in figure_data.mean_rows(summary) if row["variant"] == "batch"][-1]
    assert (last["val_loss"], last["val_loss_n"]) == (1.0 + 599 / 2, 600)
    captions = {figure.name: figure.caption for figure in figures(summary)}
    assert "the first 500 of 600 seeds" in captions["val_loss"]
    assert "Drawn one by one" not in {f.name: f.caption for f in figures(study(NONE, BATCH))}["val_loss"]
