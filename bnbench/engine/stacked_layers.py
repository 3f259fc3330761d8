"""Layers for a stack of S models: each takes (S, N, ...), and knows its own backward.

To teach the stack one more layer: a class here, and its line in a table at the end. A layer that isn't known runs
as itself, one replica after the other inside the stacked step, its backward by autograd.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.engine.stacked_tensors import Parameters, aligned, padded
from bnbench.models.layers import Block
from bnbench.norms.batch_norm import BatchNorm1d
from bnbench.norms.batch_norm_fast import FastBatchNorm

Objective = Callable[[Tensor, Tensor], Tensor]
StackedObjective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Layer:
    """What a stacked layer does.

    forward: (S, N, ...) to (S, N, ...). backward: the gradient of the last forward's output to that of its
    input (of no meaning where it isn't `needed`); writes the gradients of its parameters.
    trains: whether it has parameters.
    """

    trains: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, in training mode."""
        raise NotImplementedError

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """The gradient of the input."""
        raise NotImplementedError


class Flatten(Layer):
    """torch.nn.Flatten of everything behind the samples."""

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, ...) to (S, N, features)."""
        self._shape = x.shape
        return x.flatten(2)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """Back to the shape that came in."""
        return grad.view(self._shape) if needed else grad


class Linear(Layer):
    """torch.nn.Linear as one batched matrix product."""

    trains = True

    def __init__(self, modules: Sequence[nn.Linear], parameters: Parameters) -> None:
        weight, bias = modules[0].weight, modules[0].bias
        self.weight, self.d_weight = parameters.of(weight), parameters.grad(weight)
        self.bias, self.d_bias = (
            (None, None) if bias is None else (parameters.of(bias).unsqueeze(1), parameters.grad(bias))
        )

    def forward(self, x: Tensor) -> Tensor:
        """X Wᵀ + b."""
        self._x = x
        y = aligned((*x.shape[:2], self.weight.shape[1]), x)
        if self.bias is None:
            return torch.bmm(x, self.weight.mT, out=y)
        return torch.baddbmm(self.bias, x, self.weight.mT, out=y)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """dW = dYᵀ X, db = Σ dY, dX = dY W."""
        torch.bmm(grad.mT, self._x, out=self.d_weight)
        if self.d_bias is not None:
            torch.sum(grad, 1, out=self.d_bias)
        return torch.bmm(grad, self.weight, out=aligned(self._x.shape, grad)) if needed else grad


class Elementwise(Layer):
    """An activation: `apply(x, out)`, and `derive(grad, x, y, out)`, whose tails stay with their replica."""

    def __init__(self, apply: Callable[..., Tensor], derive: Callable[..., Tensor]) -> None:
        self._apply, self._derive = apply, derive

    def forward(self, x: Tensor) -> Tensor:
        """Number by number."""
        self._x, self._y = x, self._apply(x, aligned(x.shape, x))
        return self._y

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """The gradient times the derivative."""
        return self._derive(grad, self._x, self._y, aligned(grad.shape, grad)) if needed else grad


def _relu(module: nn.ReLU) -> Layer:
    derive = torch.ops.aten.threshold_backward.grad_input
    return Elementwise(
        lambda x, out: torch.clamp_min(x, 0, out=out),
        lambda grad, x, y, out: derive(grad, y, 0, grad_input=out),
    )


def _sigmoid(module: nn.Sigmoid) -> Layer:
    derive = torch.ops.aten.sigmoid_backward.grad_input
    return Elementwise(
        lambda x, out: torch.sigmoid(x, out=out), lambda grad, x, y, out: derive(grad, y, grad_input=out)
    )


def _tanh(module: nn.Tanh) -> Layer:
    derive = torch.ops.aten.tanh_backward.grad_input
    return Elementwise(
        lambda x, out: torch.tanh(x, out=out), lambda grad, x, y, out: derive(grad, y, grad_input=out)
    )


def _gelu(module: nn.GELU) -> Layer:
    kind, apply = module.approximate, torch.ops.aten.gelu.out
    derive = torch.ops.aten.gelu_backward.grad_input
    return Elementwise(
        lambda x, out: apply(x, approximate=kind, out=out),
        lambda grad, x, y, out: derive(grad, x, approximate=kind, grad_input=out),
    )


class BatchNorm(Layer):
    """What both batch norms share: the channels of all replicas, padded to whole vectors where need be."""

    trains = True

    def __init__(self, modules: Sequence[Any], parameters: Parameters) -> None:
        layer = modules[0]
        self.channels, self.padded = layer.num_features, padded(layer.num_features)
        self.count, self.eps, self.trains = len(modules), layer.eps, layer.weight is not None
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

    def _cut(self, x: Tensor) -> Tensor:
        """(S, N, padded C), strided as it may be, to an aligned (S, N, C)."""
        if self.padded == self.channels and x.is_contiguous():
            return x
        return aligned((*x.shape[:2], self.channels), x).copy_(x[..., : self.channels])


class TorchBatchNorm(BatchNorm):
    """torch.nn.BatchNorm1d on (N, C): torch's own kernel once, over S times C channels."""

    def __init__(self, modules: Sequence[nn.BatchNorm1d], parameters: Parameters) -> None:
        super().__init__(modules, parameters)
        self.momentum = modules[0].momentum
        self._seen = 0 if self.batches is None else int(self.batches)

    def _columns(self, x: Tensor) -> Tensor:
        """(S, N, C) to (N, S * padded C)."""
        return self._pad(x).transpose(0, 1).reshape(x.shape[1], -1)

    def _flat(self, vector: Tensor | None) -> Tensor | None:
        return None if vector is None else self._whole(vector).view(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize with the batch's statistics; the running ones move."""
        self._seen += 1
        if self.batches is not None:
            self.batches.add_(1)
        momentum = 1 / self._seen if self.momentum is None else self.momentum
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
            [True, self.trains, self.trains],
        )  # fmt: skip
        for mine, new in ((self.d_weight, d_weight), (self.d_bias, d_bias)):
            if mine is not None:
                mine.copy_(new.view(self.count, self.padded)[:, : self.channels])
        return self._rows(d_x)


