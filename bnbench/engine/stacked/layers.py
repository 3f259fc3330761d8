"""Layers for a stack of S models: each takes (S, N, ...), and knows its own backward.

To teach the stack one more layer: a class here, and its line in a table at the end. A layer that isn't known runs
as itself, one replica after the other inside the stacked step, its backward by autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.engine.stacked.layer import Layer
from bnbench.engine.stacked.norms import OurBatchNorm, TorchBatchNorm
from bnbench.engine.stacked.tensors import Parameters, aligned
from bnbench.models.layers import Block
from bnbench.norms.batch_norm import BatchNorm1d

Objective = Callable[[Tensor, Tensor], Tensor]
StackedObjective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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
    if isinstance(objective, nn.CrossEntropyLoss) and knows_objective(objective):
        smoothing = objective.label_smoothing
        return lambda logits, labels: _cross_entropy(logits, labels, smoothing)

    @torch.enable_grad()
    def one_by_one(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        parts = [part.detach().requires_grad_() for part in logits]
        losses = [objective(part, label) for part, label in zip(parts, labels, strict=True)]
        grads = [torch.autograd.grad(loss, part)[0] for loss, part in zip(losses, parts, strict=True)]
        return torch.stack([loss.detach() for loss in losses]), _gathered(grads)

    return one_by_one


def knows_objective(objective: Objective) -> bool:
    """Whether the stack has its own form of it, rather than calling it replica by replica."""
    return (
        type(objective) is nn.CrossEntropyLoss
        and is_plain(objective)
        and objective.weight is None
        and objective.reduction == "mean"
        and objective.ignore_index < 0
    )


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
