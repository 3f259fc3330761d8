"""Layers of torch whose fused kernel computes layer norms, whatever stands in their place."""

from __future__ import annotations

from torch import nn

from bnbench.network.convert.placed import norm_of


def without_fused_kernel(model: nn.Module) -> None:
    """Transformer layers whose norms are no layer norms any more compute them as modules at inference, too.

    At inference without gradients, `nn.TransformerEncoderLayer` passes gamma, beta and eps of its norms to a kernel
    that computes layer norms, and never calls the modules. It does so only while it has `activation_relu_or_gelu`.
    """
    changed = set[int]()
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and not all(
            type(norm_of(norm)) is nn.LayerNorm for norm in (module.norm1, module.norm2)
        ):
            module.activation_relu_or_gelu = 0
            changed.add(id(module))
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and changed.intersection(map(id, module.layers)):
            module.use_nested_tensor = False
