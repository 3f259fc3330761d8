"""A replica's share of what the optimizer of a stack keeps, by torch's names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnbench.engine.stacked.stack import Stack

#: Of a group, by name: the moments of each parameter, or a counter that all share.
Share = list[dict[str, Any]]


def share_of(stack: Stack, index: int) -> Share:
    """Copies: of each group of the optimizer what it keeps of replica `index`."""
    return [
        {name: _part(stack, group, value, index) for name, value in stack.optimizer_state(group).items()}
        for group in range(len(stack.optimizer.param_groups))
    ]


def _part(stack: Stack, group: int, value: Any, index: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.dim() == 0:
        return value.clone()
    return [part[index].clone() for part in stack.parameters.parts(group, value)]


@torch.no_grad()
def put_share(stack: Stack, index: int, share: Share) -> None:
    """Put it in place. What a torch optimizer has not made yet is made."""
    for group, named in enumerate(share):
        flat = stack.parameters.flats[group]
        there = stack.optimizer_state(group)
        for name, value in named.items():
            if isinstance(value, list):
                if not isinstance(there.get(name), Tensor):
                    there[name] = torch.zeros_like(flat.detach())
                parts = stack.parameters.parts(group, there[name])
                for part, one in zip(parts, value, strict=True):
                    part[index].copy_(one)
            elif isinstance(value, Tensor) and isinstance(there.get(name), Tensor):
                there[name].copy_(value)
            else:
                there[name] = value
        if stack.fused is None and there:
            stack.optimizer.state[flat] = there
