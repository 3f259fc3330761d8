"""The conventions and tolerances that a layer is held to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from bnbench.verification.causes import Measured
from bnbench.verification.formulas import Formula
from bnbench.verification.outcome import Wrong


@dataclass(frozen=True)
class Rules:
    """The conventions that the layer is held to. momentum: as the layer gets it; weight_of: of which value.

    momentum None: the plain average over all batches. measured: what the layer's numbers say.
    """

    eps: float
    momentum: float | None
    weight_of: Literal["new", "old"]
    kept: Literal["unbiased", "biased"]
    measured: Measured = field(default_factory=Measured)

    def new_weight(self, number: int) -> float:
        """The weight of the new value in the running statistics, in the update with that number."""
        if self.momentum is None:
            return 1 / number
        return self.momentum if self.weight_of == "new" else 1 - self.momentum

    @property
    def right(self) -> Formula:
        """The formula that is right under these conventions."""
        update: Literal["average", "cumulative"] = "cumulative" if self.momentum is None else "average"
        weight = 0.0 if self.momentum is None else self.new_weight(1)
        return Formula(self.eps, weight, self.kept, update=update)


def is_ordinary(y: Tensor) -> bool:
    """Whether it holds floating-point numbers, one beside the other: not complex, integer, sparse or without data."""
    return y.is_floating_point() and y.layout is torch.strided and y.device.type != "meta"


def describe_tensor(y: Tensor) -> str:
    """A description of a tensor that is not ordinary: "a complex64 tensor"."""
    extra = "" if y.layout is torch.strided else f", {str(y.layout).removeprefix('torch.')}"
    return f"a {str(y.dtype).removeprefix('torch.')} tensor{extra}" + (" on meta" if y.is_meta else "")


def hold(
    size: float, tolerance: float, causes: Callable[[], tuple[object, ...]] = tuple, quantity: str = ""
) -> None:
    """Raise Wrong where the error is larger than allowed; only then are causes looked for."""
    if size <= tolerance:
        return
    words, head = [str(cause) for cause in causes()], f"{quantity} is " if quantity else ""
    if not math.isfinite(size):
        raise Wrong(f"{head}NaN or infinite", causes=words)
    raise Wrong(f"{head}off by {size:.2g}", size, tolerance, words)
