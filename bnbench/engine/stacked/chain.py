"""The layers of a plain network in order, and the stacked form of each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bnbench.base.stacked import Parameters, StackedLayer, stacked_form
from bnbench.engine.stacked import sequences  # noqa: F401 (registers its forms)
from bnbench.engine.stacked.layers import OneByOne
from bnbench.engine.stacked.plain import is_plain
from bnbench.models.layers import Block
from bnbench.norms import norms


def chain(model: nn.Module) -> list[nn.Module]:
    """The layers of a Sequential in order, with nested Sequentials unpacked and layers without effect left out.

    A Block is a Sequential that checks shapes; the rehearsal of the whole model has had them checked.
    """
    layers: list[nn.Module] = []
    for module in model.children():
        if type(module) in (nn.Sequential, Block) and is_plain(module):
            layers += chain(module)
        elif type(module) is not nn.Identity or not is_plain(module):
            layers.append(module)
    return layers


def stacked_layers(models: Sequence[nn.Module], parameters: Parameters) -> list[StackedLayer]:
    """The same chain for all models at once."""
    return [_stacked(modules, parameters) for modules in zip(*map(chain, models), strict=True)]


def _stacked(modules: Sequence[nn.Module], parameters: Parameters) -> StackedLayer:
    form = stacked_form(modules[0]) if has_stacked_form(modules[0]) else None
    return (form or OneByOne)(modules, parameters)


def has_stacked_form(module: nn.Module) -> bool:
    """Whether the stack has a form of its own for it, rather than calling it replica by replica."""
    norms.entries()  # every normalizer's file is imported: which form there is does not depend on what was used
    return is_plain(module) and stacked_form(module) is not None
