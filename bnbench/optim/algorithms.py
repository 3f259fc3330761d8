"""SGD, Adam and AdamW: torch's own, with weight decay that can spare norm parameters and biases."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.base.options import no_bool
from bnbench.base.parameter_groups import GROUPS, Group, Rules, decay_and_factor
from bnbench.norms.owner import spared_names
from bnbench.norms.parameter_groups import groups_by_name
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


def _not_empty(value: dict[str, Any]) -> dict[str, Any]:
    if not value:
        raise ValueError(
            "it names nothing. Fix: such as {gamma: {weight_decay: 0, lr_factor: 1}}, or leave it out"
        )
    return value


_Amount = Annotated[Annotated[float, Field(ge=0)], BeforeValidator(no_bool)]
_Rule = Annotated[dict[Literal["weight_decay", "lr_factor"], _Amount], AfterValidator(_not_empty)]
Groups = Annotated[
    dict[Group, _Rule],
    AfterValidator(_not_empty),
    Field(
        description="weight_decay and lr_factor (times lr and the schedule) of weights, gamma, beta or biases alone",
    ),
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
    groups: Groups | None = None,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent, with momentum and Nesterov's variant of it."""
    if nesterov and not momentum:
        raise BnbenchError(
            "optimizer.nesterov: true without a momentum.",
            "Nesterov's step looks ahead along the momentum.",
            "momentum: 0.9, or nesterov: false.",
        )
    parameters = parameter_groups(model, weight_decay, decay_norm_and_bias, lr, groups)
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused(model))


@optimizers.register("adam")
def adam(
    model: nn.Module,
    *,
    lr: LearningRate,
    betas: Betas = (0.9, 0.999),
    eps: AdamEps = 1e-8,
    weight_decay: WeightDecay = 0.0,
    decay_norm_and_bias: DecayNormAndBias = True,
    groups: Groups | None = None,
) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    parameters = parameter_groups(model, weight_decay, decay_norm_and_bias, lr, groups)
    return torch.optim.Adam(parameters, lr=lr, betas=betas, eps=eps, fused=fused(model))


@optimizers.register("adamw")
def adamw(
    model: nn.Module,
    *,
    lr: LearningRate,
    betas: Betas = (0.9, 0.999),
    eps: AdamEps = 1e-8,
    weight_decay: WeightDecay = 0.01,
    decay_norm_and_bias: DecayNormAndBias = True,
    groups: Groups | None = None,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); weight decay is decoupled from the gradient."""
    parameters = parameter_groups(model, weight_decay, decay_norm_and_bias, lr, groups)
    return torch.optim.AdamW(parameters, lr=lr, betas=betas, eps=eps, fused=fused(model))


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    decay_norm_and_bias: bool,
    lr: float = 0.0,
    rules: Rules | None = None,
) -> list[dict[str, Any]]:
    """The parameters that learn, for a torch optimizer: with their weight decay and, where a rule asks, their lr.

    Without rules: those with decay and, where the switch spares them, norm parameters and biases without. rules: the
    decay and the factor on `lr` of the groups that they name; a group is then a group of the optimizer.
    """
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]]
    if rules is None:
        spared = set() if decay_norm_and_bias else spared_names(model)
        groups = [
            {"params": [p for name, p in parameters if name not in spared], "weight_decay": weight_decay},
            {"params": [p for name, p in parameters if name in spared], "weight_decay": 0.0},
        ]
    else:
        group_of = groups_by_name(model)
        groups = []
        for group in GROUPS:
            decay, factor = decay_and_factor(group, weight_decay, decay_norm_and_bias, rules)
            members = [p for name, p in parameters if group_of[name] == group]
            groups.append({"params": members, "weight_decay": decay, "lr": lr * factor})
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
