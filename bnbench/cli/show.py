"""What the commands print: plans, results, joint summaries, gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.base.errors import ResultsError
from bnbench.base.terminal import echo
from bnbench.cli.options import Format

if TYPE_CHECKING:
    from rich.console import Console

    from bnbench.analysis.contents import Summary
    from bnbench.api.session import Work
    from bnbench.results import ResultsFolder, StudyResults
    from bnbench.study.plan import RunSpec


def console_on(*, stderr: bool) -> Console:
    """A console that writes to stderr, or to stdout."""
    from bnbench.base.terminal_console import console

    return console(stderr=stderr)


def show_look(console: Console, work: Work, runs: Sequence[RunSpec], quiet: bool) -> None:
    """Which look of `seeds: auto` these runs are for, and whose."""
    if quiet or not work.study.looks:
        return
    last = max(work.study.seeds.index(run.seed) for run in runs)
    size = next(look for look in work.study.looks if look > last)
    names = ", ".join(dict.fromkeys(run.label for run in runs))
    console.print(
        f"Look at {size} of up to {work.study.looks[-1]} seeds: {len(runs)} runs of {names}.",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip


def show_interruption(console: Console, work: Work, others: Sequence[Work]) -> None:
    """What is kept after Ctrl-C, and which of the other studies were not started."""
    if work.has_records():
        console.print("Interrupted. Finished runs are kept; the same command goes on from here.")
    else:
        console.print("Interrupted. No run had finished, so nothing was saved.")
    if others:
        names = ", ".join(other.study.name for other in others)
        console.print(f"Not started, and not shown: {names}.", soft_wrap=True, markup=False)


def show_plan(console: Console, work: Work, quiet: bool) -> None:
    """How many runs are finished already, and the warnings of the study."""
    if quiet:
        return
    done = len(work.runs) - len(work.todo)
    if done:
        most = "up to " if work.study.looks else ""
        console.print(
            f"{done} of {most}{len(work.runs)} runs are finished already; --force trains them again."
        )
    show_others(console, work.folder)
    for warning in work.study.warnings:
        console.print(f"Warning: {warning}", soft_wrap=True, markup=False)


def show_others(console: Console, folder: ResultsFolder) -> None:
    """Runs that are in the folder, and in none of the tables."""
    if others := folder.other_runs():
        runs, are = ("run", "it is") if others == 1 else ("runs", "they are")
        also = f"{folder.path} also contains {others} {runs} with other settings or seeds; {are} not shown."
        console.print(also, soft_wrap=True)


def print_study(name: str, summary: Summary, format: Format, *, several: bool, layers: bool = False) -> None:
    """The tables, or a document; of several studies there is one document, and it comes at the end."""
    if format is Format.table:
        from bnbench.reports.console import print_summary

        console = console_on(stderr=False)
        if several:
            console.rule(f"Study {name}".replace("[", r"\["), align="left", style="dim")
        print_summary(console, summary, layers=layers)
        return
    for caution in summary.cautions:  # some formats have no place for them
        echo(f"Caution: {caution}", err=True)
    for warning in summary.warnings:
        echo(f"Warning: {warning}", err=True)
    if not several:
        from bnbench.reports.formats.export import FORMATS

        echo(FORMATS[format.value](summary), newline=False)


def show_together(
    shown: Mapping[str, Summary], format: Format, folder: Path | None, visible: bool = True
) -> None:
    """What several studies say together: printed, and in workloads.json beside their folders."""
    from bnbench.analysis.workloads import compare_workloads
    from bnbench.base.files import write_whole
    from bnbench.reports.formats.workloads import FORMATS, workloads_to_json
    from bnbench.results import WORKLOADS_JSON

    workloads = compare_workloads(shown)
    if len(shown) > 1 and folder is not None:
        try:
            write_whole(folder / WORKLOADS_JSON, workloads_to_json(workloads))
        except ResultsError as error:
            echo(f"Warning: {error.what}", err=True)
    elif len(shown) > 1:
        echo(f"The folders are not side by side, so no {WORKLOADS_JSON} is written.", err=True)
    if format is not Format.table:
        echo(FORMATS[format.value](shown, workloads), newline=False)
    elif visible and len(shown) > 1:
        from bnbench.reports.console import print_workloads

        console = console_on(stderr=False)
        console.rule(f"{len(shown)} workloads", align="left", style="dim")
        print_workloads(console, workloads)


def show_gates(name: str, summary: Summary, several: bool) -> None:
    """The outcome of every --fail-if, on stderr."""
    place = f"{name}: " if several else ""
    for gate in summary.gates:
        verdict = "FAILED" if gate.failed else "passed"
        echo(f"{place}--fail-if '{gate.gate}': {verdict}: {gate.reason}.", err=True)


def write_and_warn(
    folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool = True
) -> None:
    """Write the summary files. A report.html that can't be drawn is a warning."""
    from bnbench.api.summaries import write_summaries

    if warning := write_summaries(folder, results, summary, page=page):
        echo(f"Warning: {warning}", err=True)
