"""Whether a layer is as its class makes it."""

from __future__ import annotations

from torch import nn


def is_plain(module: nn.Module) -> bool:
    """Whether a call runs the forward of its class and nothing else: no hooks, no forward of its own."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return not any(hooks) and not module._backward_pre_hooks and "forward" not in vars(module)
