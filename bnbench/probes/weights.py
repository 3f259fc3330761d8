"""The weights, and the study's own last update of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row, norm_of


@probes.register("weights")
def weights(inside: Inside) -> Iterator[Row]:
    """The L2 norm of each layer's weight w, and ‖Δw‖/‖w‖ of the last update of training, w before it."""
    for layer in inside.layers:
        yield Row(layer.name, "weight_norm", norm_of(layer.weight))
        before = inside.before.get(layer.name)
        if before is not None:
            size = norm_of(before)
            update = norm_of(layer.weight - before)
            yield Row(layer.name, "update_ratio", update / size if size else math.nan)
