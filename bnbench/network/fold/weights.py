r"""The algebra: a scale and a shift of each channel become part of the layer of weights before or after them.

Before (the norm reads the layer's output): a (W x + c) + b = (a W) x + (a c + b), with a along the output channels.
After (the layer reads the norm's output): W (a x + b) + c = (W a) x + (W b + c), with a along the input channels. A
convolution pads with zeros, not with a * 0 + b: then its input is padded with z = -b / a, which the norm sends to 0.
Everything is float64. Layout of weights: convolution (out, in / groups, ...); transposed convolution
(in, out / groups, ...); linear (out, in).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bnbench.network.fold.affine import Affine
from bnbench.network.fold.blocked import Blocked, untouchable
from bnbench.network.fold.padding import ZeroPointPadding


@dataclass(frozen=True)
class Weights:
    """Of a layer, in float64. weight: see the layout above. bias: (out,) or None.

    zero_point: (in,), what a convolution pads its input with, None for zeros.
    """

    weight: Tensor
    bias: Tensor | None
    zero_point: Tensor | None = None

    @classmethod
    def of(cls, module: nn.Module) -> Weights:
        """The layer's own. Of attention: those that make queries, keys and values."""
        prefix = "in_proj_" if isinstance(module, nn.MultiheadAttention) else ""
        weight, bias = getattr(module, f"{prefix}weight"), getattr(module, f"{prefix}bias")
        zero = module.zero_point if isinstance(module, ZeroPointPadding) else None
        return cls(
            weight.detach().double(), *(None if v is None else v.detach().double() for v in (bias, zero))
        )


def fold_before(module: nn.Module, weights: Weights, affine: Affine) -> Weights:
    """The norm stands after the layer: rows of the weight and the bias take its scale, the bias its shift."""
    weight, bias, scale = weights.weight, weights.bias, affine.scale
    if isinstance(module, _ConvTransposeNd):
        by_group = scale.reshape(module.groups, 1, -1, *[1] * (weight.dim() - 2))
        grouped = weight.reshape(module.groups, -1, *weight.shape[1:])
        weight = (grouped * by_group).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    return replace(weights, weight=weight, bias=affine.shift if bias is None else scale * bias + affine.shift)


def fold_after(module: nn.Module, weights: Weights, affine: Affine) -> Weights:
    """The norm stands before the layer: columns of the weight take its scale, the bias its shift."""
    if isinstance(module, _ConvTransposeNd):
        return _after_transposed(module, weights, affine)
    if isinstance(module, _ConvNd):
        return _after_convolution(module, weights, affine)
    shift = weights.weight @ affine.shift
    bias = shift if weights.bias is None else weights.bias + shift
    return Weights(weights.weight * affine.scale, bias if bool(affine.shift.any()) else weights.bias)


def pads_zeros(module: nn.Module) -> bool:
    """Whether a convolution puts zeros around its input. The other modes repeat values of the input: they commute."""
    return isinstance(module, _ConvNd) and module.padding_mode == "zeros" and any(margins(module))


def margins(module: _ConvNd) -> list[int]:
    """The padding of a convolution as `F.pad` takes it: last axis first, both sides."""
    return [int(value) for value in module._reversed_padding_repeated_twice]


def _after_convolution(module: _ConvNd, weights: Weights, affine: Affine) -> Weights:
    zero = weights.zero_point
    if pads_zeros(module) or isinstance(module, ZeroPointPadding):
        zero = _zero_point(module, weights, affine)
    spread = affine.scale.reshape(module.groups, 1, -1)
    weight = weights.weight.reshape(module.groups, -1, *weights.weight.shape[1:])
    scaled = weight * spread.reshape(module.groups, 1, -1, *[1] * (weight.dim() - 3))
    taps = weight.flatten(3).sum(-1) if weight.dim() > 3 else weight
    shift = (taps @ affine.shift.reshape(module.groups, -1, 1)).reshape(-1)
    bias = shift if weights.bias is None else weights.bias + shift
    return Weights(scaled.reshape(weights.weight.shape), weights.bias if affine.is_scale else bias, zero)


def _zero_point(module: _ConvNd, weights: Weights, affine: Affine) -> Tensor | None:
    """The z with scale * z + shift = what was padded with; None where that is zero everywhere."""
    wanted = torch.zeros_like(affine.shift) if weights.zero_point is None else weights.zero_point
    rest = wanted - affine.shift
    flat = (affine.scale == 0) & (rest != 0)
    if bool(flat.any()):
        raise untouchable(
            f"the convolution after it pads with zeros, and gamma is 0 in {_channels(flat)}: "
            "no padding gives that"
        )
    zero = torch.where(affine.scale == 0, 0.0, rest / torch.where(affine.scale == 0, 1.0, affine.scale))
    if not bool(torch.isfinite(zero).all()):
        raise untouchable("the value that the convolution after it would pad with is not finite")
    return zero if bool(zero.any()) else None


def _after_transposed(module: _ConvTransposeNd, weights: Weights, affine: Affine) -> Weights:
    """A transposed convolution adds a different number of taps at each place, so that only a scale goes into it."""
    each_once = all(size == 1 for size in (*module.kernel_size, *module.stride)) and not any(
        module.output_padding
    )
    if not affine.is_scale and not each_once:
        raise Blocked(
            "a shift can't go into a transposed convolution: its places add different numbers of taps"
        )
    weight = weights.weight * affine.scale.reshape(-1, *[1] * (weights.weight.dim() - 1))
    if affine.is_scale:
        return replace(weights, weight=weight)
    taps = weights.weight.flatten(2).sum(-1).reshape(module.groups, -1, weights.weight.shape[1])
    shift = (affine.shift.reshape(module.groups, 1, -1) @ taps).reshape(-1)
    return Weights(weight, shift if weights.bias is None else weights.bias + shift)


def _channels(flags: Tensor) -> str:
    number = int(flags.sum())
    return "1 channel" if number == 1 else f"{number} channels"
