"""Stacked forms of normalizers over the positions of sequences: each position a row, for all replicas at once.

They are for `TokenNorm` alone: elsewhere the same layers are called replica by replica, as they always were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.stacked import Parameters, StackedForm, StackedLayer, aligned
from bnbench.norms.dyt import DynamicTanh


class _RowNorm(StackedLayer):
    """y = gamma * z + beta, where z is a function of x alone, or of x and alpha. Rows are (S, M, C)."""

    def __init__(self, modules: Sequence[Any], parameters: Parameters) -> None:
        layer = modules[0]
        weight, bias = layer.weight, getattr(layer, "bias", None)
        self.weight = None if weight is None else parameters.of(weight).unsqueeze(1)
        self.bias = None if bias is None else parameters.of(bias).unsqueeze(1)
        self.d_weight = None if weight is None else parameters.grad(weight)
        self.d_bias = None if bias is None else parameters.grad(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Of every row."""
        self._z = self.normalized(x.flatten(1, -2))
        return self._affine(self._z).view(x.shape)

    def _affine(self, z: Tensor) -> Tensor:
        if self.weight is None:
            return z
        out = aligned(z.shape, z)
        if self.bias is None:
            return torch.mul(z, self.weight, out=out)
        return torch.addcmul(self.bias, z, self.weight, out=out)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """d beta = Σ dY, d gamma = Σ dY z, and dX from dZ = dY gamma."""
        rows = grad.flatten(1, -2)
        if self.d_bias is not None:
            torch.sum(rows, 1, out=self.d_bias)
        if self.weight is None or self.d_weight is None:
            return self.derived(rows).view(grad.shape)
        buffer = aligned(rows.shape, rows)
        torch.sum(torch.mul(rows, self._z, out=buffer), 1, out=self.d_weight)
        return self.derived(torch.mul(rows, self.weight, out=buffer)).view(grad.shape)

    def normalized(self, x: Tensor) -> Tensor:
        """z, and whatever `derived` needs kept."""
        raise NotImplementedError

    def derived(self, grad: Tensor) -> Tensor:
        """The gradient of x from the one of z."""
        raise NotImplementedError


class RowLayerNorm(_RowNorm):
    """torch.nn.LayerNorm over the channels of each row, by torch's own kernel."""

    def __init__(self, modules: Sequence[nn.LayerNorm], parameters: Parameters) -> None:
        super().__init__(modules, parameters)
        self.eps, self._channels = modules[0].eps, tuple(modules[0].normalized_shape)
        # the kernel is faster with the weights that change nothing than without any
        like = next(iter(parameters.flats))
        self._ones, self._zeros = (like.new_full(self._channels, value) for value in (1.0, 0.0))

    def normalized(self, x: Tensor) -> Tensor:
        """(x - mean) / sqrt(var + eps)."""
        z, mean, rstd = torch.native_layer_norm(x, self._channels, self._ones, self._zeros, self.eps)
        self._saved = x, mean, rstd
        return z

    def derived(self, grad: Tensor) -> Tensor:
        """By torch's own kernel."""
        x, mean, rstd = self._saved
        return torch.ops.aten.native_layer_norm_backward(  # type: ignore[no-any-return]
            grad, x, self._channels, mean, rstd, None, None, [True, False, False]
        )[0]


class RowRMSNorm(_RowNorm):
    """torch.nn.RMSNorm over the channels of each row."""

    def __init__(self, modules: Sequence[nn.RMSNorm], parameters: Parameters) -> None:
        super().__init__(modules, parameters)
        eps = modules[0].eps
        self.eps = torch.finfo(next(iter(parameters.flats)).dtype).eps if eps is None else eps

    def normalized(self, x: Tensor) -> Tensor:
        """x r with r = 1 / sqrt(mean(x²) + eps)."""
        buffer = aligned(x.shape, x)
        self._r = torch.square(x, out=buffer).mean(-1, keepdim=True).add_(self.eps).rsqrt_()
        return torch.mul(x, self._r, out=buffer)

    def derived(self, grad: Tensor) -> Tensor:
        """r (dZ - z mean(dZ z))."""
        z, out = self._z, aligned(grad.shape, grad)
        shares = torch.mul(grad, z, out=out).mean(-1, keepdim=True)
        return torch.addcmul(grad, z, shares, value=-1, out=out).mul_(self._r)


class RowDynamicTanh(_RowNorm):
    """Dynamic tanh: z = tanh(alpha x)."""

    def __init__(self, modules: Sequence[DynamicTanh], parameters: Parameters) -> None:
        super().__init__(modules, parameters)
        self.alpha = parameters.of(modules[0].alpha).unsqueeze(1)
        self.d_alpha = parameters.grad(modules[0].alpha)

    def normalized(self, x: Tensor) -> Tensor:
        """Value by value."""
        self._x, out = x, aligned(x.shape, x)
        return torch.tanh(torch.mul(x, self.alpha, out=out), out=out)

    def derived(self, grad: Tensor) -> Tensor:
        """With dU = dZ (1 - z²): d alpha = Σ dU x, dX = dU alpha."""
        out, product = aligned(grad.shape, grad), aligned(grad.shape, grad)
        torch.ops.aten.tanh_backward.grad_input(grad, self._z, grad_input=out)
        self.d_alpha.copy_(torch.mul(out, self._x, out=product).sum((1, 2)).unsqueeze(1))
        return out.mul_(self.alpha)


class RowIdentity(StackedLayer):
    """No normalizer."""

    def forward(self, x: Tensor) -> Tensor:
        """As it came."""
        return x

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """As it came."""
        return grad


#: By the class of a layer for (N, C), the form of its rows.
ROW_FORMS: dict[type[nn.Module], StackedForm] = {
    nn.Identity: RowIdentity,
    nn.LayerNorm: RowLayerNorm,
    nn.RMSNorm: RowRMSNorm,
    DynamicTanh: RowDynamicTanh,
}
