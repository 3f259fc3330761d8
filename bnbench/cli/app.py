"""The command line: parse, call, print, choose the exit code. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from bnbench.base.errors import EXIT_DONE, EXIT_GATE
from bnbench.base.terminal import close_doors, echo, open_doors
from bnbench.cli.errors import Errors
from bnbench.cli.options import (
    TABLE,
    DataDir,
    Debug,
    Device,
    DeviceOption,
    Dim,
    Display,
    Eps,
    FailIf,
    Force,
    FormatOption,
    Jobs,
    Layer,
    ManyWords,
    MomentumConvention,
    Output,
    Plugins,
    Profile,
    Quiet,
    Refresh,
    RunningVar,
    Strict,
    TablesOption,
    Timeout,
    Verbose,
    VerifyFormat,
    VerifyMomentum,
    Words,
    user_path,
)

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

        echo(f"bnbench {__version__}")
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
    jobs: Jobs = None,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    force: Force = False,
    refresh: Refresh = None,
    format: FormatOption = TABLE,
    tables: TablesOption = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train one variant of a study, on one or more seeds, epoch by epoch."""
    with Errors(debug):
        from bnbench.api.early import start_workers_early
        from bnbench.api.plugins import known_names
        from bnbench.api.session import Options
        from bnbench.api.several import prepare_works
        from bnbench.api.shipped import find_study
        from bnbench.cli.run import run_works
        from bnbench.study import load_variant

        name, overrides = _study_and_overrides(words)
        if not debug:
            start_workers_early([name], overrides, device, jobs)
        from bnbench.engine.process import training_process

        with training_process(for_good=True):
            names = known_names(plugin or (), overrides)
            study = load_variant(find_study(name), variant, names.overrides, names.vocabulary)
            works = prepare_works(
                [study],
                names,
                output,
                Options(device, _data_dir(data_dir), _again(force, refresh), debug, jobs),
                of=f"-{study.baseline}",
            )
            raise typer.Exit(
                run_works(works, Display(format, tables, quiet, verbose=True, command=_command()))
            )


@app.command()
def compare(
    words: ManyWords = None,
    output: Output = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = None,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    force: Force = False,
    refresh: Refresh = None,
    format: FormatOption = TABLE,
    tables: TablesOption = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    fail_if: FailIf = None,
    profile: Profile = False,
    debug: Debug = False,
) -> None:
    """Train every variant of a study on every seed, and compare them. Without a study: the quickstart.

    With several studies, also prints a joint summary.
    """
    with Errors(debug):
        from bnbench.api.early import start_workers_early
        from bnbench.api.plugins import known_names
        from bnbench.api.session import Options
        from bnbench.api.several import load_studies, prepare_works
        from bnbench.api.summaries import gates_of
        from bnbench.cli.run import run_works

        texts, overrides = _studies_and_overrides(words)
        if not debug:
            start_workers_early(texts, overrides, device, jobs)
        from bnbench.engine.process import training_process

        with training_process(for_good=True):
            names = known_names(plugin or (), overrides)
            studies = load_studies(texts, names)
            gates = gates_of(fail_if or (), studies)
            works = prepare_works(
                studies,
                names,
                output,
                Options(device, _data_dir(data_dir), _again(force, refresh), debug, jobs),
                gates,
            )
            display = Display(format, tables, quiet, verbose, _command())
            raise typer.Exit(run_works(works, display, gates=gates, profile=profile))


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders that compare or train wrote.", parser=user_path),
    ],
    format: FormatOption = TABLE,
    tables: TablesOption = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the figures there.", parser=user_path),
    ] = None,
    figure_format: Annotated[
        Literal["svg", "png", "pdf"], typer.Option(help="File format of the figures.")
    ] = "svg",
    fail_if: FailIf = None,
    debug: Debug = False,
) -> None:
    """Show the answer of results folders again, and rewrite their summaries (and report.html, without --format).

    With several folders, also prints a joint summary.
    """
    with Errors(debug):
        from bnbench.cli.report import show_folders

        code = show_folders(
            folders, Display(format, tables), fail_if=fail_if or (), figures=figures, kind=figure_format
        )
        raise typer.Exit(code)


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
    """Check a study without training: list every error, the planned runs and the estimated cost."""
    with Errors(debug):
        if json_schema:
            from bnbench.api.names import described_names
            from bnbench.base.files import to_json
            from bnbench.study import json_schema as schema_of

            echo(to_json(schema_of(described_names(plugin or ())), ascii=True), newline=False)
            return
        from bnbench.api.check import estimate
        from bnbench.api.plugins import known_names
        from bnbench.api.shipped import find_study
        from bnbench.cli.show import console_on
        from bnbench.engine.process import training_process
        from bnbench.reports.tables.lists import print_plan
        from bnbench.study import load_study

        name, overrides = _study_and_overrides(words)
        names = known_names(plugin or (), overrides)
        study = load_study(find_study(name), names.overrides, names.vocabulary)

        def progress(text: str) -> None:
            echo(f"{text} ...", err=True)

        with training_process(for_good=True):
            estimates = estimate(study, device, _data_dir(data_dir), progress)
        print_plan(console_on(stderr=False), study, estimates)


