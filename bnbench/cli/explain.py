"""`bnbench explain`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bnbench.base.terminal import echo
from bnbench.base.words import ENGLISH
from bnbench.cli.errors import Errors
from bnbench.cli.options import Debug, LanguageOption


def explain(
    norm: Annotated[
        str, typer.Argument(help="A normalizer with such steps, such as batch, layer or rms.")
    ] = "batch",
    format: Annotated[
        Literal["text", "markdown", "latex"],
        typer.Option(
            "--format", help="Text for a terminal, Markdown, or a LaTeX document with one page a part."
        ),
    ] = "text",
    lang: LanguageOption = ENGLISH,
    debug: Debug = False,
) -> None:
    """Show the steps of a normalizer on a small batch, with the numbers: forward, backward, evaluation, a batch of one.

    The numbers are computed by the formulas in float64, and compared with the layer itself.
    """
    with Errors(debug):
        from bnbench.api.explain import explain as explained
        from bnbench.cli.show import console_on

        explanation = explained(norm, lang=lang)
        if format == "text":
            console = console_on(stderr=False)
            echo(explanation.to_text(console.width, console.encoding), newline=False)
        else:
            echo(explanation.to_markdown() if format == "markdown" else explanation.to_latex(), newline=False)
