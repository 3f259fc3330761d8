"""`bnbench verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bnbench.base.errors import EXIT_DONE, EXIT_GATE
from bnbench.base.terminal import echo
from bnbench.cli.errors import Errors
from bnbench.cli.layer_options import Conventions, Layer, Strict, Timeout, VerifyFormat
from bnbench.cli.options import Debug, Plugins

if TYPE_CHECKING:
    from bnbench.verification.dependence import Dependences
    from bnbench.verification.findings import Verification


def verify(
    conventions: Conventions,
    layer: Layer = None,
    strict: Strict = False,
    timeout: Timeout = 60.0,
    format: VerifyFormat = "table",
    plugin: Plugins = None,
    debug: Debug = False,
) -> None:
    """Is this a batch norm? Checks any torch layer and names what is wrong; exits with 4 if its mathematics is."""
    with Errors(debug):
        from bnbench.verification import parent

        if layer is None and not conventions.padding:
            raise typer.BadParameter(
                "it is missing. Only with --padding it may be left out.", param_hint="LAYER"
            )
        plugins: list[Path] = plugin or []
        if conventions.padding:
            _refuse_conventions(conventions)
            found = parent.verify_padding(
                layer or "", conventions.wishes(), plugins=plugins, timeout=timeout, debug=debug
            )
            _show_padding(found, format)
            good = found.strictly_passed if strict else found.passed
        else:
            verification = parent.verify(
                layer or "", conventions.wishes(), plugins=plugins, timeout=timeout, debug=debug
            )
            _show(verification, format)
            good = verification.strictly_passed if strict else verification.passed
        raise typer.Exit(EXIT_DONE if good else EXIT_GATE)


def _refuse_conventions(conventions: Conventions) -> None:
    """Options of the other question. Raises BadParameter."""
    default = Conventions()
    words = {"dim": "--dim", "momentum_convention": "--momentum-convention", "running_var": "--running-var"}
    for name, word in words.items():
        if getattr(conventions, name) != getattr(default, name):
            raise typer.BadParameter(
                "it does not go with --padding, which compares no formulas.", param_hint=word
            )


def _show(verification: Verification, format: str) -> None:
    from bnbench.cli.show import console_on
    from bnbench.reports.verification import FORMATS, print_verification

    if format == "table":
        print_verification(console_on(stderr=False), verification)
    else:
        echo(FORMATS[format](verification), newline=False)


def _show_padding(found: Dependences, format: str) -> None:
    from bnbench.cli.show import console_on
    from bnbench.reports.dependence import FORMATS, print_dependences

    if format == "table":
        print_dependences(console_on(stderr=False), found)
    else:
        echo(FORMATS[format](found), newline=False)