@app.command(name="list")
def list_names(plugin: Plugins = None, debug: Debug = False) -> None:
    """List models, data sets, normalizers, optimizers, schedules, losses and shipped studies."""
    with Errors(debug):
        from bnbench.api.names import described_names
        from bnbench.api.shipped import shipped_studies
        from bnbench.cli.show import console_on
        from bnbench.reports.tables.lists import print_names

        print_names(console_on(stderr=False), described_names(plugin or ()), shipped_studies())


@app.command()
def verify(
    layer: Layer,
    dim: Dim = "all",
    eps: Eps = None,
    momentum: VerifyMomentum = None,
    momentum_convention: MomentumConvention = "new",
    running_var: RunningVar = "unbiased",
    strict: Strict = False,
    timeout: Timeout = 60.0,
    format: VerifyFormat = "table",
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Is this a batch norm? Checks any torch layer, and names what is wrong. Exits with 4 where the mathematics is."""
    with Errors(debug):
        from bnbench.cli.show import console_on
        from bnbench.reports.verification import FORMATS, print_verification
        from bnbench.verification.parent import verify
        from bnbench.verification.wishes import Wishes

        weight: float | Literal["none"] | None = (
            "none" if momentum == "none" else None if momentum is None else float(momentum)
        )
        wishes = Wishes(dim, eps, weight, momentum_convention, running_var)
        found = verify(layer, wishes, plugins=plugin or (), timeout=timeout, debug=debug)
        if format == "table":
            print_verification(console_on(stderr=False), found)
        else:
            echo(FORMATS[format](found), newline=False)
        good = found.strictly_passed if strict else found.passed
        raise typer.Exit(EXIT_DONE if good else EXIT_GATE)


def _study_and_overrides(words: Sequence[str] | None) -> tuple[str, list[str]]:
    """The one study of a command that takes no more, and the overrides."""
    studies, overrides = _studies_and_overrides(words)
    if len(studies) > 1:
        raise typer.BadParameter(f"one study at a time, but there are {len(studies)}: {', '.join(studies)}.")
    return studies[0], overrides


def _studies_and_overrides(words: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Split the words: those with "=" (and no such file) are overrides; without a study, the quickstart."""
    words = words or []
    overrides = [word for word in words if "=" in word and not os.path.isfile(word)]
    studies = [word for word in words if word not in overrides]
    if studies.count("-") > 1:
        raise typer.BadParameter("standard input (-) can be read once.")
    return studies or ["quickstart"], overrides


def _command() -> str:
    """What was typed, without the seeds: more of them are advised."""
    words = [word for word in sys.argv[1:] if not word.startswith("seeds=")]
    return shlex.join(["bnbench", *words])


def _data_dir(given: Path | None) -> Path:
    from platformdirs import user_cache_path

    return given or user_cache_path("bnbench")


def _again(force: bool, refresh: str | None) -> Literal["none", "changed", "all"]:
    return "all" if force else "changed" if refresh else "none"


def _give_home() -> None:
    """A user id without an entry and a HOME (a container's) gets one: libraries ask for it when they are imported."""
    try:
        Path.home()
    except (RuntimeError, KeyError):
        import tempfile

        with contextlib.suppress(
            FileNotFoundError
        ):  # then there is no place for anything, and the command says so
            os.environ["HOME"] = os.path.join(tempfile.gettempdir(), f"bnbench-home-{os.getuid()}")


def main() -> None:
    """The console script. A reader that goes away (`bnbench list | head`) is no error."""
    open_doors()
    _give_home()
    try:
        app()
        code = EXIT_DONE
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EXIT_DONE
    sys.exit(close_doors(code))
