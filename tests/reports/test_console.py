"""What a terminal shows at 80 columns, and what a log file gets instead of bars."""

from __future__ import annotations

import io
import math
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.listeners.progress import LiveProgress
from bnbench.reports.console import print_answer
from bnbench.reports.tables.all import tables
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.events import Evaluated, Event, RunEnded, RunStarted, Stepped
from bnbench.study.plan import RunSpec
from bnbench.study.records import HistoryRow, Outcome, RunRecord
from tests.shown import print_everything


def run(variant: str, seed: int, outcome: Outcome, setting: dict[str, float]) -> RunRecord:
    if outcome == "crashed":
        return RunRecord(
            variant, setting, seed, "c", variant, outcome, error="RuntimeError: out of memory, 1 GiB left"
        )
    loss = math.nan if outcome == "not_finite" else 0.0812345 + seed / 700 + len(variant) / 900
    numbers = {
        f"{split}_{name}": value
        for split in ("train", "val", "test")
        for name, value in (("loss", loss), ("accuracy", 0.97 + seed / 900 - len(variant) / 700))
    }
    history = tuple(
        HistoryRow(1719 * i, float(i), 12.5 * i, None, {"val_accuracy": 0.2 * i - seed / 20})
        for i in range(6)
    )
    return RunRecord(
        variant, setting, seed, "c", variant, outcome, None, 8595, 8595, 1719, 71.5 + seed, 11_173_962,
        numbers, numbers, 8595, history,
        notes=("the last batch of 1 was merged",),
        layers=("blocks.0.linear: Linear(in_features=784, out_features=64, bias=False)",),
    )  # fmt: skip


def study(*, swept: bool = False) -> Summary:
    """Five seeds with every outcome in it, and names as long as people give."""
    cells = []
    for variant in ("none", "batch_custom", "group_8_affine"):
        for setting in ({"optimizer.lr": 0.01}, {"optimizer.lr": 0.1}) if swept else ({},):
            outcomes: list[Outcome] = ["finished"] * 5
            if variant == "group_8_affine":
                outcomes[1:4] = ["not_finite", "crashed", "crashed"]
            runs = tuple(run(variant, seed, outcome, setting) for seed, outcome in enumerate(outcomes))
            cells.append(Cell(variant, setting, "c", tuple(range(5)), runs))
    return summarize(StudyResults("demo", "none", (Target("val_accuracy", 0.9),), tuple(cells)))


