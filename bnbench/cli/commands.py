"""What a command does once its words are read, for one study or several: train, print, write, choose the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.base.errors import (
    EXIT_DONE,
    EXIT_GATE,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_USABLE,
    EXIT_SOME_RUNS_CRASHED,
    BnbenchError,
    ConfigError,
    Mistake,
    ResultsError,
)
from bnbench.base.terminal import echo
from bnbench.cli.options import Format

if TYPE_CHECKING:
    from rich.console import Console

    from bnbench.analysis.contents import Summary
    from bnbench.api.plugins import Names
    from bnbench.api.workflow import Options, Work
    from bnbench.results import ResultsFolder, StudyResults
    from bnbench.study import Study
    from bnbench.study.plan import RunSpec


def load_studies(texts: Sequence[str], overrides: Sequence[str], names: Names) -> list[Study]:
    """Read and check every study. Raises ConfigError with the mistakes of all, also where two have one name."""
    from bnbench.api.workflow import find_study
    from bnbench.base.user_code import guarded
    from bnbench.study import load_study

    studies: dict[str, Study] = {}
    mistakes: list[Mistake] = []
    for text in texts:
        try:
            with guarded():  # types of a plugin's options may run its code
                study = load_study(find_study(text), overrides, names.vocabulary)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        if study.name in studies:
            why = f'a second study named "{study.name}": give it another `name:`, or run it on its own.'
            mistakes.append(Mistake(text, why))
        studies[study.name] = study
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return list(studies.values())


def prepare_works(
    studies: Sequence[Study],
    names: Names,
    output: Path | None,
    options: Options,
    gates: Sequence[Sequence[str]] = (),
) -> list[Work]:
    """Every study ready to run, each in its folder: `output` for one, a folder in it for each of several.

    Raises ConfigError with what does not fit together in any of them, before a folder is made, and ResultsError
    where a folder is not theirs, before another one is touched.
    """
    from bnbench.api.workflow import prepare_work
    from bnbench.base.stopwatch import Phases
    from bnbench.base.user_code import guarded

    several, phases = len(studies) > 1, Phases()
    works: list[Work] = []
    mistakes: list[Mistake] = []
    for study, fail_if in zip(studies, gates or [()] * len(studies), strict=True):
        folder = output if output and not several else (output or Path("results")) / study.name
        try:
            with guarded():
                works.append(prepare_work(study, names, folder, options, phases, fail_if))
        except ConfigError as error:
            place = f"study {study.name}, " if several else ""
            mistakes += [Mistake(place + mistake.place, mistake.message) for mistake in error.mistakes]
    if mistakes:
        raise ConfigError(mistakes)
    _check_folders(works)
    for work in works:
        work.open()
    return works


def _check_folders(works: Sequence[Work]) -> None:
    """All that is wrong with any of them. Raises ResultsError."""
    from bnbench.results.files import free_name

    errors: list[ResultsError] = []
    for work in works:
        try:
            work.check()
        except ResultsError as error:
            errors.append(error)
    if len(works) < 2 and errors:
        raise errors[0]
    if errors:
        what = "\n".join(error.what for error in errors)
        parent = works[0].folder.path.parent
        raise ResultsError(what, errors[0].why, f"--output {free_name(parent)}")


def run_works(
    works: Sequence[Work],
    format: Format,
    *,
    quiet: bool,
    epoch_lines: bool = False,
    gates: Sequence[Sequence[str]] = (),
    profile: bool = False,
) -> int:
    """Train study after study and show each; then, of several, what they say together. The exit code.

    profile: show at the end where the time went.
    """
    console = console_on(stderr=True)
    shown: dict[str, Summary] = {}
    several = len(works) > 1
    for index, work in enumerate(works):
        if several and not quiet:
            head = f"Study {work.study.name} ({index + 1} of {len(works)})"
            console.print(head, style="bold", markup=False, highlight=False)
        interrupted = _train(console, work, quiet, epoch_lines)
        if not interrupted or work.has_records():
            fail_if = gates[index] if gates else ()
            visible = not quiet or format is not Format.table
            shown[work.study.name] = _show_run(work, format, fail_if, several=several, visible=visible)
            if not quiet:
                console.print(f"Results: {work.folder.path}", soft_wrap=True, highlight=False, markup=False)
        if interrupted:
            _tell_interrupted(console, work, works[index + 1 :])
            break
    if several and shown:
        _show_together(shown, format, works[0].folder.path.parent, visible=not quiet)
    if profile:
        from bnbench.reports.tables.profile import print_profile

        trained = [run for work in works for run in work.todo]
        print_profile(console, works[0].phases.seconds(), trained, list(shown.values()))
    return exit_code(list(shown.values()), interrupted=interrupted)


def show_folders(
    folders: Sequence[Path],
    format: Format,
    *,
    layers: bool,
    fail_if: Sequence[str],
    figures: Path | None,
    kind: str,
) -> int:
    """Show results folders again and write their summaries anew; of several, also what they say together.

    One of several that can't be read is told and left out; then the exit code is 1.
    """
    from bnbench.analysis.gates import share_gates
    from bnbench.api.one_study import check_apart
    from bnbench.api.workflow import summarize_results

    folders = _study_folders(folders)
    several = len(folders) > 1
    found, unreadable = _load_folders(folders)
    check_apart({str(folder.path): results for folder, results in found.values()})
    variants = [[cell.variant for cell in results.cells] for _, results in found.values()]
    gates = share_gates(fail_if, variants)
    shown: dict[str, Summary] = {}
    for (name, (folder, results)), gate in zip(found.items(), gates, strict=True):
        summary = summarize_results(results, gate)
        shown[name] = summary
        _write_again(folder, results, summary, page=format is Format.table)
        _print_study(name, summary, format, several=several, layers=layers)
        _tell_others(console_on(stderr=True), folder)
        _tell_gates(name, summary, several)
        if figures:
            _write_figures(summary, figures / name.strip("/").replace("/", "-") if several else figures, kind)
    if several:
        parents = {folder.path.resolve().parent for folder, _ in found.values()}
        _show_together(shown, format, parents.pop() if len(parents) == 1 else None)
    return exit_code(list(shown.values()), unreadable=unreadable)


def exit_code(summaries: Sequence[Summary], *, interrupted: bool = False, unreadable: bool = False) -> int:
    """Of one study, or of several as if they were one: the first that holds of 130, 1, 4, 3 and 0."""
    variants = [variant for summary in summaries for variant in summary.variants]
    if interrupted:
        return EXIT_INTERRUPTED
    if unreadable or not any(run.outcome != "crashed" for variant in variants for run in variant.runs):
        return EXIT_NOTHING_USABLE
    if any(gate.failed for summary in summaries for gate in summary.gates):
        return EXIT_GATE
    return EXIT_SOME_RUNS_CRASHED if any(variant.outcomes["crashed"] for variant in variants) else EXIT_DONE


def console_on(*, stderr: bool) -> Console:
    """A console that writes to stderr, or to stdout."""
    from bnbench.base.terminal_console import console

    return console(stderr=stderr)


def _train(console: Console, work: Work, quiet: bool, epoch_lines: bool) -> bool:
    """Train what is left to do of a study; whether it was interrupted."""
    from bnbench.api.workflow import carry_out
    from bnbench.base.user_code import guarded
    from bnbench.listeners.progress import LiveProgress

    _tell_plan(console, work, quiet)
    work.phases.enter("runs")
    try:
        for runs in work.rounds():
            _tell_look(console, work, runs, quiet)
            planned = runs if work.study.looks else work.runs
            with (
                guarded(),
                LiveProgress(console, planned, runs, quiet=quiet, epoch_lines=epoch_lines) as live,
            ):
                carry_out(work, runs, live.on)
    except KeyboardInterrupt:
        return True
    return False


def _tell_look(console: Console, work: Work, runs: Sequence[RunSpec], quiet: bool) -> None:
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


def _show_run(work: Work, format: Format, fail_if: Sequence[str], *, several: bool, visible: bool) -> Summary:
    """Keep what the runs say, then show it: whatever comes between the two, the files are there."""
    from bnbench.api.workflow import summarize_work

    work.phases.enter("statistics")
    results, summary = summarize_work(work, fail_if)
    work.phases.enter("tables and report.html")
    error: ResultsError | None = None
    try:
        _write(work.folder, results, summary)
    except ResultsError as unwritten:  # the disk is full: what was found is shown all the same
        error = unwritten
    if visible:
        _print_study(work.study.name, summary, format, several=several)
    _tell_gates(work.study.name, summary, several)
    if error:
        raise error
    return summary


def _tell_interrupted(console: Console, work: Work, others: Sequence[Work]) -> None:
    if work.has_records():
        console.print("Interrupted. Finished runs are kept; the same command goes on from here.")
    else:
        console.print("Interrupted. No run had finished, so nothing was saved.")
    if others:
        names = ", ".join(other.study.name for other in others)
        console.print(f"Not started, and not shown: {names}.", soft_wrap=True, markup=False)


def _tell_plan(console: Console, work: Work, quiet: bool) -> None:
    if quiet:
        return
    done = len(work.runs) - len(work.todo)
    if done:
        most = "up to " if work.study.looks else ""
        console.print(
            f"{done} of {most}{len(work.runs)} runs are finished already; --force trains them again."
        )
    _tell_others(console, work.folder)
    for warning in work.study.warnings:
        console.print(f"Warning: {warning}", soft_wrap=True, markup=False)


def _tell_others(console: Console, folder: ResultsFolder) -> None:
    """Runs that are in the folder, and in none of the tables."""
    if others := folder.other_runs():
        runs, are = ("run", "it is") if others == 1 else ("runs", "they are")
        also = f"{folder.path} also contains {others} {runs} with other settings or seeds; {are} not shown."
        console.print(also, soft_wrap=True)


def _print_study(name: str, summary: Summary, format: Format, *, several: bool, layers: bool = False) -> None:
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


def _show_together(
    shown: Mapping[str, Summary], format: Format, folder: Path | None, visible: bool = True
) -> None:
    """What several studies say together: printed, and in workloads.json beside their folders."""
    from bnbench.analysis.workloads import compare_workloads
    from bnbench.reports.formats.workloads import FORMATS, workloads_to_json
    from bnbench.results import WORKLOADS_JSON, write_whole

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


def _study_folders(paths: Sequence[Path]) -> list[Path]:
    """Each once; `report results/*` names our own file beside the folders too."""
    from bnbench.results import WORKLOADS_JSON

    folders = [path for path in dict.fromkeys(paths) if not (path.name == WORKLOADS_JSON and path.is_file())]
    return folders or list(paths)


def _load_folders(paths: Sequence[Path]) -> tuple[dict[str, tuple[ResultsFolder, StudyResults]], bool]:
    """The folders by the names that their studies are shown under, and whether one of them can't be read.

    The name is the study's own, or the folder's path where two studies have the same. Raises
    ResultsError where nothing is left to show.
    """
    from bnbench.api.workflow import load_results
    from bnbench.results import ResultsFolder

    loaded: list[tuple[ResultsFolder, StudyResults]] = []
    errors: list[BnbenchError] = []
    for path in paths:
        try:
            folder = ResultsFolder(path)
            loaded.append((folder, load_results(folder)))
        except ResultsError as error:
            errors.append(error)
    if errors and not loaded:
        raise ResultsError("\n".join(map(str, errors)))
    for left_out in errors:
        echo(f"Error: {left_out}\nLeft out; the others follow.", err=True)
    names = [results.name for _, results in loaded]
    if len(set(names)) < len(names):
        names = [str(folder.path) for folder, _ in loaded]
    return dict(zip(names, loaded, strict=True)), bool(errors)


def _write(folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool = True) -> None:
    from bnbench.api.workflow import write_summaries

    if warning := write_summaries(folder, results, summary, page=page):
        echo(f"Warning: {warning}", err=True)


def _write_again(folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool) -> None:
    """As `_write`, but a folder that can't be written is shown all the same."""
    try:
        _write(folder, results, summary, page=page)
    except ResultsError as error:
        what = "summary.json, summary.csv" + (" and report.html" if page else "")
        echo(f"Warning: {what} in {folder.path} are not written again: {error.what}", err=True)


def _write_figures(summary: Summary, folder: Path, kind: str) -> None:
    from bnbench.reports.figures.files import write_figures

    paths = write_figures(summary, folder, kind)
    echo(f"Figures: {len(paths)} in {folder}", err=True)


def _tell_gates(name: str, summary: Summary, several: bool) -> None:
    place = f"{name}: " if several else ""
    for gate in summary.gates:
        verdict = "FAILED" if gate.failed else "passed"
        echo(f"{place}--fail-if '{gate.gate}': {verdict}: {gate.reason}.", err=True)
