"""The effective learning rate of weights whose size has no effect (van Laarhoven 2017, arXiv 1706.05350, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row, norm_of


@probes.register("effective_lr")
def effective_lr(inside: Inside) -> Iterator[Row]:
    """lr/‖w‖² of each weight w right before a norm that takes out its size, lr the rate of the next update.

    Where the norm leaves the layer's bias in, as layer norm does, the two have no size together: w is both.
    """
    for layer in inside.layers:
        if layer.scale_invariant:
            size = norm_of(layer.weight)
            bias = layer.weights.bias if layer.scales_with_bias else None
            if isinstance(bias, Tensor):
                size = math.hypot(size, norm_of(bias.detach()))
            rate = inside.rate(layer.weight_name)
            yield Row(layer.name, "effective_lr", rate / size**2 if size else math.nan)
