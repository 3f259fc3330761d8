"""`bnbench convert`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bnbench.base.errors import EXIT_DONE, EXIT_GATE
from bnbench.base.terminal import echo
from bnbench.cli.errors import Errors
from bnbench.cli.model_options import Building, Checkpoint, Model, NetworkFiles
from bnbench.cli.options import Debug, Plugins

if TYPE_CHECKING:
    from bnbench.base.conversion_record import ConversionRecord


def _option(text: str | tuple[str, str]) -> tuple[str, str]:
    """key=value."""
    if isinstance(text, tuple):
        return text
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f'"{text}" is not of the form key=value, such as groups=8.')
    return key.strip(), value.strip()


@dataclass(frozen=True)
class Wish:
    """The normalizer, and what it takes the place of."""

    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="NORM", help="A registered normalizer (group, layer, none, ...), or FILE.py:Name."
        ),
    ] = ""
    source: Annotated[
        Literal["batch", "all", "sync", "frozen", "instance", "group", "layer", "rms"],
        typer.Option("--from", help="Which norms: batch (batch and sync norms), all, or one kind."),
    ] = "batch"
    option: Annotated[
        list[Any] | None,
        typer.Option(
            "--option",
            parser=_option,
            metavar="KEY=VALUE",
            help="Of the normalizer: groups=8. What is not given (eps, momentum, ...) is the old layer's.",
        ),
    ] = None
    biases: Annotated[
        Literal["fair", "keep"],
        typer.Option(
            "--biases",
            help="fair: come back where the old norm stood for them, go where the new one does; keep: stay.",
        ),
    ] = "fair"

    def options(self) -> dict[str, Any]:
        """The options by their names, as a study writes them. Raises ConfigError."""
        from bnbench.study.yaml_source import read_value

        return {key: read_value(value, key) for key, value in self.option or ()}


def convert(
    building: Building,
    wish: Wish,
    model: Model,
    files: NetworkFiles,
    checkpoint: Checkpoint = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 where a norm is left.")] = False,
    all_norms: Annotated[bool, typer.Option("--all", help="Show every norm by itself.")] = False,
    format: Annotated[
        Literal["table", "json"],
        typer.Option("--format", help="What to print on stdout; the rest goes to stderr."),
    ] = "table",
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Put another normalizer into a network, with a table of every norm and five proofs; exits with 4 if one fails."""
    with Errors(debug):
        if not wish.to:
            raise typer.BadParameter("it is missing: the normalizer, such as --to group.", param_hint="--to")
        from bnbench.api.convert import norm_of, record_of, run
        from bnbench.api.fold import of_loaded, with_checkpoint
        from bnbench.api.network_files import check_files, write_files
        from bnbench.engine.process import training_process
        from bnbench.network.convert import Choices

        check_files(files.save, files.export, force=files.force)
        norm = norm_of(wish.to, wish.options(), plugin or [])
        with training_process(for_good=True):
            subject = with_checkpoint(of_loaded(building.load(model)), checkpoint)
            conversion = run(subject, norm, Choices(wish.source, wish.biases, building.seed))
            conversion, wrote = write_files(
                conversion, subject.inputs, files.save, files.export, force=files.force
            )
            record = record_of(subject, conversion, wrote)
        _show(record, format, every=all_norms)
        good = record.passed and not (strict and record.left)
        raise typer.Exit(EXIT_DONE if good else EXIT_GATE)


def _show(record: ConversionRecord, format: str, *, every: bool) -> None:
    from bnbench.cli.show import console_on
    from bnbench.reports.network.convert import FORMATS, print_conversion

    if format == "table":
        print_conversion(console_on(stderr=False), record, every=every)
    else:
        echo(FORMATS[format](record), newline=False)
