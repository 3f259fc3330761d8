"""The gradient of the probe batch's objective."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row, Rows, norms_of
from bnbench.probes.together import OfAll, Together


@probes.register("gradients")
def gradients(inside: Inside) -> Iterator[Row | Rows]:
    """The L2 norm of the gradient of each layer's weight, before any clipping, and of what enters its activation."""
    return inside.rows(_of_all)


def _of_all(replicas: Together) -> OfAll:
    found: OfAll = [[] for _ in range(replicas.count)]
    passed = replicas.passed
    for layer in replicas.layers:
        gradient = passed.gradients.get(layer.weight_name)
        if gradient is not None:
            for rows, norm in zip(found, norms_of(gradient), strict=True):
                rows.append(Row(layer.name, "gradient_norm", norm))
        for rows, norm in zip(found, passed.pre_gradients.get(layer.name, ()), strict=False):
            rows.append(Row(layer.name, "pre_gradient_norm", norm))
    return found
