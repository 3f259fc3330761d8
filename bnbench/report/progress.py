"""What a study says while it trains: bars on a terminal, one line an epoch anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from bnbench.plan import Evaluated, Event, HistoryRow, RunEnded, RunSpec, RunStarted, Stepped
from bnbench.report.numbers import metric_text
from bnbench.report.tables import why_it_failed


class LiveProgress:
    """A listener for the engine's events, and a context manager around them.

    runs: all of the study; todo: those still to train. On a terminal: a bar for the present run and
    one for the study. Elsewhere, or with epoch_lines: one line an epoch. quiet: failures alone.
    Everything goes to `console`, which is the caller's standard error.
    """

    def __init__(
        self,
        console: Console,
        runs: Sequence[RunSpec],
        todo: Sequence[RunSpec],
        *,
        quiet: bool = False,
        epoch_lines: bool = False,
    ) -> None:
        self._console, self._quiet = console, quiet
        self._total, self._done = len(runs), len(runs) - len(todo)
        on_terminal = console.is_interactive and console.file.isatty()
        self._bars = _Bars(console, self._total, self._done) if on_terminal and not quiet else None
        self._lines = (epoch_lines or not on_terminal) and not quiet
        self._said: set[str] = set()
        self._epochs, self._planned_steps, self._last_epoch = 0, 0, 0

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.progress.stop()

    def on(self, event: Event) -> None:
        """Show one event."""
        if self._bars:
            self._bars.show(event, self._name(event.run))
        match event:
            case RunStarted():
                self._epochs, self._planned_steps, self._last_epoch = event.epochs, event.planned_steps, 0
                self._say_notes(event.notes)
            case Evaluated():
                self._say_epoch(event.run, event.row)
            case RunEnded():
                self._say_notes(event.record.notes)
                self._say_failure(event)
                self._done += 1

    def _say_epoch(self, run: RunSpec, row: HistoryRow) -> None:
        """One line for the first evaluation of each epoch's end, and for the last."""
        is_due = int(row.epoch) > self._last_epoch or (row.step == self._planned_steps and row.step > 0)
        if not self._lines or not is_due:
            return
        self._last_epoch = int(row.epoch)
        metrics = [f"{name} {metric_text(name, row.metrics[name])}" for name in _shown(row)]
        parts = [
            self._name(run),
            f"epoch {row.epoch:.4g}/{self._epochs}",
            f"step {row.step}",
            *metrics,
            f"{row.train_seconds:.1f} s",
        ]
        self._print("  ".join(parts))

    def _say_failure(self, event: RunEnded) -> None:
        if event.record.outcome != "finished":
            self._print(f"{self._name(event.run)}  {event.record.outcome}: {why_it_failed(event.record)}")

    def _say_notes(self, notes: Sequence[str]) -> None:
        for note in notes:
            if note not in self._said and not self._quiet:
                self._said.add(note)
                self._print(f"Note: {note}")

    def _name(self, run: RunSpec) -> str:
        """ "[ 3/15] batch seed 0"."""
        return f"[{self._done + 1:{len(str(self._total))}}/{self._total}] {run.label} seed {run.seed}"

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Bars:
    """Two bars: steps of the present run, and runs of the study (a run that is under way counts in part)."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[metrics]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.total, self.done, self.steps = total, done, 1
        self.study: TaskID = self.progress.add_task(
            "all runs", total=total, completed=done, count=f"{done}/{total}", metrics=""
        )
        self.run: TaskID | None = None

    def show(self, event: Event, name: str) -> None:
        """Move the bars."""
        match event:
            case RunStarted():
                self.steps = max(1, event.planned_steps)
                self.run = self.progress.add_task(name, total=self.steps, count="", metrics="")
                self._move(0)
            case Stepped():
                self._move(event.step)
            case Evaluated():
                self._move(event.row.step, _val_metrics(event.row))
            case RunEnded():
                self._end_run()

    def _move(self, step: int, metrics: str = "") -> None:
        if self.run is None:
            return
        self.progress.update(self.run, completed=step, count=f"{step}/{self.steps}")
        if metrics:
            self.progress.update(self.run, metrics=metrics)
        self.progress.update(self.study, completed=self.done + min(1.0, step / self.steps))

    def _end_run(self) -> None:
        self.done += 1
        if self.run is not None:
            self.progress.remove_task(self.run)
            self.run = None
        self.progress.update(self.study, completed=self.done, count=f"{self.done}/{self.total}")


def _shown(row: HistoryRow) -> list[str]:
    """train_loss and everything of the validation part."""
    return [name for name in row.metrics if name == "train_loss" or name.startswith("val_")]


def _val_metrics(row: HistoryRow) -> str:
    return "val " + " ".join(
        metric_text(name, row.metrics[name]) for name in _shown(row) if name != "train_loss"
    )