def shown(summary: Summary, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_everything(console, summary)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("swept", [False, True])
def test_no_number_is_cut_or_folded(width: int, swept: bool) -> None:
    summary = study(swept=swept)
    text = shown(summary, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for table in tables(summary):
        for row in table.rows:
            for cell, side in zip(row, table.align, strict=True):
                for part in re.split(r" (?=[(\[])", cell) if side == "r" else cell.split():
                    assert part in text, (table.title, cell)


def test_names_are_whole_words_at_80_columns() -> None:
    text = shown(study(swept=True), 80)
    for word in ("batch_custom", "group_8_affine", "optimizer.lr=0.01", "accuracy", "difference"):
        assert re.search(rf"(^|\s){re.escape(word)}(\s|$)", text, re.MULTILINE), word


def test_the_verdict_stands_last() -> None:
    lines = [line for line in shown(study(), 80).splitlines() if line.strip()]
    assert lines.index("Verdicts") > lines.index("Notes") > lines.index("Cost and outcomes")


def test_names_are_no_markup() -> None:
    runs = tuple(run("[bold]x", seed, "finished", {}) for seed in range(3))
    text = shown(
        summarize(StudyResults("demo", "[bold]x", (), (Cell("[bold]x", {}, "c", (0, 1, 2), runs),))), 80
    )
    assert "[bold]x" in text


def test_colours_only_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    print_answer(console, study())
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", console.file.getvalue())  # type: ignore[attr-defined]


# Live progress


def spec(seed: int, variant: str = "batch") -> RunSpec:
    return RunSpec(variant, {}, seed, "c", SimpleNamespace())  # type: ignore[arg-type]


RUNS = [spec(seed) for seed in range(3)]


def evaluated(step: int, epoch: float, seed: int = 0) -> Evaluated:
    metrics = {"train_loss": 0.12341, "train_accuracy": 0.98, "val_loss": 0.23454, "val_accuracy": 0.97123}
    return Evaluated(spec(seed), HistoryRow(step, epoch, 6.15 * epoch, 0.2, metrics))


def ended(seed: int, outcome: Outcome = "finished", error: str | None = None) -> RunEnded:
    record = RunRecord(
        "batch", {}, seed, "c", "batch", outcome, error, steps=7, planned_steps=9, notes=("a note",),
        final={"val_loss": 0.23454, "test_accuracy": 0.96}, train_seconds=12.3,
    )  # fmt: skip
    return RunEnded(spec(seed), record)


def one_run(seed: int) -> list[Event]:
    return [
        RunStarted(spec(seed), 3438, 2, ("a note",)),
        evaluated(0, 0.0, seed),
        Stepped(spec(seed), 100),
        evaluated(1719, 1.0, seed),
        evaluated(3438, 2.0, seed),
        ended(seed),
    ]


def lines(events: list[Event], todo: int = 3, *, quiet: bool = False, verbose: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    with LiveProgress(console, RUNS, RUNS[3 - todo :], quiet=quiet, verbose=verbose) as live:
        for event in events:
            live.on(event)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_log_gets_one_line_a_run() -> None:
    assert lines([*one_run(0), ended(1, "crashed", "ValueError: no")]) == [
        "Note: a note",
        "[1/3] batch seed 0  val_loss 0.2345  test_accuracy 96.00%  12.3 s",
        "[2/3] batch seed 1  crashed: ValueError: no",
    ]


def test_a_verbose_log_gets_one_line_an_epoch_too() -> None:
    assert lines(one_run(0), verbose=True) == [
        "Note: a note",
        "[1/3] batch seed 0  epoch 1/2  step 1719  train_loss 0.1234  val_loss 0.2345  val_accuracy 97.12%  6.2 s",
        "[1/3] batch seed 0  epoch 2/2  step 3438  train_loss 0.1234  val_loss 0.2345  val_accuracy 97.12%  12.3 s",
        "[1/3] batch seed 0  val_loss 0.2345  test_accuracy 96.00%  12.3 s",
    ]


def test_a_run_that_goes_on_says_where_and_repeats_no_epoch() -> None:
    again = [RunStarted(RUNS[0], 3438, 2, step=1800), evaluated(1800, 1.05), *one_run(0)[-2:]]
    assert lines(again, verbose=True) == [
        "[1/3] batch seed 0  goes on after step 1,800 of 3,438",
        "[1/3] batch seed 0  epoch 2/2  step 3438  train_loss 0.1234  val_loss 0.2345  val_accuracy 97.12%  12.3 s",
        "Note: a note",
        "[1/3] batch seed 0  val_loss 0.2345  test_accuracy 96.00%  12.3 s",
    ]
    assert "1800/3438" in on_terminal([RunStarted(RUNS[0], 3438, 2, step=1800)])


def test_a_note_is_said_once_a_study_and_runs_are_counted_on() -> None:
    text = lines([*one_run(1), *one_run(2)], todo=2)
    assert text.count("Note: a note") == 1
    assert [line[:18] for line in text[1:]] == ["[2/3] batch seed 1", "[3/3] batch seed 2"]


def test_many_evaluations_an_epoch_are_still_one_line() -> None:
    events: list[Event] = [
        RunStarted(spec(0), 40, 2),
        *(evaluated(step, step / 20) for step in range(0, 41, 5)),
    ]
    assert [line.split("  ")[1:3] for line in lines(events, verbose=True)] == [
        ["epoch 1/2", "step 20"],
        ["epoch 2/2", "step 40"],
    ]


def test_a_run_of_less_than_an_epoch_has_a_line_for_each_evaluation() -> None:
    events: list[Event] = [
        RunStarted(spec(0), 20, 0.01),
        *(evaluated(step, step / 2000) for step in range(0, 21, 10)),
    ]
    assert [line.split("  ")[1] for line in lines(events, verbose=True)] == ["step 10/20", "step 20/20"]


def test_quiet_says_failures_and_nothing_else() -> None:
    events = [
        *one_run(0),
        ended(1, "not_finite"),
        ended(2, "crashed", "ValueError: too small\n  a traceback"),
    ]
    assert lines(events, quiet=True) == [
        "[2/3] batch seed 1  not finite: loss or weights not finite, seen at step 7 of 9",
        "[3/3] batch seed 2  crashed: ValueError: too small",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(events: list[Event], *, verbose: bool = False) -> str:
    console = Console(file=Terminal(), width=80, force_terminal=True, force_interactive=True)
    with LiveProgress(console, RUNS, RUNS, verbose=verbose) as live:
        for event in events:
            live.on(event)
            live._bars.progress.refresh()  # type: ignore[union-attr]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]


def test_a_terminal_gets_two_bars_and_failures_at_once() -> None:
    text = on_terminal([*one_run(0), ended(1, "crashed", "ValueError: too small")])
    assert "[1/3] batch seed 0" in text
    assert "1719/3438" in text
    assert "val 0.2345 97.12%" in text
    assert re.search(r"all runs .* 1/3", text)
    assert "[2/3] batch seed 1  crashed: ValueError: too small" in text
    assert "epoch 1/2" not in text
    assert "…" not in text


def test_a_long_name_takes_no_room_from_the_numbers() -> None:
    run = RunSpec("batch_custom", {"optimizer.lr": 0.001, "batch_size": 256}, 0, "c", SimpleNamespace())  # type: ignore[arg-type]
    row = evaluated(1719, 1.0).row
    text = on_terminal([RunStarted(run, 3438, 2), Evaluated(run, row)])
    assert "1719/3438" in text
    assert "val 0.2345 97.12%" in text
    assert "…" not in text


def test_a_terminal_gets_verbose_where_they_are_asked_for() -> None:
    assert "epoch 1/2  step 1719" in on_terminal(one_run(0), verbose=True)
