"""Batch norms for a stack of S models: PyTorch's own kernel, and our own forward and backward, over all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.stacked import Parameters, StackedLayer, aligned, padded, stacks
from bnbench.norms.batch_norm import BatchNorm1d
from bnbench.norms.batch_norm_fast import FastBatchNorm, gradients
from bnbench.norms.batch_state import Statistics, move


class _StackedBatchNorm(StackedLayer):
    """Base of both forms: the channels of all replicas, padded to whole vectors if necessary."""

    def __init__(self, modules: Sequence[Any], parameters: Parameters) -> None:
        layer = modules[0]
        self.channels, self.padded = layer.num_features, padded(layer.num_features)
        self.count, self.eps, self.affine = len(modules), layer.eps, layer.weight is not None
        self.momentum = layer.momentum
        self.weight = parameters.of(layer.weight) if layer.weight is not None else None
        self.bias = parameters.of(layer.bias) if layer.bias is not None else None
        self.d_weight = parameters.grad(layer.weight) if layer.weight is not None else None
        self.d_bias = parameters.grad(layer.bias) if layer.bias is not None else None

        def rows(buffer: Tensor | None) -> Tensor | None:
            return None if buffer is None else self._whole(parameters.of(buffer))

        self.running_mean, self.running_var = rows(layer.running_mean), rows(layer.running_var)
        batches = layer.num_batches_tracked
        self.batches = parameters.of(batches) if batches is not None else None
        if self.batches is not None:  # the replicas step together: one counter serves all of them
            for module in modules:
                module._buffers["num_batches_tracked"] = self.batches[0]
            self.batches = self.batches[0]

    def _whole(self, vector: Tensor) -> Tensor:
        """(S, C) to the (S, padded C) that it is a part of: parameters and buffers lie padded."""
        return vector.as_strided((self.count, self.padded), (self.padded, 1))

    def _pad(self, x: Tensor) -> Tensor:
        """(S, N, C) to (S, N, padded C), with zeros."""
        return x if self.padded == self.channels else nn.functional.pad(x, (0, self.padded - self.channels))

    def why_not_graphed(self) -> str:
        """A running average over all batches so far weighs each step by a number of Python."""
        return "" if self.momentum is not None else "with momentum: null weighs every step differently"

    def _cut(self, x: Tensor) -> Tensor:
        """(S, N, padded C), strided as it may be, to an aligned (S, N, C)."""
        if self.padded == self.channels and x.is_contiguous():
            return x
        return aligned((*x.shape[:2], self.channels), x).copy_(x[..., : self.channels])


@stacks(nn.BatchNorm1d)
class StackedTorchBatchNorm(_StackedBatchNorm):
    """torch.nn.BatchNorm1d on (N, C): torch's own kernel once, over S times C channels."""

    def _columns(self, x: Tensor) -> Tensor:
        """(S, N, C) to (N, S * padded C)."""
        return self._pad(x).transpose(0, 1).reshape(x.shape[1], -1)

    def _flat(self, vector: Tensor | None) -> Tensor | None:
        return None if vector is None else self._whole(vector).view(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize with the batch's statistics; the running ones move."""
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.batches is not None:
            self.batches.add_(1)
            if self.momentum is None:  # by the buffer: a state brings that back, and no count beside it
                momentum = 1 / int(self.batches)
        mean, var = (None if t is None else t.view(-1) for t in (self.running_mean, self.running_var))
        self._x, self._count = self._columns(x), x.shape[1]
        y, *self._saved = torch.native_batch_norm(
            self._x, self._flat(self.weight), self._flat(self.bias), mean, var, True, momentum, self.eps
        )
        return self._rows(y)

    def _rows(self, y: Tensor) -> Tensor:
        """(N, S * padded C) to (S, N, C)."""
        return self._cut(y.view(len(y), self.count, self.padded).transpose(0, 1))

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """By torch's own kernel."""
        d_x, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            self._columns(grad), self._x, self._flat(self.weight), None, None, *self._saved, True, self.eps,
            [True, self.affine, self.affine],
        )  # fmt: skip
        for buffer, gradient in ((self.d_weight, d_weight), (self.d_bias, d_bias)):
            if buffer is not None:
                buffer.copy_(gradient.view(self.count, self.padded)[:, : self.channels])
        return self._rows(d_x)


@stacks(BatchNorm1d, where=lambda module: module.reading == "fast")
class StackedBatchNorm(_StackedBatchNorm):
    """bnbench's own BatchNorm1d, the fast reading: its forward and backward, with one more leading axis."""

    def __init__(self, modules: Sequence[BatchNorm1d], parameters: Parameters) -> None:
        super().__init__(modules, parameters)
        mean, var = (None if t is None else t.view(-1) for t in (self.running_mean, self.running_var))
        self._statistics = Statistics(mean, var, self.batches)  # of all replicas
        self._track = modules[0].track_running_stats

    def forward(self, x: Tensor) -> Tensor:
        """FastBatchNorm.forward, and the layer's own function for the running statistics."""
        x, count = self._pad(x), x.shape[1]
        weight, bias = (None if v is None else self._whole(v) for v in (self.weight, self.bias))
        y, mean, invstd, var = FastBatchNorm.forward(x, weight, bias, (1,), count, self.eps)
        self._saved, self._count = (x, weight, mean, invstd), count
        if self._track:
            if self.batches is not None:
                self.batches.add_(1)
            move(self._statistics, self.momentum, mean, var, count)
        return self._cut(y)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """Its gradients."""
        wanted = (True, self.weight is not None, self.bias is not None)
        d_x, d_weight, d_bias = gradients(
            self._saved, (1,), self._count, wanted, (self._pad(grad), None, None)
        )
        for buffer, gradient in ((self.d_weight, d_weight), (self.d_bias, d_bias)):
            if buffer is not None and gradient is not None:
                buffer.copy_(gradient[:, : self.channels])
        assert d_x is not None
        return self._cut(d_x)
