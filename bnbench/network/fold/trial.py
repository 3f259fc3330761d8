"""Whether a layer with a forward of its own is a weight times its input plus a bias, by a trial in float64."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from bnbench.base.user_code import raise_interrupt
from bnbench.network.fold.affine import Affine, along
from bnbench.network.fold.weights import Weights, fold_before

#: Relative to the largest entry: sums of products in float64.
_TOLERANCE = 1e-12


def takes_scale_and_shift(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether scaled weights and a shifted bias give the scaled and shifted output: a f(W, c) + b = f(a W, a c + b).

    shape: of an input. A layer that standardizes its weight or scales its output fails; one that pads by itself passes.
    """
    if not isinstance(module, (nn.Linear, _ConvNd)) or not shape:
        return False
    draw = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            layer = deepcopy(module).double().cpu().eval()
            x = torch.randn(shape, generator=draw, dtype=torch.float64)
            y = layer(x)
            axis = -1 - (len(module.kernel_size) if isinstance(module, _ConvNd) else 0)
            scale, shift = (torch.randn(y.shape[axis], generator=draw, dtype=torch.float64) for _ in range(2))
            weights = fold_before(layer, Weights.of(layer), Affine(scale, shift))
            assert weights.bias is not None
            layer.weight = nn.Parameter(weights.weight)
            layer.bias = nn.Parameter(weights.bias)
            changed = layer(x)
    except BaseException as error:  # whatever a layer of the user's raises
        raise_interrupt(error)
        return False
    wanted = along(scale, y.shape, axis) * y + along(shift, y.shape, axis)
    return bool((changed - wanted).abs().max() <= _TOLERANCE * wanted.abs().max())
