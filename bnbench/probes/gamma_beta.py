"""The learnt scale and shift of the normalizers."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.probes import probes
from bnbench.probes.activations import MANY_UNITS, some_units
from bnbench.probes.inside import Inside, Row, Rows
from bnbench.probes.numbers import moments, percentile_rows

#: What a normalizer's parameters are called here; any other keeps its own name, such as alpha.
NAMES = {"weight": "gamma", "bias": "beta"}


@probes.register("gamma_beta")
def gamma_beta(inside: Inside) -> Iterator[Row | Rows]:
    """Mean, std and percentiles of each normalizer's gamma and beta; after the last step their values, too."""
    for layer in inside.layers:
        if layer.norm is None:
            continue
        for path, parameter in layer.norm.named_parameters():
            own = path.rpartition(".")[2]
            name, values = NAMES.get(own, own), parameter.detach().float().flatten()
            if not values.numel():
                continue
            yield from moments(layer.name, name, values)
            yield from percentile_rows(layer.name, name, values.cpu().numpy())
            if inside.step == inside.planned:
                units = some_units(len(values), MANY_UNITS)
                yield Rows(layer.name, name, units, values[units].tolist())
