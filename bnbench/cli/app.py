"""The command line: parse, call, print, choose the exit code. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bnbench.base.errors import EXIT_DONE, BnbenchError
from bnbench.base.terminal import close_doors, echo, open_doors
from bnbench.base.time_limit import begin_command
from bnbench.base.words import ENGLISH
from bnbench.cli.convert import convert
from bnbench.cli.display import TABLE, Display, InsideFigures
from bnbench.cli.doctor import doctor
from bnbench.cli.errors import Errors, error_text
from bnbench.cli.explain import explain
from bnbench.cli.fold import fold
from bnbench.cli.groups import with_groups
from bnbench.cli.merge import merge
from bnbench.cli.options import (
    CompareModel,
    DataDir,
    Debug,
    Device,
    DeviceOption,
    FailIf,
    FigureFormat,
    Figures,
    FormatOption,
    LanguageOption,
    LookFigures,
    ManyWords,
    Plugins,
    ProbeOption,
    Profile,
    Quiet,
    TablesOption,
    Training,
    Verbose,
    Words,
    user_path,
    with_options,
)
from bnbench.cli.ranks import on_ranks
from bnbench.cli.replicate import replicate
from bnbench.cli.verify import verify
from bnbench.cli.words import studies_and_overrides, study_and_overrides

app = typer.Typer(
    name="bnbench",
    help="Does this normalization layer help this network, by how much, and can the answer be trusted?",
    epilog="Exit codes: 0 done; 1 nothing usable came out; 2 usage; 3 some runs crashed; 4 a --fail-if holds, "
    "a layer fails a check of verify, doctor --strict finds an error, or a proof of convert or fold fails; "
    "5 not everything is trained (--time-limit, SIGTERM, SIGHUP or SIGUSR1, a shard): the same command goes on; "
    "130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(replicate, name="replicate")


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
@with_groups
def train(
    training: Training,
    words: Words = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="Which variant of the study. Default: its first.")
    ] = None,
) -> None:
    """Train one variant of a study, on one or more seeds, epoch by epoch."""
    with Errors(training.debug, trains=True):
        from bnbench.cli.run import run_variant

        study, overrides = study_and_overrides(words)
        raise typer.Exit(run_variant(study, variant, training.overrides(overrides), training))


@app.command()
@with_groups
def compare(
    training: Training,
    words: ManyWords = None,
    verbose: Verbose = False,
    fail_if: FailIf = None,
    profile: Profile = False,
) -> None:
    """Train every variant of a study on every seed, and compare them. Without a study: the quickstart.

    With several studies, also prints a joint summary. A collection of studies, such as claims, prints its claims.
    """
    with Errors(training.debug, trains=True):
        from bnbench.cli.run import run_studies

        studies, given = studies_and_overrides(words)
        display, overrides = training.display(verbose), training.overrides(given)
        raise typer.Exit(run_studies(studies, overrides, training, display, fail_if or (), profile=profile))


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders that compare or train wrote.", parser=user_path),
    ],
    format: FormatOption = TABLE,
    tables: TablesOption = None,
    figures: Figures = None,
    figure_format: FigureFormat = "svg",
    fail_if: FailIf = None,
    lang: LanguageOption = ENGLISH,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show the answer of results folders again, and rewrite their summaries (and report.html, without --format).

    With several folders, also prints a joint summary; of a collection, its claims.
    """
    with Errors(debug):
        from bnbench.cli.report import show_folders

        code = show_folders(
            folders,
            Display(format, tables, quiet, language=lang),
            fail_if=fail_if or (),
            figures=figures,
            kind=figure_format,
        )
        raise typer.Exit(code)


app.command()(merge)


@app.command()
@with_groups
def look(
    training: Training,
    words: Words = None,
    verbose: Verbose = False,
    figures: LookFigures = None,
    figure_format: FigureFormat = "svg",
) -> None:
    """Look inside the networks of a study: train it with probes, show the layers side by side, and draw them.

    The study's own probe counts, else the default one. With epochs=0 the networks are looked at before any training.
    """
    with Errors(training.debug, trains=True):
        from bnbench.cli.look import look_inside

        study, given = study_and_overrides(words)
        overrides = training.overrides(given)
        display = replace(training.display(verbose), inside=InsideFigures(figures, figure_format))
        raise typer.Exit(look_inside(study, overrides, training, display))


@app.command()
def check(
    words: Words = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    model: CompareModel = None,
    probe: ProbeOption = False,
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
        from bnbench.api.arguments import data_folder
        from bnbench.api.check import estimate
        from bnbench.api.own_models import check_model
        from bnbench.api.plugins import known_names
        from bnbench.api.shipped import find_study
        from bnbench.cli.show import console_on
        from bnbench.engine.process import training_process
        from bnbench.reports.tables.lists import print_plan
        from bnbench.study import load_study

        name, overrides = study_and_overrides(words)
        names = known_names(plugin or (), with_options(overrides, probe, model))
        study = load_study(find_study(name), names.overrides, names.vocabulary)
        check_model(study, names.overrides)

        def progress(text: str) -> None:
            echo(f"{text} ...", err=True)

        with training_process(for_good=True):
            estimates = estimate(study, device, data_folder(data_dir), progress)
        print_plan(console_on(stderr=False), study, estimates)


@app.command(name="list")
def list_names(plugin: Plugins = None, debug: Debug = False) -> None:
    """List models, data sets, normalizers, optimizers, schedules, losses and shipped studies."""
    with Errors(debug):
        from bnbench.api.names import described_names
        from bnbench.api.shipped import shipped_collections, shipped_studies
        from bnbench.cli.show import console_on
        from bnbench.reports.tables.lists import print_names

        collections = {collection.name: collection.files for collection in shipped_collections()}
        print_names(console_on(stderr=False), described_names(plugin or ()), shipped_studies(), collections)


app.command()(with_groups(verify))
app.command()(with_groups(convert))
app.command()(with_groups(doctor))
app.command()(with_groups(fold))
app.command()(explain)


def _give_home() -> None:
    """A user id without an entry and a HOME (a container's) gets one: libraries ask for it when they are imported."""
    try:
        Path.home()
    except (RuntimeError, KeyError):
        import tempfile

        with contextlib.suppress(
            FileNotFoundError
        ):  # then nothing can be written, and the command reports it
            os.environ["HOME"] = os.path.join(tempfile.gettempdir(), f"bnbench-home-{os.getuid()}")


def _check_folder() -> None:
    """Raises BnbenchError where the current folder is gone: torch's libraries end the process then."""
    try:
        os.getcwd()
    except OSError as error:
        raise BnbenchError(
            f"the current folder can't be found: {error.strerror}.",
            "It was removed or moved, or may not be read, since this shell entered it.",
            "cd to another folder and run the command there.",
        ) from None


def main() -> None:
    """The console script. A closed pipe (`bnbench list | head`) is not an error."""
    begin_command()
    open_doors()
    _give_home()
    sys.exit(close_doors(on_ranks(_run)))


def _run() -> int:
    try:
        _check_folder()
        app()
        return EXIT_DONE
    except BnbenchError as error:
        echo(error_text(error), err=True)
        return error.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_DONE
