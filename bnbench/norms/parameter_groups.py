"""The groups of a network's parameters: weights, gamma, beta and biases. And which parameters are its last layer's."""

from __future__ import annotations

import re

from torch import nn

from bnbench.base.parameter_groups import Group
from bnbench.norms.owner import normalizers, spared_names, weight_layers

#: A normalizer's parameters that are added, or that a threshold is made of: beta.
_ADDED = re.compile(r"(^|_)(bias|beta|shift|tau)$")
#: What a layer that normalizes its own weights calls the scale that it learns for each output.
_GAIN = "gain"


def groups_by_name(model: nn.Module) -> dict[str, Group]:
    """The group of every parameter, by its dotted name: each parameter is in one.

    gamma, beta: what a normalizer owns; beta is what it adds (bias, beta, shift) and a threshold (tau), gamma all the
    rest. The learnt scale of a layer that standardizes its weights is a gamma. biases: of the other parameters, what
    `decay_norm_and_bias: false` spares: biases and vectors. weights: everything else.
    """
    prefixes = tuple(f"{name}." for name, _ in normalizers(model))
    gains = {f"{name}.{_GAIN}" for name, _ in weight_layers(model)}
    spared = spared_names(model)

    def group(name: str) -> Group:
        if name in gains:
            return "gamma"
        if prefixes and name.startswith(prefixes):
            return "beta" if _ADDED.search(name.rpartition(".")[2]) else "gamma"
        return "biases" if name in spared else "weights"

    return {name: group(name) for name, _ in model.named_parameters()}


def head_of(model: nn.Module) -> str:
    """The dotted name of the last layer: the module called head, or else the last layer of weights; "" for none."""
    layers = [name for name, _ in weight_layers(model)]
    named = dict(model.named_children()).get("head")
    if named is not None and any(True for _ in named.parameters()):
        return "head"
    return layers[-1] if layers else ""


def head_names(model: nn.Module) -> set[str]:
    """The dotted names of the last layer's parameters; of one that it shares, the name in the first layer."""
    head = head_of(model)
    own = {id(parameter) for parameter in model.get_submodule(head).parameters()} if head else set()
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}
