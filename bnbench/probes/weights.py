"""The weights, and the study's own last update of them."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row, Rows, norms_of
from bnbench.probes.together import OfAll, Together


@probes.register("weights")
def weights(inside: Inside) -> Iterator[Row | Rows]:
    """The L2 norm of each layer's weight w, and ‖Δw‖/‖w‖ of the last update of training, w before it."""
    return inside.rows(_of_all)


def _of_all(replicas: Together) -> OfAll:
    found: OfAll = [[] for _ in range(replicas.count)]
    for layer in replicas.layers:
        weight, before = replicas.weight(layer), replicas.before.get(layer.name)
        for rows, norm in zip(found, norms_of(weight), strict=True):
            rows.append(Row(layer.name, "weight_norm", norm))
        if before is not None:
            for rows, size, update in zip(found, norms_of(before), norms_of(weight - before), strict=True):
                if size:  # weights of 0, as fixup starts some layers, have no ratio
                    rows.append(Row(layer.name, "update_ratio", update / size))
    return found
