"""`bnbench doctor`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bnbench.base.errors import EXIT_DONE, EXIT_GATE, BnbenchError
from bnbench.base.terminal import echo
from bnbench.cli.errors import Errors
from bnbench.cli.model_options import Building, Checkpoint, Model
from bnbench.cli.options import Debug, Plugins

if TYPE_CHECKING:
    from bnbench.base.diagnosis import Diagnosis


#: A word that names a rule.
_RULE = re.compile(r"[A-Za-z]\d{2}")


def _names(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names in a list with commas."""
    if isinstance(text, tuple):
        return text
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True)
class Beside:
    """What is given beside the model, which rules look, and whether a finding is trained."""

    checkpoint: Checkpoint = None
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="STUDY", help="A study whose training data the network is looked at with."
        ),
    ] = None
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer", metavar="FILE.py:NAME", help="A function of the model that returns its optimizer."
        ),
    ] = None
    rules: Annotated[
        Any,
        typer.Option("--rules", parser=_names, metavar="D06,D08", help="Only these rules look."),
    ] = ()
    ignore: Annotated[
        Any,
        typer.Option("--ignore", parser=_names, metavar="D09", help="These rules do not look."),
    ] = ()
    difference: Annotated[
        bool,
        typer.Option(
            "--train-the-difference",
            help="Train the network as found and with the fix of its first finding, or of that of a rule named behind "
            "it (--train-the-difference D16), on --data: paired over 5 seeds of at most 300 steps.",
        ),
    ] = False


@dataclass(frozen=True)
class Showing:
    """What is printed, and when the command fails."""

    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 where a finding is an error.")] = False
    all_places: Annotated[
        bool, typer.Option("--all", help="Show every place by itself, also where many are alike.")
    ] = False
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="D06", help="Print what a rule means, and end.")
    ] = None
    format: Annotated[
        Literal["table", "json", "sarif"],
        typer.Option("--format", help="What to print on stdout; the rest goes to stderr."),
    ] = "table"


def doctor(
    building: Building,
    beside: Beside,
    showing: Showing,
    model: Model = "",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings that replace those of --data.", show_default=False
        ),
    ] = None,
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """What is wrong with the normalizations of a network? 26 rules, each with its evidence, its cost and the fix."""
    with Errors(debug):
        if showing.explain is not None:
            _explain(showing.explain, plugin or [])
            raise typer.Exit(EXIT_DONE)
        model, words, rule = _words(model, overrides or [], beside.difference)
        if not model:
            raise typer.BadParameter("it is missing.", param_hint="MODEL")
        diagnosis = _diagnosis(building, beside, model, words, rule, plugin or [])
        if not diagnosis.sites and not diagnosis.findings:
            raise BnbenchError(
                f"{model} has no normalization: no module of it normalizes what it is given, and no function was seen "
                "that does."
            )
        _show(diagnosis, showing.format, every=showing.all_places)
        raise typer.Exit(EXIT_GATE if showing.strict and not diagnosis.passed else EXIT_DONE)


def _diagnosis(
    building: Building, beside: Beside, model: str, words: list[str], rule: str | None, plugins: list[Path]
) -> Diagnosis:
    """What the rules find; rule: whose finding is trained against its fix, "" for the first, None for none."""
    from bnbench.api.doctor import Beside as Given
    from bnbench.api.doctor import diagnose, subject_of, untrained
    from bnbench.api.doctor_rules import Selection
    from bnbench.api.network_data import given_data, require_study, wanted_of
    from bnbench.engine.process import training_process

    entries = Selection(beside.rules, beside.ignore, plugins).entries()
    with training_process(for_good=True):
        data = given_data(beside.data, words, plugins)
        if rule is not None:
            require_study(data)
        subject = subject_of(model, building.input, building.wanted(wanted_of(data)), data)
        given = Given(beside.optimizer, beside.checkpoint, data)
        diagnosis, sites = diagnose(subject, given, entries)
    if rule is None or not diagnosis.sites:
        return diagnosis
    from bnbench.api.difference import with_difference

    return with_difference(diagnosis, sites, untrained(subject, data), rule)


def _words(model: str, words: list[str], difference: bool) -> tuple[str, list[str], str | None]:
    """MODEL, the overrides, and the rule behind --train-the-difference ("" for any, None without the option)."""
    words = [word for word in (model, *words) if word]
    rules = [word for word in words if _RULE.fullmatch(word)] if difference else []
    others = [word for word in words if word not in rules]
    rule = (rules[0] if rules else "") if difference else None
    return (others[0] if others else ""), others[1:], rule


def _explain(rule: str, plugins: list[Path]) -> None:
    from bnbench.api.doctor_rules import explained
    from bnbench.cli.show import console_on
    from bnbench.reports.network.doctor import page_lines

    echo("\n".join(page_lines(explained(rule, plugins).page, console_on(stderr=False).width)))


def _show(diagnosis: Diagnosis, format: str, *, every: bool) -> None:
    from bnbench.cli.show import console_on
    from bnbench.reports.network.doctor import FORMATS, print_diagnosis

    if format == "table":
        print_diagnosis(console_on(stderr=False), diagnosis, every=every)
    else:
        echo(FORMATS[format](diagnosis), newline=False)
