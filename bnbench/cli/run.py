"""Training study after study and showing each, as `train` and `compare` do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bnbench.base.errors import EXIT_DONE, ResultsError
from bnbench.base.running import LOCAL
from bnbench.cli.display import TABLE, Display
from bnbench.cli.exit_code import exit_code
from bnbench.cli.options import Training
from bnbench.cli.show import (
    console_on,
    gate_lines,
    print_study,
    show_gates,
    show_interruption,
    show_look,
    show_plan,
    show_shard,
    show_together,
    write_and_warn,
)
from bnbench.cli.show_claims import Collected, show_claims

if TYPE_CHECKING:
    from rich.console import Console

    from bnbench.analysis.contents import Summary
    from bnbench.api.session import Work


def run_variant(study: str, variant: str | None, overrides: Sequence[str], training: Training) -> int:
    """Train one variant of a study. Returns the exit code."""
    from bnbench.api.early import start_workers_early

    if not training.debug and training.executor == LOCAL:
        start_workers_early([study], overrides, training.device, training.jobs)
    from bnbench.api.plugins import known_names
    from bnbench.api.several import prepare_works
    from bnbench.api.shipped import find_study
    from bnbench.engine.process import training_process
    from bnbench.study import load_variant

    with training_process(for_good=True):
        names = known_names(training.plugins, overrides)
        loaded = load_variant(find_study(study), variant, names.overrides, names.vocabulary)
        of = f"-{loaded.baseline}"
        works = prepare_works([loaded], names, training.output, training.options(), of=of)
        return run_works(works, training.display(verbose=True), shard=training.shard)


def run_studies(
    studies: Sequence[str],
    overrides: Sequence[str],
    training: Training,
    display: Display,
    fail_if: Sequence[str],
    *,
    profile: bool,
) -> int:
    """Train and compare studies. Returns the exit code."""
    from bnbench.api.early import start_workers_early

    if not training.debug and training.executor == LOCAL:
        start_workers_early(studies, overrides, training.device, training.jobs)
    from bnbench.api.plugins import known_names
    from bnbench.api.several import load_studies, prepare_works
    from bnbench.api.summaries import gates_of
    from bnbench.engine.process import training_process

    with training_process(for_good=True):
        names = known_names(training.plugins, overrides)
        loaded = load_studies(studies, names)
        gates = gates_of(fail_if, loaded)
        works = prepare_works(loaded, names, training.output, training.options(), gates)
        return run_works(works, display, gates=gates, profile=profile, shard=training.shard)


def run_works(
    works: Sequence[Work],
    display: Display,
    *,
    gates: Sequence[Sequence[str]] = (),
    profile: bool = False,
    shard: tuple[int, int] | None = None,
) -> int:
    """Train study after study and show each, then a joint summary. Returns the exit code.

    shard: the part that the works are. profile: show at the end where the time went.
    """
    console = console_on(stderr=True)
    summaries: dict[str, Summary] = {}
    several, collection = len(works) > 1, _collection(works)
    brief = collection and display.tables is None
    shown = replace(display, quiet=True, format=TABLE) if brief else display
    for index, work in enumerate(works):
        if several and not display.quiet:
            head = f"Study {work.study.name} ({index + 1} of {len(works)})"
            console.print(head, style="bold", markup=False, highlight=False)
        with work.present():
            interrupted = train_work(console, work, display)
            if not (interrupted or work.turns.stopped or not work.part) or work.has_records():
                fail_if = gates[index] if gates else ()
                beside = several or bool(collection)
                keeps = not (beside or profile or interrupted)
                answer = _answer(work, shown, fail_if, several=beside, keeps=keeps)
                if isinstance(answer, int):
                    return answer
                summaries[work.study.name] = answer
                _show_place(console, work, display, bool(collection))
        if interrupted or work.turns.stopped:
            show_interruption(console, work, works[index + 1 :], interrupted=interrupted)
            break
    if shard and not interrupted:
        show_shard(console, works, shard, display)
        if not any(work.part for work in works) and not summaries:
            return EXIT_DONE
    if collection and summaries:
        show_claims(_collected(collection, works, summaries), display)
    elif several and summaries:
        show_together(summaries, display, [work.folder.path for work in works[: len(summaries)]])
    if profile:
        _show_profile(console, works, summaries)
    stopped = bool(works[index].turns.stopped)
    return exit_code(list(summaries.values()), interrupted=interrupted, unfinished=stopped)


def _show_profile(console: Console, works: Sequence[Work], summaries: Mapping[str, Summary]) -> None:
    """Where the time went."""
    from bnbench.reports.tables.profile import print_profile

    trained = [run for work in works for run in work.todo]
    print_profile(console, works[0].phases.seconds(), trained, list(summaries.values()))


def _answer(
    work: Work, display: Display, fail_if: Sequence[str], *, several: bool, keeps: bool
) -> Summary | int:
    """Show a study's answer: its summary, or the exit code where the folder kept the answer and is as it was.

    several: whether other studies are shown, too. keeps: whether the answer may be kept.
    """
    from bnbench.cli.kept import KeptAnswer

    kept = KeptAnswer.of_work(work, display, fail_if) if keeps else None
    if kept and (code := kept.show()) is not None:
        return code
    summary = _show_run(work, display, fail_if, several=several)
    if kept:
        kept.keep(summary, gate_lines(summary), finished=_all_finished(work))
    return summary


def _show_place(console: Console, work: Work, display: Display, collected: bool) -> None:
    """Where the results are, where the answer does not say it."""
    if not display.quiet and not collected and (display.format != TABLE or display.tables is not None):
        console.print(f"Results: {work.folder.path}", soft_wrap=True, highlight=False, markup=False)


def _all_finished(work: Work) -> bool:
    """Whether every run is there with a result and its answers. What had nothing to train has looked already."""
    return not work.todo or all(map(work.folder.has, work.runs))


def _collection(works: Sequence[Work]) -> str:
    """The name of the collection that all of them are from, where it has claims; else ""."""
    names = {work.study.collection for work in works}
    return names.pop() if len(names) == 1 and any(work.study.expect for work in works) else ""


def _collected(collection: str, works: Sequence[Work], summaries: Mapping[str, Summary]) -> Collected:
    return Collected(
        collection,
        works[0].folder.path.parent,
        summaries,
        {work.study.name: work.folder.path for work in works},
        [work.study for work in works if work.study.name not in summaries],
    )


def train_work(console: Console, work: Work, display: Display) -> bool:
    """Train what is left to do of a study; whether it was interrupted. `work.turns` says what else ended it early."""
    from bnbench.api.carrying_out import carry_out
    from bnbench.api.turns import TIME_LIMIT
    from bnbench.base.pausing import CTRL_C, grace_is_over, pausing
    from bnbench.base.stopping import stop_asked
    from bnbench.base.user_code import guarded
    from bnbench.listeners.progress import LiveProgress

    show_plan(console, work, display.quiet)
    work.phases.enter("runs")
    work.turns.say = partial(_say, console, display.quiet)
    try:
        for runs in work.rounds():
            show_look(console, work, runs, display.quiet)
            planned = runs if work.study.looks else work.part
            with (
                pausing(work.turns.gives_up),
                guarded(),
                LiveProgress(console, planned, runs, quiet=display.quiet, verbose=display.verbose) as live,
            ):
                carry_out(work, runs, live.on)
            if work.turns.stopped:
                break
    except KeyboardInterrupt:
        if not grace_is_over():
            return True
        work.turns.stop(stop_asked() or TIME_LIMIT)
    return work.turns.stopped == CTRL_C


def _say(console: Console, quiet: bool, text: str) -> None:
    if not quiet:
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def _show_run(work: Work, display: Display, fail_if: Sequence[str], *, several: bool) -> Summary:
    """Keep what the runs say, then show it: whatever comes between the two, the files are there."""
    from bnbench.api.under_way import until_settled

    summary, error = until_settled(work.folder.path, partial(_keep, work, display, fail_if))
    if display.visible:
        print_study(work.study.name, summary, display, work.folder, several=several)
    show_gates(work.study.name, summary, several)
    if error:
        raise error
    return summary


def _keep(work: Work, display: Display, fail_if: Sequence[str]) -> tuple[Summary, ResultsError | None]:
    """Write the files of the summary; the error where the disk is full: the result is to be printed first."""
    from bnbench.api.summaries import summarize_work

    work.phases.enter("statistics")
    results, summary = summarize_work(work, fail_if)
    summary = replace(summary, language=display.language)
    work.phases.enter("tables and report.html")
    try:
        write_and_warn(work.folder, results, summary)
        if display.inside:
            from bnbench.cli.look import write_inside

            write_inside(summary, work.folder, display.inside)
    except ResultsError as error:
        return summary, error
    return summary, None
