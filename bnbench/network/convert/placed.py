"""A normalizer in somebody's network: in the layout of its input, and followed by what the old layer did besides."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

#: as_is: the layer takes the input. rows: (..., C) as (positions, C). maps: (N, C, ...) as (N, C, positions, 1).
#: sequences: (N, T, C) as (N, C, T). flat: (N, C, 1, ...) as (N, C).
Layout = Literal["as_is", "rows", "maps", "sequences", "flat"]


class PlacedNorm(nn.Module):
    """A normalizer whose parameters, buffers and children are this module's own: no name in a state dict grows longer.

    then: modules that come after it, in order, by their names (an activation, a dropout). copies: a layer that returns
    its input itself returns a copy, since what works in place after it would change the input for others.
    """

    def __init__(
        self,
        norm: nn.Module,
        layout: Layout = "as_is",
        then: dict[str, nn.Module] | None = None,
        copies: bool = False,
    ) -> None:
        super().__init__()
        self.layout, self.copies, self.then = layout, copies, tuple(then or {})
        # one dictionary for both: what `to`, `load_state_dict` or a user's code puts in, the layer has
        vars(self)["_parameters"], vars(self)["_buffers"] = norm._parameters, norm._buffers
        vars(self)["_non_persistent_buffers_set"] = norm._non_persistent_buffers_set
        self._modules.update(norm._modules)
        for name, module in (then or {}).items():
            self.add_module(name, module)
        vars(self)["norm"] = norm
        self.train(norm.training)

    def __getattr__(self, name: str) -> Any:
        """What else the layer has: its eps, its momentum, ..."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "norm" not in vars(self):
                raise
            return getattr(vars(self)["norm"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        """A setting of the layer is changed in the layer."""
        norm = vars(self).get("norm")
        if norm is not None and name != "training" and name in vars(norm) and name not in vars(self):
            setattr(norm, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, input: Tensor) -> Tensor:
        """The input's shape comes out."""
        norm: nn.Module = vars(self)["norm"]
        x = input.clone() if self.copies else input
        y: Tensor = arranged(x, self.layout)
        y = norm.forward(y)  # not called: torch.fx knows modules by their names, and this one has none
        y = restored(y, input, self.layout)
        for name in self.then:
            y = getattr(self, name)(y)
        return y

    def train(self, mode: bool = True) -> PlacedNorm:
        """The layer inside, too."""
        super().train(mode)
        vars(self)["norm"].training = mode
        return self

    def extra_repr(self) -> str:
        """The layer, and its layout where the input has another."""
        norm: nn.Module = vars(self)["norm"]
        arguments = norm.extra_repr()
        layout = "" if self.layout == "as_is" else f", layout={self.layout}"
        return f"{type(norm).__name__}({arguments}){layout}"

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """As the layer itself loads."""
        vars(self)["norm"]._load_from_state_dict(*arguments)


def arranged(x: Tensor, layout: Layout) -> Tensor:
    """The input in the layer's layout."""
    if layout == "rows":
        return x.reshape(-1, x.shape[-1])
    if layout == "maps":
        return x.flatten(2).unsqueeze(-1)
    if layout == "sequences":
        return x.transpose(1, 2)
    return x.flatten(1) if layout == "flat" else x


def arranged_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Of an input in the layer's layout."""
    return tuple(arranged(torch.empty(shape, device="meta"), layout).shape)


def restored(y: Tensor, input: Tensor, layout: Layout) -> Tensor:
    """The output in the layout of the input."""
    if layout == "as_is":
        return y
    return y.transpose(1, 2) if layout == "sequences" else y.reshape(input.shape)


def norm_of(module: nn.Module) -> nn.Module:
    """The normalizer itself."""
    return vars(module)["norm"] if isinstance(module, PlacedNorm) else module
