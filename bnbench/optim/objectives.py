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


@losses.register("double_softmax")
def double_softmax(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """The common mistake: a softmax, then a cross-entropy that takes the softmax again."""
    criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        out: Tensor = criterion(logits.softmax(-1), labels)
        return out

    return loss
