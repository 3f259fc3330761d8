"""The command line: parse, call, print, choose the exit code. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bnbench.cli_errors import Errors
from bnbench.cli_options import (
    DataDir,
    Debug,
    Device,
    DeviceOption,
    Dim,
    Eps,
    FailIf,
    Force,
    Format,
    FormatOption,
    Layer,
    Momentum,
    MomentumConvention,
    Output,
    Plugins,
    Quiet,
    RunningVar,
    VerifyFormat,
    Words,
)
from bnbench.errors import (
    EXIT_DONE,
    EXIT_GATE,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_USABLE,
    EXIT_SOME_RUNS_CRASHED,
)

if TYPE_CHECKING:
    from rich.console import Console

    from bnbench.analysis.summary import Summary
    from bnbench.workflow import Work

app = typer.Typer(
    name="bnbench",
    help="Does this normalization layer help this network, by how much, and can the answer be trusted?",
    epilog="Exit codes: 0 done; 1 nothing usable came out; 2 usage; 3 some runs crashed; 4 a --fail-if holds, "
    "or a layer fails a check of verify; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from bnbench import __version__

        typer.echo(f"bnbench {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    words: Words = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="Which variant of the study. [default: its first]")
    ] = None,
    output: Output = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    force: Force = False,
    format: FormatOption = Format.table,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train one variant of a study, on one or more seeds, epoch by epoch."""
    with Errors(debug):
        from bnbench.config import load_variant
        from bnbench.workflow import find_study, known_names, prepare_work

        name, overrides = _study_and_overrides(words)
        names = known_names(plugin or ())
        study = load_variant(find_study(name), variant, overrides, names.vocabulary)
        folder = output or Path("results") / f"{study.name}-{study.baseline}"
        work = prepare_work(
            study, names, folder, device=device, data_dir=_data_dir(data_dir), force=force, debug=debug
        )
        raise typer.Exit(_run(work, format, quiet=quiet, epoch_lines=True))


@app.command()
def compare(
    words: Words = None,
    output: Output = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    force: Force = False,
    format: FormatOption = Format.table,
    quiet: Quiet = False,
    fail_if: FailIf = None,
    debug: Debug = False,
) -> None:
    """Train every variant of a study on every seed, and compare them. Without a study: the quickstart."""
    with Errors(debug):
        from bnbench.config import load_study
        from bnbench.workflow import check_gates, find_study, known_names, prepare_work

        name, overrides = _study_and_overrides(words)
        names = known_names(plugin or ())
        study = load_study(find_study(name), overrides, names.vocabulary)
        check_gates(fail_if or (), study)
        work = prepare_work(
            study,
            names,
            output or Path("results") / study.name,
            device=device,
            data_dir=_data_dir(data_dir),
            force=force,
            debug=debug,
        )
        raise typer.Exit(_run(work, format, quiet=quiet, fail_if=fail_if or ()))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that compare or train wrote.")],
    format: FormatOption = Format.table,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also show the layers of every variant, as built.")
    ] = False,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write the figures there.")] = None,
    figure_format: Annotated[Literal["svg", "png", "pdf"], typer.Option(help="What files.")] = "svg",
    fail_if: FailIf = None,
    debug: Debug = False,
) -> None:
    """Show the tables of a results folder again; write its summaries (and report.html, with tables) anew."""
    with Errors(debug):
        from bnbench.results import ResultsFolder
        from bnbench.workflow import summarize_folder, write_summaries

        folder_of = ResultsFolder(folder)
        results, summary = summarize_folder(folder_of, fail_if or ())
        _print_summary(summary, format, layers=layers)
        _tell_gates(summary)
        _warn(write_summaries(folder_of, results, summary, page=format is Format.table))
        if figures:
            from bnbench.report.figures import write_figures

            paths = write_figures(summary, figures, figure_format)
            typer.echo(f"Figures: {len(paths)} in {figures}", err=True)
        raise typer.Exit(_exit_code(summary))


@app.command()
def check(
    words: Words = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of studies, for your editor.")
    ] = False,
    debug: Debug = False,
) -> None:
    """All mistakes of a study at once; its runs, steps, and an estimate of time and memory. Trains nothing."""
    with Errors(debug):
        from bnbench.config import load_study
        from bnbench.workflow import find_study, known_names

        names = known_names(plugin or ())
        if json_schema:
            import json

            from bnbench.config import json_schema as schema_of

            typer.echo(json.dumps(schema_of(names.vocabulary), indent=1))
            return
        from bnbench.report.lists import print_plan
        from bnbench.workflow import estimate

        name, overrides = _study_and_overrides(words)
        study = load_study(find_study(name), overrides, names.vocabulary)
        print_plan(_console(stderr=False), study, estimate(study, device, _data_dir(data_dir)))


