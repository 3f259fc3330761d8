"""A plan put into effect in a copy of the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.network.fold.padding import with_zero_point
from bnbench.network.fold.plan import Plan
from bnbench.network.fold.weights import Weights
from bnbench.network.sites.norm_site import NormSite

#: Layers that work without gamma and beta where both are None.
_WITHOUT_AFFINE = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
#: They hand gamma and beta of their norms to a fused kernel.
_READERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def put_into(model: nn.Module, plan: Plan) -> None:
    """Change the network in place: weights in the dtype of each layer, norms gone, gammas taken out."""
    with torch.no_grad():
        for name, weights in plan.weights.items():
            _set_weights(model.get_submodule(name), weights)
        for fold in plan.folds:
            module = model.get_submodule(fold.site.name)
            if fold.whole:
                _replace(model, fold.site.names, remainder(module, fold.site.behaviour.includes))
            else:
                owner = model.get_submodule(fold.site.owners[0])
                take_gamma_out(module, fold.site, keeps=isinstance(owner, _READERS))


def remainder(module: nn.Module, includes: tuple[str, ...]) -> nn.Module:
    """What stays of a norm that does more: its dropout and activation, in their order; an identity for nothing."""
    parts = [module.get_submodule(name) for name in includes]
    if not parts:
        rest: nn.Module = nn.Identity()
    else:
        rest = parts[0] if len(parts) == 1 else nn.Sequential(*parts)
    rest.train(module.training)
    return rest


def take_gamma_out(module: nn.Module, site: NormSite, *, keeps: bool = False) -> None:
    """The norm without gamma and beta: torch's own layers hold None, others a gamma that multiplies by one.

    keeps: its owner reads gamma itself, so that there must be one.
    """
    gamma, beta = site.behaviour.gamma, site.behaviour.beta
    if type(module) in _WITHOUT_AFFINE and not keeps:
        for name in (gamma, beta):
            if name:
                setattr(module, name, None)
        setattr(
            module,
            "elementwise_affine" if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) else "affine",
            False,
        )
        return
    for name, value in ((gamma, 1.0 - site.behaviour.gamma_offset), (beta, 0.0)):
        if name:
            _refill(module, name, value)


def _refill(module: nn.Module, name: str, value: float) -> None:
    """A tensor of its own, so that one that is tied to it keeps its values."""
    owner, _, key = name.rpartition(".")
    module = module.get_submodule(owner)
    old: Tensor = getattr(module, key)
    new = torch.full_like(old, value)
    setattr(module, key, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def _set_weights(module: nn.Module, weights: Weights) -> None:
    prefix = "in_proj_" if isinstance(module, nn.MultiheadAttention) else ""
    weight: nn.Parameter = getattr(module, f"{prefix}weight")
    if weights.zero_point is not None:
        with_zero_point(module)
        module.get_buffer("zero_point").copy_(weights.zero_point)
    weight.copy_(weights.weight)
    if weights.bias is None:
        return
    bias = getattr(module, f"{prefix}bias")
    if bias is None:
        new = weights.bias.to(weight.dtype)
        setattr(module, f"{prefix}bias", nn.Parameter(new, weight.requires_grad))
        if isinstance(module, nn.MultiheadAttention) and module.out_proj.bias is None:
            # torch's fused attention takes two biases or none
            module.out_proj.bias = nn.Parameter(new.new_zeros(module.embed_dim), weight.requires_grad)
    else:
        bias.copy_(weights.bias)


def _replace(model: nn.Module, names: tuple[str, ...], module: nn.Module) -> None:
    for name in names:
        owner, _, key = name.rpartition(".")
        model.get_submodule(owner)._modules[key] = module