class OurBatchNorm(BatchNorm):
    """bnbench's own BatchNorm1d, the fast reading: its forward and backward, with one more leading axis."""

    def __init__(self, modules: Sequence[BatchNorm1d], parameters: Parameters) -> None:
        super().__init__(modules, parameters)
        # the layer itself, with all replicas' running statistics in the place of its own
        self._layer = copy.copy(modules[0])
        self._layer._buffers = {
            "running_mean": None if self.running_mean is None else self.running_mean.view(-1),
            "running_var": None if self.running_var is None else self.running_var.view(-1),
            "num_batches_tracked": self.batches,
        }

    def forward(self, x: Tensor) -> Tensor:
        """FastBatchNorm.forward, and the layer's own way to move its running statistics."""
        x, count = self._pad(x), x.shape[1]
        weight, bias = (None if v is None else self._whole(v) for v in (self.weight, self.bias))
        y, mean, invstd, var = FastBatchNorm.forward(x, weight, bias, (1,), count, self.eps)
        self._kept = _Kept((x, weight, mean, invstd), count, (True, self.trains, bias is not None))
        if self._layer.track_running_stats:
            self._layer._track(mean, var, count)
        return self._cut(y)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """FastBatchNorm.backward."""
        d_x, d_weight, d_bias, *_ = FastBatchNorm.backward(self._kept, self._pad(grad), None, None, None)
        for mine, new in ((self.d_weight, d_weight), (self.d_bias, d_bias)):
            if mine is not None and new is not None:
                mine.copy_(new[:, : self.channels])
        assert d_x is not None
        return self._cut(d_x)


class _Kept:
    """What FastBatchNorm's backward asks of autograd's context."""

    dims = (1,)

    def __init__(self, saved: tuple[Any, ...], count: int, needs: tuple[bool, ...]) -> None:
        self.saved_tensors, self.count, self.needs_input_grad = saved, count, needs


