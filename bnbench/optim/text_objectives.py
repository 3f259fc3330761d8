"""Training objectives of text: logits at every position (N, T, tokens) and the next tokens (N, T) in, a scalar out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bnbench.optim import losses
from bnbench.optim.objectives import Smoothing


class NextToken(nn.Module):
    """The mean cross-entropy over all positions of all windows, in nats."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (N, T, tokens), targets (N, T)."""
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), label_smoothing=self.label_smoothing
        )


@losses.register("next_token", tasks=("language_model",))
def next_token(*, label_smoothing: Smoothing = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy of the next token: the mean over all positions, in nats."""
    return NextToken(label_smoothing)
