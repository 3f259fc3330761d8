"""SGD, Adam and AdamW: torch's own, with weight decay that can spare norm parameters and biases."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.norms.owner import spared_names
from bnbench.optim import optimizers

LearningRate = Annotated[float, Field(gt=0, description="learning rate, before the schedule's factor")]
WeightDecay = Annotated[float, Field(ge=0, description="how strongly weights are drawn towards 0")]
Share = Annotated[float, Field(ge=0, lt=1)]
Momentum = Annotated[Share, Field(description="share of the last step that is kept in the next")]
Nesterov = Annotated[bool, Field(description="look ahead along the momentum")]
Betas = Annotated[
    tuple[Share, Share], Field(description="decay rates of the averages of the gradient and of its square")
]
AdamEps = Annotated[float, Field(gt=0, description="added to the denominator")]
DecayNormAndBias = Annotated[
    bool, Field(description="false: weight decay spares the norms' parameters and all biases")
]


@optimizers.register("sgd")
def sgd(
    model: nn.Module,
    *,
    lr: LearningRate,
    momentum: Momentum = 0.0,
    nesterov: Nesterov = False,
    weight_decay: WeightDecay = 0.0,
    decay_norm_and_bias: DecayNormAndBias = True,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent, with momentum and Nesterov's variant of it."""
    if nesterov and not momentum:
        raise BnbenchError(
            "optimizer.nesterov: true without a momentum.",
            "Nesterov's step looks ahead along the momentum.",
            "momentum: 0.9, or nesterov: false.",
        )
    groups = parameter_groups(model, weight_decay, decay_norm_and_bias)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused(model))


@optimizers.register("adam")
def adam(
    model: nn.Module,
    *,
    lr: LearningRate,
    betas: Betas = (0.9, 0.999),
    eps: AdamEps = 1e-8,
    weight_decay: WeightDecay = 0.0,
    decay_norm_and_bias: DecayNormAndBias = True,
) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    groups = parameter_groups(model, weight_decay, decay_norm_and_bias)
    return torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps, fused=fused(model))


@optimizers.register("adamw")
def adamw(
    model: nn.Module,
    *,
    lr: LearningRate,
    betas: Betas = (0.9, 0.999),
    eps: AdamEps = 1e-8,
    weight_decay: WeightDecay = 0.01,
    decay_norm_and_bias: DecayNormAndBias = True,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); weight decay is decoupled from the gradient."""
    groups = parameter_groups(model, weight_decay, decay_norm_and_bias)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused(model))


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Parameters with decay and, where the switch spares them, norm parameters and biases without."""
    spared = set() if decay_norm_and_bias else spared_names(model)
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in parameters if name not in spared], "weight_decay": weight_decay},
        {"params": [p for name, p in parameters if name in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def fused(model: nn.Module) -> bool | None:
    """One kernel for all parameters where the device has it."""
    types = {parameter.device.type for parameter in model.parameters()}
    return True if types <= {"cpu", "cuda"} else None


def _spare_the_compiler() -> None:
    """Let optimizers be made without importing torch._dynamo, which takes longer than a short study.

    torch imports it at the first `add_param_group`, to hide that method from torch.compile; nothing here
    compiles it. Stacks, which call the kernels alone, so never import it; torch's own `step` still does.
    """
    method = getattr(torch.optim.Optimizer.add_param_group, "__wrapped__", None)
    if method is not None and not hasattr(method, "__dynamo_disable"):
        setattr(method, "__dynamo_disable", method)


_spare_the_compiler()
