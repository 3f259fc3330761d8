"""The conventions requested by the user: the options of `bnbench verify`, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: The shapes of input that a layer is judged on, in the order of the columns.
INPUTS = ("(N, C)", "(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)")

#: For each dim: the inputs that are tried, and the one that the layer must take.
_TRIED = {"1": INPUTS[:2], "2": INPUTS[2:3], "3": INPUTS[3:], "all": INPUTS}
_MUST = {"1": INPUTS[0], "2": INPUTS[2], "3": INPUTS[3], "all": ""}


@dataclass(frozen=True)
class Wishes:
    """The conventions that the layer is held to. None: not specified.

    momentum "none": the running statistics are the plain average over all batches.
    """

    dim: Literal["1", "2", "3", "all"] = "all"
    eps: float | None = None
    momentum: float | Literal["none"] | None = None
    weight_of: Literal["new", "old"] = "new"
    kept: Literal["unbiased", "biased"] = "unbiased"

    @property
    def inputs(self) -> Sequence[str]:
        """The inputs that are tried."""
        return _TRIED[self.dim]

    @property
    def must(self) -> str:
        """The input that the layer has to take; "" for whichever it takes."""
        return _MUST[self.dim]


def dim_of(input: str) -> int:
    """The argument `dim` of a factory (num_features, dim): 1, 2 or 3."""
    return max(1, INPUTS.index(input))
