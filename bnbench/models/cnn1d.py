"""A small convolutional network for sequences, and for samples of features in an order."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.models import models
from bnbench.models.dropout import DropoutOption, add_last, bias_beside, with_dropout
from bnbench.models.layers import Activation, Bias, Block, NormLayer, NormPosition, assembled, bias_needed

#: Kernel of the first convolution, and of the others.
_FIRST, _OTHERS = 5, 3


class AsSequence(nn.Module):
    """(N, C, H, W) -> (N, C, L, 1): the values of each channel row by row, L = H * W.

    Features in an order, (N, F, 1, 1), are one channel: (N, 1, F, 1).
    """

    def forward(self, x: Tensor) -> Tensor:
        """The sequence."""
        return x.reshape(len(x), *as_sequence(x.shape[1:]))


def as_sequence(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The channels, the length and 1 of samples (C, H, W)."""
    channels, height, width = shape
    return (1, channels, 1) if height * width == 1 else (channels, height * width, 1)


@models.register("cnn1d", init="torch", tasks=("image_classification",))
def cnn1d(
    input_shape: tuple[int, int, int],
    num_classes: int,
    norm: NormLayer,
    *,
    channels: Annotated[
        list[Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=1, max_length=1000)
    ] = [25, 25, 25],  # noqa: B006
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
    dropout: DropoutOption = None,
) -> nn.Module:
    """Convolutions along a sequence, each with stride 2, then Linear over all that is left.

    With the defaults the convolutional network for MNIST-1D (Greydanus & Kobak 2020, arXiv 2011.14439). Takes
    features in an order, (N, F, 1, 1), sequences of channels, (N, C, 1, L) or (N, C, L, 1), and images, row by row.

    channels: output channels of each convolution
    """
    n_in, length, _ = as_sequence(input_shape)
    if length < _FIRST - 2:
        raise BnbenchError(
            f"model: cnn1d takes sequences of at least {_FIRST - 2} values, and these have {length}.",
            f"The first convolution looks at {_FIRST} values, of which its padding is 2.",
            "model: mlp.",
        )
    always = bias_beside(dropout, bias) == "always"
    blocks = []
    for index, (before, after) in enumerate(pairwise([n_in, *channels])):
        kernel = _OTHERS if index else _FIRST
        conv = nn.Conv2d(
            before,
            after,
            (kernel, 1),
            stride=(2, 1),
            padding=(1, 0),
            bias=always or bias_needed(norm, activation, norm_position),
        )
        blocks.append(with_dropout(_block(conv, norm.first(index), activation, norm_position), dropout))
        length = (length + 2 - kernel) // 2 + 1
    model = nn.Sequential()
    model.add_module("sequence", AsSequence())
    model.add_module("blocks", nn.Sequential(*blocks))
    model.add_module("flatten", nn.Flatten())
    add_last(model, dropout)
    model.add_module("head", nn.Linear(channels[-1] * length, num_classes))
    return model


def _block(conv: nn.Conv2d, norm: NormLayer, activation: Activation, norm_position: NormPosition) -> Block:
    layer = norm(conv.out_channels, 2)
    return assembled("conv", norm.weights(conv, activation), norm, layer, activation, norm_position)
