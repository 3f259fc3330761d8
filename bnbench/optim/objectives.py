"""Training objectives: (N, classes) logits and (N,) labels in, a scalar out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from bnbench.optim import losses

Loss = Callable[[Tensor, Tensor], Tensor]
Smoothing = Annotated[
    float, Field(ge=0, lt=1, description="share of the target that is spread over all classes")
]


@losses.register("cross_entropy")
def cross_entropy(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """Cross-entropy of the softmax of the logits."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)


class OneHotSquares(nn.Module):
    """L = 1/(N K) Σ_n Σ_k (z_nk - [y_n = k])², as torch.nn.MSELoss between the outputs and one-hot targets."""

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Outputs z (N, K), labels y (N,)."""
        targets = nn.functional.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
        return nn.functional.mse_loss(outputs, targets)


@losses.register("mse")
def mse() -> Loss:
    """Mean squared error of the outputs against one-hot targets: the mean over samples and classes."""
    return OneHotSquares()


@losses.register("double_softmax")
def double_softmax(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """The common mistake: a softmax, then a cross-entropy that takes the softmax again."""
    criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        out: Tensor = criterion(logits.softmax(-1), labels)
        return out

    return loss
