"""The progress of a study: bars on a terminal, one line a run anywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from bnbench.base.terminal import one_line
from bnbench.reports.numbers import metric_text, outcome_text
from bnbench.reports.sentences.runs import why_it_failed
from bnbench.study.events import Evaluated, Event, RunEnded, RunPaused, RunStarted, Stepped
from bnbench.study.plan import RunSpec
from bnbench.study.records import HistoryRow

Key = tuple[str, str, int]
#: The largest number of run bars on screen.
MOST_BARS = 6
#: A narrower terminal gets lines, because the numbers do not fit between bars.
LEAST_WIDTH = 60


def _key(run: RunSpec) -> Key:
    return run.label, run.cell, run.seed


@dataclass
class _Started:
    """A run that is under way: which of the study's it is, and the last epoch that was printed."""

    number: int
    epochs: float
    planned_steps: int
    last_epoch: int = 0


class LiveProgress:
    """A listener for the engine's events, and a context manager around them.

    runs: all of the study; todo: those still to train. On a terminal: a bar for each run under way (the first
    few) and one for the study. Elsewhere: one line a run. verbose: one line an epoch, too. quiet: failures alone.
    Everything goes to `console`, which is the caller's standard error.
    """

    def __init__(
        self,
        console: Console,
        runs: Sequence[RunSpec],
        todo: Sequence[RunSpec],
        *,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self._console, self._quiet = console, quiet
        self._total, self._done_before = len(runs), len(runs) - len(todo)
        on_terminal = console.is_interactive and console.file.isatty() and console.width >= LEAST_WIDTH
        self._bars = _Bars(console, self._total, self._done_before) if on_terminal and not quiet else None
        self._run_lines = not quiet and not on_terminal
        self._epoch_lines = not quiet and verbose
        self._printed_notes: set[str] = set()
        self._started: dict[Key, _Started] = {}

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
        """Show one event. Several runs may be under way at the same time."""
        key = _key(event.run)
        if isinstance(event, RunStarted) or key not in self._started:
            known = self._started.get(key)  # started again, after others in its stack went wrong
            number = known.number if known else self._done_before + len(self._started) + 1
            self._started[key] = _started(number, event)
        if self._bars:
            self._bars.show(event, self._name(event.run))
        match event:
            case RunStarted():
                self._show_notes(event.notes)
                self._show_resumption(event)
            case Evaluated():
                self._show_epoch(event.run, event.row)
            case RunEnded():
                self._show_notes(event.record.notes)
                self._show_end(event)
            case RunPaused():
                self._show_pause(event)

    def _show_pause(self, event: RunPaused) -> None:
        if self._run_lines:
            kept = f"its state of step {event.step:,} is kept" if event.step else "it has no state yet"
            self._print(f"{self._name(event.run)}  paused ({event.reason}): {kept}")

    def _show_resumption(self, event: RunStarted) -> None:
        if event.step and self._run_lines:
            steps = f"step {event.step:,} of {event.planned_steps:,}"
            self._print(f"{self._name(event.run)}  goes on after {steps}")

    def _show_epoch(self, run: RunSpec, row: HistoryRow) -> None:
        """One line for the first evaluation of each epoch's end, and for the last; below one epoch, one for each."""
        started = self._started[_key(run)]
        by_step = started.epochs < 1  # as in a study of text
        is_last = row.step == started.planned_steps
        is_due = int(row.epoch) > started.last_epoch or (row.step > 0 and (is_last or by_step))
        if not self._epoch_lines or not is_due:
            return
        started.last_epoch = int(row.epoch)
        metrics = [f"{name} {metric_text(name, row.metrics[name])}" for name in _epoch_metrics(row)]
        parts = [
            self._name(run),
            *([] if by_step else [f"epoch {row.epoch:.4g}/{started.epochs:.4g}"]),
            f"step {row.step:,}/{started.planned_steps:,}" if by_step else f"step {row.step}",
            *metrics,
            f"{row.train_seconds:.1f} s",
        ]
        self._print("  ".join(parts))

    def _show_end(self, event: RunEnded) -> None:
        """A failure always; a run that finished where no bar shows it."""
        record = event.record
        if record.outcome != "finished":
            self._print(f"{self._name(event.run)}  {outcome_text(record.outcome)}: {why_it_failed(record)}")
        elif self._run_lines:
            tested = [name for name in record.final if name.startswith("test_") and name != "test_loss"]
            metrics = (*_first_two(record.final), *tested[:1])
            texts = (f"{name} {metric_text(name, record.final[name])}" for name in metrics)
            self._print("  ".join([self._name(event.run), *texts, f"{record.train_seconds:.1f} s"]))

    def _show_notes(self, notes: Sequence[str]) -> None:
        for note in notes:
            if note not in self._printed_notes and not self._quiet:
                self._printed_notes.add(note)
                self._print(f"Note: {note}")

    def _name(self, run: RunSpec) -> str:
        """For example "[ 3/15] batch seed 0"."""
        number = self._started[_key(run)].number
        return f"[{number:{len(str(self._total))}}/{self._total}] {one_line(run.label)} seed {run.seed}"

    def _print(self, line: str) -> None:
        self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


class _Bars:
    """A bar for the steps of each run under way, and one for the runs of the study (these count in part)."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[metrics]}", markup=False, table_column=Column(overflow="fold")),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.total, self.done = total, done
        self.study: TaskID = self.progress.add_task(
            "all runs", total=total, completed=done, count=f"{done}/{total}", metrics=""
        )
        self.runs: dict[Key, TaskID] = {}

    def show(self, event: Event, name: str) -> None:
        """Move the bars."""
        key = _key(event.run)
        match event:
            case RunStarted():
                self._remove(key)
                self.runs[key] = self.progress.add_task(
                    name, total=max(1, event.planned_steps), count="", metrics="", visible=False
                )
                self._move(key, event.step)  # a run that goes on starts where it stopped
                self._show_first_bars()
            case Stepped():
                self._move(key, event.step)
            case Evaluated():
                self._move(key, event.row.step, _val_metrics(event.row))
            case RunEnded():
                self.done += 1
                self._remove(key)
                self._show_first_bars()
                self.progress.update(self.study, completed=self._whole(), count=f"{self.done}/{self.total}")

            case RunPaused():
                self._remove(key)
                self._show_first_bars()

    def _move(self, key: Key, step: int, metrics: str = "") -> None:
        if key not in self.runs:
            return
        task = self.progress.tasks[self.progress.task_ids.index(self.runs[key])]
        self.progress.update(task.id, completed=step, count=f"{step}/{task.total:.0f}")
        if metrics:
            self.progress.update(task.id, metrics=metrics)
        self.progress.update(self.study, completed=self._whole())

    def _whole(self) -> float:
        """Runs that are done, and the parts of those under way."""
        under_way = set(self.runs.values())
        return self.done + sum(task.percentage / 100 for task in self.progress.tasks if task.id in under_way)

    def _remove(self, key: Key) -> None:
        if key in self.runs:
            self.progress.remove_task(self.runs.pop(key))

    def _show_first_bars(self) -> None:
        for index, task in enumerate(self.runs.values()):
            self.progress.update(task, visible=index < MOST_BARS)


def _started(number: int, event: Event) -> _Started:
    """A run of which this event is the first. One that goes on from a state has printed its first epochs before."""
    if not isinstance(event, RunStarted):
        return _Started(number, 0, 0)
    done = event.epochs * event.step / max(1, event.planned_steps)
    return _Started(number, event.epochs, event.planned_steps, int(done))


def _first_two(metrics: Mapping[str, float]) -> list[str]:
    """The columns of the first two metrics of a task, such as val_loss and val_accuracy."""
    return [name for name in metrics if name.startswith("val_")][:2]


def _epoch_metrics(row: HistoryRow) -> list[str]:
    """train_loss, and the first two metrics of the task on the validation part."""
    return ["train_loss", *_first_two(row.metrics)]


def _val_metrics(row: HistoryRow) -> str:
    return "val " + " ".join(
        metric_text(name, row.metrics[name]) for name in _epoch_metrics(row) if name != "train_loss"
    )
