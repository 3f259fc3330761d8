"""The groups of a network's parameters by name, and what an optimizer does to each. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

Group = Literal["weights", "gamma", "beta", "biases"]
GROUPS: tuple[Group, ...] = get_args(Group)

#: What a study says of a group: `{gamma: {weight_decay: 0, lr_factor: 0.1}}`.
Rules = Mapping[Any, Mapping[Any, float]]


def decay_and_factor(
    group: Group, weight_decay: float, decay_norm_and_bias: bool, rules: Rules | None
) -> tuple[float, float]:
    """The weight decay of a group, and the factor on its learning rate.

    A rule's own decay comes first; without one, the optimizer's, which `decay_norm_and_bias: false` keeps from
    everything but the weights.
    """
    rule = (rules or {}).get(group, {})
    usual = weight_decay if decay_norm_and_bias or group == "weights" else 0.0
    return rule.get("weight_decay", usual), rule.get("lr_factor", 1.0)
