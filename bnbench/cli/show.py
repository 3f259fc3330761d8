"""Output of the commands: plans, results, joint summaries, gates."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.base.errors import ResultsError
from bnbench.base.terminal import echo
from bnbench.cli.display import TABLE, Display

if TYPE_CHECKING:
    from rich.console import Console

    from bnbench.analysis.contents import Summary
    from bnbench.analysis.workloads import Workloads
    from bnbench.api.session import Work
    from bnbench.results import ResultsFolder, StudyResults
    from bnbench.study.plan import RunSpec


def console_on(*, stderr: bool) -> Console:
    """A console that writes to stderr, or to stdout."""
    from bnbench.base.terminal_console import console

    return console(stderr=stderr)


def show_look(console: Console, work: Work, runs: Sequence[RunSpec], quiet: bool) -> None:
    """Report the interim analysis of `seeds: auto` that these runs belong to, and its variants."""
    if quiet or not work.study.looks:
        return
    last = max(work.study.seeds.index(run.seed) for run in runs)
    size = next(look for look in work.study.looks if look > last)
    names = ", ".join(dict.fromkeys(run.label for run in runs))
    console.print(
        f"Look at {size} of up to {work.study.looks[-1]} seeds: {len(runs)} runs of {names}.",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip


def show_interruption(console: Console, work: Work, others: Sequence[Work], *, interrupted: bool) -> None:
    """Report what is kept after Ctrl-C, a signal or the time limit, and the studies that did not start."""
    if not interrupted:
        console.print(work.left_over, soft_wrap=True, markup=False, highlight=False)
    elif work.has_records():
        states = " and the states of paused ones" if work.turns.paused else ""
        console.print(
            f"Interrupted. Finished runs{states} are kept; the same command goes on from here.",
            soft_wrap=True,
        )
    elif work.turns.paused:
        console.print(
            "Interrupted. No run had finished; the states of paused ones are kept, and the same command goes on.",
            soft_wrap=True,
        )
    else:
        console.print("Interrupted. No run had finished, so nothing was saved.")
    if others:
        names = ", ".join(other.study.name for other in others)
        console.print(f"Not started: {names}.", soft_wrap=True, markup=False)


def show_plan(console: Console, work: Work, quiet: bool) -> None:
    """Report the number of finished runs and the study's warnings."""
    from bnbench.analysis.circumstances import ranges

    if quiet:
        return
    if len(work.part) < len(work.runs):
        seeds = ranges(sorted({run.seed for run in work.part}))
        console.print(
            f"This shard has {len(work.part)} of {len(work.runs)} runs{seeds and f': {seeds}'}.",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip
    done = len(work.part) - len(work.todo)
    if done:
        most = "up to " if work.study.looks else ""
        copied = ""
        if work.beside:
            sources = ", ".join(dict.fromkeys(str(finished.results) for finished in work.beside))
            copied = f" ({'all' if len(work.beside) == done else len(work.beside)} copied from {sources})"
        console.print(
            f"{done} of {most}{len(work.part)} runs are finished already{copied}; --force trains them again.",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip
    show_others(console, work.folder)
    for warning in work.study.warnings:
        console.print(f"Warning: {warning}", soft_wrap=True, markup=False)


def show_shard(console: Console, works: Sequence[Work], shard: tuple[int, int], display: Display) -> None:
    """Report that a shard is complete, and how the parts come together."""
    part, parts = shard
    if display.quiet or any(not work.folder.has(run) for work in works for run in work.part):
        return
    path = works[0].folder.path if len(works) == 1 else works[0].folder.path.parent
    console.print(
        f"Shard {part}/{parts} is complete: {path}. The folders of all {parts} become one: "
        "bnbench merge FOLDER... --output FOLDER",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip


def show_others(console: Console, folder: ResultsFolder) -> None:
    """Runs that are in the folder, and in none of the tables."""
    if others := folder.other_runs():
        runs, are = ("run", "it is") if others == 1 else ("runs", "they are")
        also = f"{folder.path} also contains {others} {runs} with other settings or seeds; {are} not shown."
        console.print(also, soft_wrap=True)


def print_study(
    name: str, summary: Summary, display: Display, folder: ResultsFolder, *, several: bool
) -> None:
    """The answer, or the chosen tables. With several studies, one document follows at the end."""
    if display.format == TABLE:
        _print_text(name, summary, display, folder, several=several)
        return
    for caution in summary.cautions:  # some formats have no place for them
        echo(f"Caution: {caution}", err=True)
    for warning in summary.warnings:
        echo(f"Warning: {warning}", err=True)
    if not several:
        from bnbench.reports.formats import FORMATS, Document

        echo(FORMATS[display.format](Document({name: summary}, names=display.tables)), newline=False)


def _print_text(
    name: str, summary: Summary, display: Display, folder: ResultsFolder, *, several: bool
) -> None:
    from bnbench.cli.kept import places_of
    from bnbench.reports.console import print_answer, print_sections
    from bnbench.reports.sections import sections

    if display.inside and display.tables is None:
        from bnbench.cli.look import print_look

        print_look(summary, folder, display.inside)
        return
    console = console_on(stderr=False)
    if display.tables is not None:
        if several:
            console.rule(f"Study {name}".replace("[", r"\["), align="left", style="dim")
        print_sections(console, sections(summary, display.tables))
        _note_empty_tables(name, summary, display.tables)
        return
    print_answer(console, summary, places_of(folder, display, several=several))
    if several:
        console.print()


def _note_empty_tables(study: str, summary: Summary, names: Sequence[str]) -> None:
    """Tables that were asked for by name, and that this study has nothing for."""
    from bnbench.reports.sections import section_names, sections

    if set(names) == set(section_names()):
        return
    empty = [name for name in names if not name.startswith("joint-") and not any(sections(summary, [name]))]
    if empty:
        echo(f"{study} has nothing to show in: {', '.join(empty)}.", err=True)


def show_together(studies: Mapping[str, Summary], display: Display, paths: Sequence[Path]) -> None:
    """Print the joint summary of the studies; write workloads.json if they share a parent folder."""
    from bnbench.analysis.workloads import compare_workloads

    workloads = compare_workloads(studies)
    if len(studies) > 1:
        _write_workloads(workloads, paths)
    if display.format != TABLE:
        from bnbench.reports.formats import FORMATS, Document

        echo(FORMATS[display.format](Document(studies, workloads, display.tables)), newline=False)
    elif display.visible and len(studies) > 1:
        from bnbench.reports.console import print_joint_answer, print_sections
        from bnbench.reports.sections import joint_sections

        console = console_on(stderr=False)
        console.rule(f"{len(studies)} workloads", align="left", style="dim")
        if display.tables is not None:
            print_sections(console, joint_sections(workloads, display.tables))
        else:
            print_joint_answer(console, workloads)
            console.print(
                f"All tables: bnbench report {shlex.join(map(str, paths))} --tables all", soft_wrap=True
            )


def _write_workloads(workloads: Workloads, paths: Sequence[Path]) -> None:
    from bnbench.base.files import to_json, write_whole
    from bnbench.reports.formats.json import workload_values
    from bnbench.results import WORKLOADS_JSON

    parents = {path.resolve().parent for path in paths}
    if len(parents) > 1:
        echo(f"The folders are not side by side, so no {WORKLOADS_JSON} is written.", err=True)
        return
    try:
        write_whole(paths[0].parent / WORKLOADS_JSON, to_json(workload_values(workloads), ascii=True))
    except ResultsError as error:
        echo(f"Warning: {error.what}", err=True)


def show_gates(name: str, summary: Summary, several: bool) -> None:
    """The outcome of every --fail-if, on stderr."""
    for line in gate_lines(summary, f"{name}: " if several else ""):
        echo(line, err=True)


def gate_lines(summary: Summary, place: str = "") -> list[str]:
    """The outcome of every --fail-if in words. place: stands before each."""
    return [
        f"{place}--fail-if '{gate.gate}': {'FAILED' if gate.failed else 'passed'}: {gate.reason}."
        for gate in summary.gates
    ]


def write_and_warn(
    folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool = True
) -> None:
    """Write the summary files. A report.html that can't be drawn is a warning."""
    from bnbench.api.summaries import write_summaries

    if warning := write_summaries(folder, results, summary, page=page):
        echo(f"Warning: {warning}", err=True)
