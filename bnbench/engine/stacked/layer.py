"""What a layer for a stack of replicas does."""

from __future__ import annotations

from torch import Tensor


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