@app.command(name="list")
def list_names(plugin: Plugins = None, debug: Debug = False) -> None:
    """Models, data sets, normalizers, optimizers, schedules, losses and shipped studies."""
    with Errors(debug):
        from bnbench.report.lists import print_names
        from bnbench.workflow import known_names, shipped_studies

        print_names(_console(stderr=False), known_names(plugin or ()).vocabulary, shipped_studies())


@app.command()
def verify(
    layer: Layer,
    dim: Dim = "both",
    eps: Eps = None,
    momentum: Momentum = None,
    momentum_convention: MomentumConvention = "new",
    running_var: RunningVar = "unbiased",
    format: VerifyFormat = "table",
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Is this a batch norm? Checks any torch layer, and names what is wrong. Exits with 4 where a check fails."""
    with Errors(debug):
        from bnbench.report.verification import FORMATS, print_verification
        from bnbench.verify.judge import Wishes, verify
        from bnbench.workflow import known_names

        known_names(plugin or ())
        found = verify(layer, Wishes(dim, eps, momentum, momentum_convention, running_var), debug=debug)
        if format == "table":
            print_verification(_console(stderr=False), found)
        else:
            typer.echo(FORMATS[format](found), nl=False)
        raise typer.Exit(EXIT_DONE if found.passed else EXIT_GATE)


def _run(
    work: Work, format: Format, *, quiet: bool, epoch_lines: bool = False, fail_if: Sequence[str] = ()
) -> int:
    """Train, tell, summarise; the exit code."""
    from bnbench.report.console import LiveProgress
    from bnbench.workflow import carry_out, summarize_folder, write_summaries

    console = _console(stderr=True)
    _tell_plan(console, work, quiet)
    interrupted = False
    try:
        with LiveProgress(console, work.runs, work.todo, quiet=quiet, epoch_lines=epoch_lines) as live:
            carry_out(work, live.on)
    except KeyboardInterrupt:
        interrupted = True
        if not work.has_records():
            console.print("Interrupted before the first run was finished. Nothing is lost, nothing is there.")
            return EXIT_INTERRUPTED
    results, summary = summarize_folder(work.folder, fail_if)
    if not quiet or format is not Format.table:
        _print_summary(summary, format)
    _tell_gates(summary)
    _warn(write_summaries(work.folder, results, summary))
    if interrupted:
        console.print("Interrupted. Finished runs are kept; the same command goes on from here.")
    if not quiet:
        console.print(f"Results: {work.folder.path}", soft_wrap=True, highlight=False, markup=False)
    return EXIT_INTERRUPTED if interrupted else _exit_code(summary)


def _tell_plan(console: Console, work: Work, quiet: bool) -> None:
    if quiet:
        return
    done = len(work.runs) - len(work.todo)
    if done:
        console.print(f"{done} of {len(work.runs)} runs are finished already; --force runs them again.")
    others = work.folder.other_runs()
    if others:
        what = (
            "1 run of other settings or seeds is"
            if others == 1
            else f"{others} runs of other settings or seeds are"
        )
        console.print(f"{what} in {work.folder.path}, and left alone.", markup=False)
    for warning in work.study.warnings:
        console.print(f"Warning: {warning}", soft_wrap=True, markup=False)


def _print_summary(summary: Summary, format: Format, layers: bool = False) -> None:
    if format is Format.table:
        from bnbench.report.console import print_summary

        print_summary(_console(stderr=False), summary, layers=layers)
    else:
        from bnbench.report.export import FORMATS

        typer.echo(FORMATS[format.value](summary), nl=False)


def _warn(message: str) -> None:
    if message:
        typer.echo(f"Warning: {message}", err=True)


def _tell_gates(summary: Summary) -> None:
    for gate in summary.gates:
        typer.echo(
            f"--fail-if '{gate.gate}': {'FAILED' if gate.failed else 'passed'}: {gate.reason}.", err=True
        )


def _exit_code(summary: Summary) -> int:
    crashed = sum(variant.crashed for variant in summary.variants)
    usable = sum(variant.finished + variant.diverged for variant in summary.variants)
    if not usable:
        return EXIT_NOTHING_USABLE
    if any(gate.failed for gate in summary.gates):
        return EXIT_GATE
    return EXIT_SOME_RUNS_CRASHED if crashed else EXIT_DONE


def _study_and_overrides(words: Sequence[str] | None) -> tuple[str, list[str]]:
    """Split the words: those with "=" (and no such file) are overrides; without a study, the quickstart."""
    words = words or []
    overrides = [word for word in words if "=" in word and not os.path.isfile(word)]
    studies = [word for word in words if word not in overrides]
    if len(studies) > 1:
        raise typer.BadParameter(f"one study at a time, but there are {len(studies)}: {', '.join(studies)}.")
    return studies[0] if studies else "quickstart", overrides


def _data_dir(given: Path | None) -> Path:
    from platformdirs import user_cache_path

    return given or user_cache_path("bnbench")


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def main() -> None:
    """The console script. A reader that goes away (`bnbench list | head`) is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± is no reason to stop
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
