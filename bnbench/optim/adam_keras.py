"""Adam as Keras defines it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bnbench.optim import optimizers
from bnbench.optim.algorithms import (
    AdamEps,
    Betas,
    DecayNormAndBias,
    Groups,
    LearningRate,
    WeightDecay,
    fused,
    parameter_groups,
)


class KerasAdam(torch.optim.AdamW):
    """Adam whose eps is added to √v before the bias correction: the "epsilon hat" of Kingma & Ba, section 2.

    step = lr * √(1 - β₂ᵗ) / (1 - β₁ᵗ) * m / (√v + eps), which is torch's rule with eps / √(1 - β₂ᵗ) for eps:
    at the first step 32 times as much. Weight decay is decoupled from the gradient, as AdamW's.
    """

    def __init__(
        self, params: Any, *, lr: float, betas: tuple[float, float], eps: float, **options: Any
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, **options)
        self.eps_hat, self.steps = eps, 0

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update."""
        self.steps += 1
        for group in self.param_groups:
            group["eps"] = self.eps_hat / math.sqrt(1 - group["betas"][1] ** self.steps)
        return super().step(closure)


@optimizers.register("adam_keras")
def adam_keras(
    model: nn.Module,
    *,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: AdamEps = 1e-7,
    weight_decay: WeightDecay = 0.0,
    decay_norm_and_bias: DecayNormAndBias = True,
    groups: Groups | None = None,
) -> torch.optim.Optimizer:
    """Adam with Keras's defaults and meaning: eps before the bias correction, weight decay decoupled."""
    parameters = parameter_groups(model, weight_decay, decay_norm_and_bias, lr, groups)
    return KerasAdam(parameters, lr=lr, betas=betas, eps=eps, fused=fused(model))
