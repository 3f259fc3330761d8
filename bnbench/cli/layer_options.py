"""The options of `verify`: a layer, and the conventions that it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from bnbench.verification.wishes import Wishes

Layer = Annotated[
    str | None,
    typer.Argument(
        metavar="LAYER",
        help="FILE.py:Name (a class, or a function of num_features and dim), a module's "
        "(torch.nn:BatchNorm1d), or a registered normalizer. With --padding it may be left out: all of these.",
        show_default=False,
    ),
]
Padding = Annotated[
    bool,
    typer.Option(
        "--padding",
        help="Another question: over tokens (N, T, C), does padding change what becomes of valid positions? Reported; "
        "exit code 4 where a layer takes a mask and padding still does, with --strict wherever it does.",
    ),
]
Dim = Annotated[
    Literal["1", "2", "3", "all"],
    typer.Option(
        "--dim",
        help="Input that must work: 1 = (N, C), 2 = (N, C, H, W), 3 = (N, C, D, H, W). Default: test every "
        "shape that the layer accepts.",
    ),
]
Eps = Annotated[
    float | None,
    typer.Option(
        "--eps",
        min=0,
        help="eps passed to the layer; if it takes none, the eps it is assumed to use.",
    ),
]


def _momentum(word: str | float) -> str:
    """0 to 1, or none."""
    text = str(word).strip().lower()
    if text == "none":
        return text
    try:
        fits = 0 <= float(text) <= 1
    except ValueError:
        fits = False
    if not fits:
        raise typer.BadParameter(f"{word!r} is not a number from 0 to 1, nor none.")
    return text


VerifyMomentum = Annotated[
    str | None,
    typer.Option(
        "--momentum",
        parser=_momentum,
        metavar="FLOAT|none",
        help="Momentum passed to the layer; if it takes none, the value it is assumed to use. none: the "
        "plain average over all batches (torch's momentum=None).",
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit with 4 also if a check for use as a library layer fails."),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=1, max=86400, help="Time limit in seconds."),
]
MomentumConvention = Annotated[
    Literal["new", "old"],
    typer.Option(
        "--momentum-convention",
        help="momentum is the weight of the new value (torch) or of the old one (Keras, Flax).",
    ),
]
RunningVar = Annotated[
    Literal["unbiased", "biased"],
    typer.Option(
        "--running-var", help="What is stored: the unbiased variance (torch) or the biased one (Keras, Flax)."
    ),
]
VerifyFormat = Annotated[
    Literal["table", "json", "markdown"],
    typer.Option("--format", help="What to print on stdout; the rest goes to stderr."),
]


@dataclass(frozen=True)
class Conventions:
    """The conventions that the layer is held to. padding: whether it is asked for padding instead."""

    dim: Dim = "all"
    eps: Eps = None
    momentum: VerifyMomentum = None
    momentum_convention: MomentumConvention = "new"
    running_var: RunningVar = "unbiased"
    padding: Padding = False

    def wishes(self) -> Wishes:
        """The same, as `verify` takes it."""
        from bnbench.verification.wishes import Wishes

        momentum: float | Literal["none"] | None = (
            "none" if self.momentum == "none" else None if self.momentum is None else float(self.momentum)
        )
        return Wishes(self.dim, self.eps, momentum, self.momentum_convention, self.running_var)