class OneByOne(Layer):
    """Any other layer: each replica's own module, with autograd inside."""

    def __init__(self, modules: Sequence[nn.Module], parameters: Parameters) -> None:
        self.modules = modules
        self.own = [list(module.parameters()) for module in modules]
        self.grads = [parameters.grad(parameter) for parameter in self.own[0]]
        self.trains = bool(self.grads)

    @torch.enable_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Replica by replica."""
        self._x = [part.detach().requires_grad_() for part in x]
        # of a copy: a layer may work in place, which a leaf forbids and the layer before must not see
        self._y = [module(part.clone()) for module, part in zip(self.modules, self._x, strict=True)]
        return _gathered(self._y)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """By autograd, from the output that the forward kept."""
        d_x = []
        for index, (x, y) in enumerate(zip(self._x, self._y, strict=True)):
            first, *rest = torch.autograd.grad(y, [x, *self.own[index]], grad[index])
            d_x.append(first)
            for mine, new in zip(self.grads, rest, strict=True):
                mine[index].copy_(new)
        return _gathered(d_x)


def _gathered(parts: Sequence[Tensor]) -> Tensor:
    """S tensors as one, aligned."""
    out = aligned((len(parts), *parts[0].shape), parts[0].detach())
    for index, part in enumerate(parts):
        out[index].copy_(part.detach())
    return out


#: Layers that have a stacked form, by their exact class.
_ACTIVATIONS: dict[type[nn.Module], Callable[[Any], Layer]] = {
    nn.ReLU: _relu,
    nn.Sigmoid: _sigmoid,
    nn.Tanh: _tanh,
    nn.GELU: _gelu,
    nn.Flatten: lambda module: Flatten(),
}
_WITH_PARAMETERS: dict[type[nn.Module], Callable[[Any, Parameters], Layer]] = {
    nn.Linear: Linear,
    nn.BatchNorm1d: TorchBatchNorm,
    BatchNorm1d: OurBatchNorm,
}


def chain(model: nn.Module) -> list[nn.Module]:
    """The layers of a Sequential in order, Sequentials inside opened up; what does nothing is left out.

    A Block is a Sequential that checks shapes; the rehearsal of the whole model has had them checked.
    """
    layers: list[nn.Module] = []
    for module in model.children():
        if type(module) in (nn.Sequential, Block) and is_plain(module):
            layers += chain(module)
        elif type(module) is not nn.Identity or not is_plain(module):
            layers.append(module)
    return layers


def stacked_layers(models: Sequence[nn.Module], parameters: Parameters) -> list[Layer]:
    """The same chain for all of them at once."""
    return [_stacked(modules, parameters) for modules in zip(*map(chain, models), strict=True)]


def _stacked(modules: Sequence[nn.Module], parameters: Parameters) -> Layer:
    first, kind = modules[0], type(modules[0])
    if not is_plain(first) or not is_known(first):
        return OneByOne(modules, parameters)
    if kind in _ACTIVATIONS:
        return _ACTIVATIONS[kind](first)
    return _WITH_PARAMETERS[kind](modules, parameters)


def is_known(module: nn.Module) -> bool:
    """Whether the stack has a layer of its own for it, rather than calling it replica by replica."""
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return False
    if isinstance(module, BatchNorm1d) and module.reading != "fast":
        return False
    return type(module) in _ACTIVATIONS or type(module) in _WITH_PARAMETERS


def is_plain(module: nn.Module) -> bool:
    """Whether calling it does what its class says, and nothing else: no hooks, no forward of its own."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return not any(hooks) and not module._backward_pre_hooks and "forward" not in vars(module)


def stacked_objective(objective: Objective) -> StackedObjective:
    """From the objective of one model to: logits (S, N, K), labels (S, N) -> objectives (S,), d logits."""
    if (
        type(objective) is nn.CrossEntropyLoss
        and is_plain(objective)
        and objective.weight is None
        and objective.reduction == "mean"
        and objective.ignore_index < 0
    ):
        smoothing = objective.label_smoothing
        return lambda logits, labels: _cross_entropy(logits, labels, smoothing)

    @torch.enable_grad()
    def one_by_one(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        parts = [part.detach().requires_grad_() for part in logits]
        losses = [objective(part, label) for part, label in zip(parts, labels, strict=True)]
        grads = [torch.autograd.grad(loss, part)[0] for loss, part in zip(losses, parts, strict=True)]
        return torch.stack([loss.detach() for loss in losses]), _gathered(grads)

    return one_by_one


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy against (1 - smoothing) one-hot + smoothing / K, and its gradient (p - target) / N."""
    _, count, classes = logits.shape
    index = labels.unsqueeze(-1)
    log_p = aligned(logits.shape, logits).copy_(logits.log_softmax(-1))
    losses = log_p.gather(-1, index).squeeze(-1).mean(1).neg_()
    if smoothing:
        losses = losses.mul_(1 - smoothing).sub_(log_p.mean((1, 2)), alpha=smoothing)
    grad = torch.exp(log_p, out=log_p)
    if smoothing:
        grad.sub_(smoothing / classes)
    grad.scatter_add_(-1, index, grad.new_full((), smoothing - 1).expand_as(index))
    return losses, grad.div_(count)
