"""Whether a network takes the same way through its layers on every input that it is compared on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bnbench.base.user_code import raise_interrupt
from bnbench.network.flow import Recorder
from bnbench.network.fold.inputs import Inputs, adversarial, random_batches
from bnbench.network.norm_site import NormSites

_Way = tuple[tuple[str, str, tuple[int, ...]], ...]


def takes_other_ways(model: nn.Module, sites: NormSites, inputs: Inputs) -> bool:
    """Record a pass on each kind of input, and compare which layers and functions run, and what they read."""
    modules = {id(node.module) for node in sites.nodes if node.module is not None}
    batches = [trial.batch for trial in adversarial(inputs)] + random_batches(inputs)
    ways = {way for batch in batches if (way := _way(model, modules, batch)) is not None}
    return len(ways) > 1


def _way(model: nn.Module, modules: set[int], batch: Any) -> _Way | None:
    """None where the network does not take the input."""
    recorder = Recorder(model)
    try:
        with torch.no_grad():
            recorder.run(batch)
    except BaseException as error:  # whatever the network raises on an unusual input
        raise_interrupt(error)
        return None
    nodes = recorder.nodes(lambda module: id(module) in modules)
    return tuple((node.kind, node.name, node.inputs) for node in nodes)
