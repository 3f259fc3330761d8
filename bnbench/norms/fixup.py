"""Fixup: residual networks without a normalizer, by their initial weights (Zhang et al. 2019, arXiv 1901.09321)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.place import PLAIN, Place


class ScalarAffine(nn.Module):
    """y = scale * x + shift with one learnt number each; any shape to the same. scaled: whether there is a scale."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1)) if scaled else None
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        """Scale and shift."""
        y = input if self.scale is None else input * self.scale
        return (y + self.shift).to(input.dtype)

    def extra_repr(self) -> str:
        """Whether there is a scale."""
        return f"scale={self.scale is not None}"


class FixupConv2d(nn.Conv2d):
    """A convolution of x + input_shift, with one learnt number and no bias per channel.

    init_factor: what the engine multiplies the initial weights with.
    """

    def __init__(self, conv: nn.Conv2d, init_factor: float) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            padding_mode=conv.padding_mode,
            bias=False,
        )
        self.init_factor = init_factor
        self.input_shift = nn.Parameter(torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) as torch.nn.Conv2d."""
        return super().forward(input + self.input_shift)

    def extra_repr(self) -> str:
        """The arguments of the convolution, and the factor on its initial weights."""
        arguments = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{arguments}, init_factor={self.init_factor:.4g}"


class FixupLinear(nn.Linear):
    """A linear layer of x + input_shift; see `FixupConv2d`. The classifier keeps its bias."""

    def __init__(self, linear: nn.Linear, init_factor: float) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.init_factor = init_factor
        self.input_shift = nn.Parameter(torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_features) as torch.nn.Linear."""
        return super().forward(input + self.input_shift)

    def extra_repr(self) -> str:
        """The arguments of the layer, and the factor on its initial weights."""
        return f"{super().extra_repr()}, init_factor={self.init_factor:.4g}"


def fixup_weights(layer: nn.Conv2d | nn.Linear, place: Place) -> nn.Conv2d | nn.Linear:
    """The same layer with its scalar bias, and with its initial weights scaled as its place asks for."""
    match place.role:
        case "branch":
            factor = place.branches ** (-1 / (2 * place.branch_layers - 2))
        case "branch_end" | "head":
            factor = 0.0
        case _:
            factor = 1.0
    return FixupConv2d(layer, factor) if isinstance(layer, nn.Conv2d) else FixupLinear(layer, factor)


@norms.register(
    "fixup",
    absorbs_bias=False,
    residual_only=True,
    takes_place=True,
    weights=fixup_weights,
)
def fixup(num_features: int, dim: int, place: Place = PLAIN) -> nn.Module:
    """Fixup: no normalizer, but scaled initial weights, scalar biases and a scalar factor a branch.

    Zhang, Dauphin & Ma 2019 (arXiv 1901.09321), section 3: (1) the classifier and the last layer of each
    residual branch start at 0; (2) the other weights of a branch of m layers are scaled by L^(-1/(2m-2)),
    L being the number of branches; (3) a scalar bias, from 0, before each convolution, linear layer and
    activation (the convolutions have no other bias), and a scalar factor, from 1, at the end of a branch.
    Residual networks only: the rules are about residual branches. (The authors' code trains the scalars
    with a tenth of the learning rate; here they have the study's.)
    """
    return ScalarAffine(scaled=place.role == "branch_end")
