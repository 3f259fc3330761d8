"""The effective learning rate of weights whose size has no effect (van Laarhoven 2017, arXiv 1706.05350, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row, Rows, norms_of
from bnbench.probes.together import OfAll, Together


@probes.register("effective_lr")
def effective_lr(inside: Inside) -> Iterator[Row | Rows]:
    """lr/‖w‖² of each weight w right before a norm that takes out its size, lr the rate of the next update.

    Where the norm leaves the layer's bias in, as layer norm does, the two have no size together: w is both.
    """
    return inside.rows(_of_all)


def _of_all(replicas: Together) -> OfAll:
    found: OfAll = [[] for _ in range(replicas.count)]
    for layer in replicas.layers:
        if layer.scale_invariant and layer.parameter.requires_grad:
            sizes = norms_of(replicas.weight(layer))
            bias = getattr(layer.weights, "bias", None) if layer.scales_with_bias else None
            if bias is not None:
                sizes = [*map(math.hypot, sizes, norms_of(replicas.all(bias).detach()))]
            rate = replicas.rate(layer.weight_name)
            for rows, size in zip(found, sizes, strict=True):
                rows.append(Row(layer.name, "effective_lr", rate / size**2 if size else math.nan))
    return found
