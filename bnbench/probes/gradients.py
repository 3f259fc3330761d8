"""The gradient of the probe batch's objective."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row, norm_of


@probes.register("gradients")
def gradients(inside: Inside) -> Iterator[Row]:
    """The L2 norm of the gradient of each layer's weight, before any clipping, and of what enters its activation."""
    for layer in inside.layers:
        gradient = inside.passed.gradients.get(layer.weight_name)
        if gradient is not None:
            yield Row(layer.name, "gradient_norm", norm_of(gradient))
        if layer.name in inside.passed.pre_gradients:
            yield Row(layer.name, "pre_gradient_norm", inside.passed.pre_gradients[layer.name])
