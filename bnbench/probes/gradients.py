"""The gradient of the probe batch's objective."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row, norm_of, parameter_names


@probes.register("gradients")
def gradients(inside: Inside) -> Iterator[Row]:
    """The L2 norm of the gradient of each layer's weight, before any clipping."""
    names = parameter_names(inside.model)
    for layer in inside.layers:
        gradient = inside.passed.gradients.get(names.get(id(layer.parameter), ""))
        if gradient is not None:
            yield Row(layer.name, "gradient_norm", norm_of(gradient))
