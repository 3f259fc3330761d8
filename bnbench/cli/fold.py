"""`bnbench fold`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bnbench.base.errors import EXIT_DONE, EXIT_GATE, BnbenchError
from bnbench.base.terminal import echo
from bnbench.cli.errors import Errors
from bnbench.cli.model_options import Building, Checkpoint, Model, NetworkFiles
from bnbench.cli.options import Debug

if TYPE_CHECKING:
    from bnbench.base.fold_record import FoldRecord


@dataclass(frozen=True)
class Wishes:
    """What is measured besides, and how the answer is shown and judged."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="STUDY", help="A study on whose data the predictions that change are counted."
        ),
    ] = None
    speed: Annotated[bool, typer.Option("--speed", help="Time both networks, in pairs.")] = False
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 where a norm is left.")] = False
    all_norms: Annotated[bool, typer.Option("--all", help="Show every norm by itself.")] = False
    format: Annotated[
        Literal["table", "json"],
        typer.Option("--format", help="What to print on stdout; the rest goes to stderr."),
    ] = "table"


def fold(
    building: Building,
    model: Model,
    files: NetworkFiles,
    wishes: Wishes,
    checkpoint: Checkpoint = None,
    debug: Debug = False,
) -> None:
    """Fold batch norms, and gammas of other norms, into the layers beside them; exits with 4 where a proof fails."""
    with Errors(debug):
        from bnbench.api.fold import of_loaded, record_of, run, with_checkpoint, with_data
        from bnbench.api.network_files import check_files, write_files
        from bnbench.engine.process import training_process

        check_files(files.save, files.export, force=files.force)
        with training_process(for_good=True):
            subject = with_checkpoint(of_loaded(building.load(model)), checkpoint)
            subject = with_data(subject, wishes.data)
            folding, wrote = write_files(
                run(subject, speed=wishes.speed), subject.inputs, files.save, files.export, force=files.force
            )
            record = record_of(subject, folding, wrote)
        if not record.sites:
            raise BnbenchError(
                f"{model}: the network has no normalization, so that there is nothing to fold."
            )
        _show(record, wishes.format, every=wishes.all_norms)
        good = record.passed and not (wishes.strict and record.left)
        raise typer.Exit(EXIT_DONE if good else EXIT_GATE)


def _show(record: FoldRecord, format: str, *, every: bool) -> None:
    from bnbench.cli.show import console_on
    from bnbench.reports.network.fold import FORMATS, print_fold

    if format == "table":
        print_fold(console_on(stderr=False), record, every=every)
    else:
        echo(FORMATS[format](record), newline=False)
