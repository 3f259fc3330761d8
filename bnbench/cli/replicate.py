"""`bnbench replicate`: list, run and report published findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bnbench.base.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_NOT_EVERYTHING,
    EXIT_NOTHING_USABLE,
    EXIT_SOME_RUNS_CRASHED,
    BnbenchError,
)
from bnbench.base.terminal import echo
from bnbench.cli.display import TABLE, Display
from bnbench.cli.errors import Errors, error_text
from bnbench.cli.groups import with_groups
from bnbench.cli.options import (
    DataDir,
    Debug,
    Device,
    DeviceOption,
    Force,
    FormatOption,
    Jobs,
    Quiet,
    user_path,
)
from bnbench.cli.running_options import RunningOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnbench.analysis.findings.replication import Replication
    from bnbench.analysis.findings.stored import Replicated
    from bnbench.api.plugins import Names
    from bnbench.api.replicate import Job
    from bnbench.api.session import Options

#: The word for every shipped finding.
ALL = "all"
_OUTPUT = Path("results") / "findings"

replicate = typer.Typer(
    help="Run published findings again: list, run, report.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[
    Path,
    typer.Option(
        "--output", "-o", parser=user_path, metavar="PATH", help="The folder of all findings' results."
    ),
]


@replicate.command(name="list")
def list_findings(output: Folder = _OUTPUT, format: FormatOption = TABLE, debug: Debug = False) -> None:
    """List the findings that come with bnbench: paper, claims, time, data, whether done."""
    with Errors(debug):
        from bnbench.api.replicate import findings, is_done
        from bnbench.cli.show import console_on
        from bnbench.reports.console import print_table, print_text
        from bnbench.reports.findings.documents import LISTS
        from bnbench.reports.findings.tables import list_table

        known = findings()
        done = {one.name: kept for one in known if (kept := is_done(one, None, output))}
        table = list_table(known, done)
        if format != TABLE:
            echo(LISTS[format](table), newline=False)
            return
        console = console_on(stderr=False)
        print_table(console, table)
        print_text(
            console, "Run one with `bnbench replicate run NAME`, all with `bnbench replicate run all`."
        )


@dataclass(frozen=True)
class Training(RunningOptions):
    """The options of `run`."""

    output: Folder = _OUTPUT
    device: DeviceOption = Device.auto
    jobs: Jobs = None
    data_dir: DataDir = None
    force: Force = False
    format: FormatOption = TABLE
    quiet: Quiet = False
    debug: Debug = False


@replicate.command()
@with_groups
def run(
    training: Training,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME... [KEY=VALUE]...",
            help="Shipped findings, YAML files, or all; then overrides of their studies, which count as deviations.",
        ),
    ],
) -> None:
    """Train the studies of findings, and judge their claims. What is done is not trained again."""
    with Errors(training.debug, trains=True):
        from bnbench.api.arguments import data_folder
        from bnbench.api.session import Options
        from bnbench.cli.words import studies_and_overrides

        names, overrides = studies_and_overrides(words)
        if not any("=" not in word for word in words):
            raise typer.BadParameter("name a finding, or all; `bnbench replicate list` has the names.")
        again: Literal["none", "all"] = "all" if training.force else "none"
        data = data_folder(training.data_dir)
        given = training.debug, training.jobs
        options = Options(training.device, data, again, *given, **training.running_and_start())
        display = Display(training.format, None, training.quiet)
        raise typer.Exit(_run(names, overrides, training.output, options, display))


@replicate.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", parser=user_path, help="Where `run` keeps its results.")
    ] = _OUTPUT,
    format: FormatOption = TABLE,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judge all findings of a folder together, without training, and write its report.html."""
    with Errors(debug):
        from bnbench.api.replicate import load_replication

        replication = load_replication(folder)
        _show(replication, replication, folder, Display(format, None, quiet))


def _run(
    names: Sequence[str], overrides: Sequence[str], output: Path, options: Options, display: Display
) -> int:
    """Train what is left of each study, and show the findings that have values. Returns the exit code."""
    from bnbench.api.findings import shipped_findings
    from bnbench.api.plugins import known_names
    from bnbench.api.replicate import load_replication, plan_jobs
    from bnbench.engine.process import training_process

    shipped = [path.stem for path in shipped_findings()]
    wanted = [one for name in names for one in (shipped if name == ALL else [name])]
    with training_process(for_good=True):
        known = known_names((), overrides)
        jobs = plan_jobs(wanted, known, output)
        done: list[str] = []
        failed, code = False, EXIT_DONE
        for number, job in enumerate(jobs, start=1):
            if not display.quiet:
                echo(f"Study {job.study.name} ({number} of {len(jobs)}): {job.title}", err=True)
            waiting = ", ".join(other.study.name for other in jobs[number:])
            try:
                found, crashed, stopped = _run_job(job, known, options, output, display)
            except KeyboardInterrupt:
                echo("Interrupted. Finished runs are kept; the same command goes on from here.", err=True)
                if waiting:
                    echo(f"Not started: {waiting}.", err=True)
                code = EXIT_INTERRUPTED
                break
            except BnbenchError as error:
                echo(f"{error_text(error)}\nLeft out; the others follow.", err=True)
                failed = True
                continue
            done += [one.finding.name for one in found]
            code = EXIT_SOME_RUNS_CRASHED if crashed else code
            if stopped:
                echo(stopped + (f"\nNot started: {waiting}." if waiting else ""), err=True)
                code = code or EXIT_NOT_EVERYTHING
                break
        if done:
            whole = load_replication(output)
            _show(whole.only(done), whole, output, display)
    if code == EXIT_INTERRUPTED:
        return code
    return EXIT_NOTHING_USABLE if failed else code


def _run_job(
    job: Job, names: Names, options: Options, output: Path, display: Display
) -> tuple[list[Replicated], bool, str]:
    """The values of one study's findings, whether any run crashed, and why it ended early ("" where it did not).

    Raises KeyboardInterrupt and BnbenchError.
    """
    from bnbench.api.replicate import CpuClock, kept_values
    from bnbench.cli.run import train_work
    from bnbench.cli.show import console_on

    if options.again == "none" and (kept := kept_values(job, output)):
        if not display.quiet:
            echo("Done already; --force trains it again.", err=True)
        return kept, False, ""
    clock = CpuClock(options.jobs)
    work = job.prepare(names, options)
    with work.present():
        if train_work(console_on(stderr=True), work, display):
            raise KeyboardInterrupt
        records = [run for cell in work.folder.load().cells for run in cell.records]
        crashed = any(run.outcome == "crashed" for run in records)
        found = job.finish(work, clock.seconds(work)) if records else []
    return found, crashed, work.left_over


def _show(shown: Replication, whole: Replication, folder: Path, display: Display) -> None:
    """Print findings and, on a terminal, write report.html of all that the folder holds."""
    from bnbench.api.replicate import write_page
    from bnbench.cli.show import console_on
    from bnbench.reports.findings.console import print_replication
    from bnbench.reports.findings.documents import DOCUMENTS

    if display.format != TABLE:
        for warning in shown.warnings:
            echo(f"Warning: {warning}", err=True)
        echo(DOCUMENTS[display.format](shown), newline=False)
        return
    if not display.quiet:
        print_replication(console_on(stderr=False), shown)
    path, warning = write_page(folder, whole)
    if warning or not display.quiet:
        echo(f"Warning: {warning}" if warning else f"Report: {path}", err=True)
