"""The stacked forms of torch's own layers, and of any other layer: its modules one by one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnbench.base.stacked import Parameters, StackedLayer, aligned, stacks


@stacks(nn.Flatten, where=lambda module: (module.start_dim, module.end_dim) == (1, -1))
class Flatten(StackedLayer):
    """torch.nn.Flatten of everything behind the samples."""

    def forward(self, x: Tensor) -> Tensor:
        """(S, N, ...) to (S, N, features)."""
        self._shape = x.shape
        return x.flatten(2)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """Back to the shape that came in."""
        return grad.view(self._shape) if needed else grad


@stacks(nn.Linear)
class Linear(StackedLayer):
    """torch.nn.Linear as one batched matrix product.

    Rows are (S, N, features). The positions of sequences (S, N, T, features) are rows, too, multiplied replica by
    replica: there are enough of them that a batched product brings nothing, and a stack of one has the same kernels.
    """

    def __init__(self, modules: Sequence[nn.Linear], parameters: Parameters) -> None:
        weight, bias = modules[0].weight, modules[0].bias
        self.weight, self.d_weight = parameters.of(weight), parameters.grad(weight)
        self.bias, self.d_bias = (
            (None, None) if bias is None else (parameters.of(bias).unsqueeze(1), parameters.grad(bias))
        )
        biases = [None] * len(modules) if self.bias is None else [*self.bias]
        self._each = [*zip(self.weight, self.d_weight, biases, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """X Wᵀ + b."""
        self._shape, self._x = x.shape, x.flatten(1, -2)
        y = aligned((*self._x.shape[:2], self.weight.shape[1]), x)
        if _is_apart(x):
            for (weight, _, bias), part, out in zip(self._each, self._x, y, strict=True):
                if bias is None:
                    torch.mm(part, weight.T, out=out)
                else:
                    torch.addmm(bias, part, weight.T, out=out)
        elif self.bias is None:
            torch.bmm(self._x, self.weight.mT, out=y)
        else:
            torch.baddbmm(self.bias, self._x, self.weight.mT, out=y)
        return y.view(*x.shape[:-1], -1)

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """dW = dYᵀ X, db = Σ dY, dX = dY W."""
        apart, grad = _is_apart(grad), grad.flatten(1, -2)
        if self.d_bias is not None:
            torch.sum(grad, 1, out=self.d_bias)
        d_x = aligned(self._x.shape, grad) if needed else grad
        if not apart:
            torch.bmm(grad.mT, self._x, out=self.d_weight)
            return torch.bmm(grad, self.weight, out=d_x).view(self._shape) if needed else grad
        for (weight, d_weight, _), part, x, out in zip(self._each, grad, self._x, d_x, strict=True):
            torch.mm(part.T, x, out=d_weight)
            if needed:
                torch.mm(part, weight, out=out)
        return d_x.view(self._shape) if needed else grad


def _is_apart(x: Tensor) -> bool:
    """Whether the products are made replica by replica; kernels of a GPU take long to start, whatever they do."""
    return x.dim() > 3 and x.device.type == "cpu"


class Elementwise(StackedLayer):
    """An activation, number by number, so that the last few numbers of a row stay with their replica."""

    def forward(self, x: Tensor) -> Tensor:
        """Number by number."""
        self._x, self._y = x, self.apply(x, aligned(x.shape, x))
        return self._y

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """The gradient times the derivative."""
        return self.derive(grad, self._x, self._y, aligned(grad.shape, grad)) if needed else grad

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """The activation of x, written to `out`."""
        raise NotImplementedError

    def derive(self, grad: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        """The gradient of x, written to `out`; y: the activation."""
        raise NotImplementedError


@stacks(nn.ReLU)
class ReLU(Elementwise):
    """torch.nn.ReLU."""

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """max(x, 0)."""
        return torch.clamp_min(x, 0, out=out)

    def derive(self, grad: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        """The gradient where x is positive."""
        result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=out)
        return result


@stacks(nn.Sigmoid)
class Sigmoid(Elementwise):
    """torch.nn.Sigmoid."""

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """1 / (1 + exp(-x))."""
        return torch.sigmoid(x, out=out)

    def derive(self, grad: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        """Times y (1 - y)."""
        result: Tensor = torch.ops.aten.sigmoid_backward.grad_input(grad, y, grad_input=out)
        return result


@stacks(nn.Tanh)
class Tanh(Elementwise):
    """torch.nn.Tanh."""

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """The hyperbolic tangent."""
        return torch.tanh(x, out=out)

    def derive(self, grad: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        """Times 1 - y²."""
        result: Tensor = torch.ops.aten.tanh_backward.grad_input(grad, y, grad_input=out)
        return result


@stacks(nn.GELU)
class GELU(Elementwise):
    """torch.nn.GELU, exact or by tanh."""

    def __init__(self, modules: Sequence[nn.GELU], parameters: Parameters) -> None:
        self._kind = modules[0].approximate

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """X times the normal distribution's share below x."""
        result: Tensor = torch.ops.aten.gelu.out(x, approximate=self._kind, out=out)
        return result

    def derive(self, grad: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        """By torch's own kernel."""
        result: Tensor = torch.ops.aten.gelu_backward.grad_input(
            grad, x, approximate=self._kind, grad_input=out
        )
        return result


class OneByOne(StackedLayer):
    """Any other layer: each replica's own module, with autograd inside."""

    def __init__(self, modules: Sequence[nn.Module], parameters: Parameters) -> None:
        self.modules = modules
        self.own = [[p for p in module.parameters() if p.requires_grad] for module in modules]
        self.grads = [parameters.grad(parameter) for parameter in self.own[0]]

    @torch.enable_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Replica by replica."""
        self._x = [part.detach().requires_grad_() for part in x]
        # of a copy: a layer may work in place, which a leaf forbids and the layer before must not see
        self._y = [module(part.clone()) for module, part in zip(self.modules, self._x, strict=True)]
        return gathered(self._y)

    def why_not_graphed(self) -> str:
        """Its modules may do anything."""
        return "has no stacked form"

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        """By autograd, from the output that the forward kept."""
        d_x = []
        for index, (x, y) in enumerate(zip(self._x, self._y, strict=True)):
            first, *rest = torch.autograd.grad(y, [x, *self.own[index]], grad[index])
            d_x.append(first)
            for stacked, grads in zip(self.grads, rest, strict=True):
                stacked[index].copy_(grads)
        return gathered(d_x)


def gathered(parts: Sequence[Tensor]) -> Tensor:
    """S tensors as one, aligned."""
    out = aligned((len(parts), *parts[0].shape), parts[0].detach())
    for index, part in enumerate(parts):
        out[index].copy_(part.detach())
    return out
