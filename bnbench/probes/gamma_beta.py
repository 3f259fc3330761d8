"""The learnt scale and shift of the normalizers."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from bnbench.probes import probes
from bnbench.probes.activations import MANY_UNITS, some_units
from bnbench.probes.inside import Inside, Row, Rows
from bnbench.probes.numbers import distributions
from bnbench.probes.together import OfAll, Together

#: What a normalizer's parameters are called here; any other keeps its own name, such as alpha.
NAMES = {"weight": "gamma", "bias": "beta"}


@probes.register("gamma_beta")
def gamma_beta(inside: Inside) -> Iterator[Row | Rows]:
    """Mean, std and percentiles of each normalizer's gamma and beta; after the last step their values, too."""
    return inside.rows(_of_all)


def _of_all(replicas: Together) -> OfAll:
    values = dict[tuple[str, str], Tensor]()
    for layer in replicas.layers:
        for path, parameter in layer.norm.named_parameters() if layer.norm is not None else ():
            own = path.rpartition(".")[2]
            if parameter.numel():
                values.setdefault(
                    (layer.name, NAMES.get(own, own)), replicas.all(parameter).detach().float().flatten(1)
                )
    found = distributions(values, replicas.count)
    if replicas.step == replicas.planned:
        for (layer_name, name), of_all in values.items():
            units = some_units(of_all.shape[1], MANY_UNITS)
            for rows, numbers in zip(found, of_all[:, units].tolist(), strict=True):
                rows.append(Rows(layer_name, name, units, numbers))
    return found
