"""The layers of a network that infer with running statistics, and whether others can take the place of those."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bnbench.network.flow.forward_pass import forward_pass
from bnbench.network.sites.recorded import Inputs, find_sites
from bnbench.norms.behaviour import statistics_of
from bnbench.norms.inference_form import MEAN, VAR, InferenceForm, has_statistics, inference_form

#: Samples of the pass that records the shapes.
SAMPLES = 8
_WANTED = f"not in {MEAN} and {VAR}, one number a channel each"


@dataclass(frozen=True)
class StatisticsLayer:
    """A layer with running statistics. name: of the module that has them. form: what they do in inference."""

    name: str
    form: InferenceForm


@dataclass(frozen=True)
class Statistics:
    """Those of a network. refused: why the statistics of a layer can't be replaced, a sentence each."""

    layers: tuple[StatisticsLayer, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def without_form(self) -> tuple[str, ...]:
        """The layers whose inference is not (x - mean) / √(var + eps)."""
        return tuple(layer.name for layer in self.layers if layer.form.eps is None)


def statistics_of_network(model: nn.Module, inputs: Inputs, samples: int = SAMPLES) -> Statistics:
    """Try every layer of a network that keeps statistics. Leaves the network as it was."""
    known = {name: module for name, module in model.named_modules() if has_statistics(module)}
    seen = forward_pass(model, inputs, samples, training=True)  # where it raises, its runs crash and say so
    calls = seen.calls
    shapes = {
        name: calls[id(module)][0].shape
        for name, module in known.items()
        if id(module) in calls and calls[id(module)][0].shape
    }
    layers: list[StatisticsLayer] = []
    refused: list[str] = []
    tried: dict[object, InferenceForm | str] = {}
    for name, module in known.items():
        if name not in shapes:
            continue  # no forward pass reaches it
        key = type(module), str(module), shapes[name]
        if key not in tried:
            try:
                tried[key] = inference_form(module, shapes[name])
            except ValueError as error:
                tried[key] = str(error)
        form, kind = tried[key], type(module).__name__
        if reason := getattr(
            module, "other_statistics", ""
        ):  # which no trial can see: only a layer itself knows
            refused.append(f"{name} ({kind}): {reason}")
            continue
        if isinstance(form, str):
            refused.append(f"{name} ({kind}) can't be tried: {form}")
        elif form.used and not form.takes_statistics:
            refused.append(
                f"{name} ({kind}): with the mean and variance of a batch as its running statistics it does neither "
                "what (x - mean) / sqrt(var + eps) says nor what it does in training"
            )
        elif form.used:
            layers.append(StatisticsLayer(name, form))
    refused += _unknown(model, inputs, samples)
    if not refused:  # what no normalizer has
        own = {f"{name}.{vector}".lstrip(".") for name in known for vector in (MEAN, VAR)}
        refused += [f"training moves the buffer {name}, {_WANTED}" for name in seen.moved if name not in own]
    return Statistics(tuple(layers), tuple(dict.fromkeys(refused)))


def _unknown(model: nn.Module, inputs: Inputs, samples: int) -> list[str]:
    """Normalizers whose inference depends on what they keep under other names."""
    sites = find_sites(model, inputs, samples)
    found: dict[tuple[type[nn.Module], tuple[str, ...]], str] = {}
    for site in {site.signature: site for site in reversed(sites.norms)}.values():
        strange = [
            slot
            for inner, slot in statistics_of(site.module, site.shape)
            if not (slot in (MEAN, VAR) and has_statistics(inner))
        ]
        if strange:
            kind = type(site.module), tuple(dict.fromkeys(strange))
            # of one kind the first in the network stands for all: they share one reason and one fix
            found[kind] = f"{site} keeps statistics in {' and '.join(kind[1])}, {_WANTED}"
    return list(found.values())
