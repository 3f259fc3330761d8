"""The layers of a network that a probe looks at, and which of them correspond in two networks.

In bnbench's own models a layer is a `Block` (weights, norm, activation in the study's order) or a layer of weights that
stands alone, such as the head. In a plugin's model it is a layer of weights with the norm and the activation that its
output goes to as it is, followed through one pass. Layers of two variants correspond where their names are equal; so a
plugin's factory gives a layer one name, whatever the norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from bnbench.models.layers import Block
from bnbench.network.flow.forward_pass import forward_pass, is_leaf
from bnbench.network.flow.neighbours import Flow
from bnbench.network.sites.candidates import normalizing
from bnbench.network.sites.norm_site import Node
from bnbench.network.sites.recorded import Inputs, ignores_size
from bnbench.norms import norms
from bnbench.norms.behaviour import ignores_scale
from bnbench.norms.owner import made_as, weight_layers
from bnbench.probes.inside import Layer

#: Samples of the pass that follows a plugin's network.
_SAMPLES = 8
_ACTIVATIONS = nn.modules.activation


@dataclass(frozen=True)
class Found:
    """A layer by the dotted names of its modules; "" where it has none. See `Layer`."""

    name: str
    weights: str
    norm: str = ""
    activation: str = ""
    depth: int = 0
    hidden: bool = True
    norm_activates: bool = False
    scale_invariant: bool = False
    scales_with_bias: bool = False

    def of(self, model: nn.Module) -> Layer:
        """The layer in a copy of the network."""
        module = model.get_submodule
        return Layer(
            self.name,
            self.weights,
            self.depth,
            module(self.weights),
            module(self.norm) if self.norm else None,
            module(self.activation) if self.activation else None,
            self.hidden,
            self.norm_activates,
            self.scale_invariant,
            self.scales_with_bias,
        )


def find_layers(model: nn.Module, inputs: Inputs) -> tuple[Found, ...]:
    """The layers in the order in which an input reaches them; none where the network has no layer of weights.

    model: a copy that may be used up. inputs: from a number of samples to that many inputs.
    """
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, Block)}
    found = list(_of_blocks(model, blocks)) if blocks else _followed(model, inputs)
    layers = [replace(layer, depth=depth) for depth, layer in enumerate(found, start=1)]
    if layers:
        layers[-1] = replace(layers[-1], hidden=False)
    tried: dict[object, bool] = {}
    return tuple(replace(layer, **_scaled(layer, model, tried)) for layer in layers)


def chosen(layers: Sequence[Found], wanted: Sequence[int | str] | None) -> tuple[Found, ...]:
    """The layers that a study names by number, name, "last" or "head". Raises ValueError with the first unknown one."""
    if wanted is None:
        return tuple(layers)
    names = dict.fromkeys(_named(layers, word).name for word in wanted)
    return tuple(layer for layer in layers if layer.name in names)


def _named(layers: Sequence[Found], word: int | str) -> Found:
    hidden = [layer for layer in layers if layer.hidden]
    if word == "last" and hidden:
        return hidden[-1]
    if word == "head" and not layers[-1].hidden:
        return layers[-1]
    for layer in layers:
        if word in (layer.name, layer.depth, str(layer.depth)):
            return layer
    names = ", ".join(layer.name for layer in layers[:12]) + (", ..." if len(layers) > 12 else "")
    raise ValueError(
        f"{word!r} is no layer of the network. Known: {names}; last, head, and the numbers 1 to {len(layers)}"
    )


def _of_blocks(model: nn.Module, blocks: Mapping[str, nn.Module]) -> Iterator[Found]:
    """Blocks, and the layers of weights outside of them."""
    inside = tuple(f"{name}." for name in blocks)
    alone = {name for name, _ in weight_layers(model) if not name.startswith(inside)}
    for name, module in model.named_modules():
        if name in alone:
            yield Found(name, name)
        elif name in blocks:
            weights = next((f"{name}.{inner}" for inner, _ in weight_layers(module)), "")
            if weights:
                norm, activation = (_acting(module, f"{name}.", child) for child in ("norm", "activation"))
                activates = bool(norm) and includes_activation(module.get_submodule("norm"))
                yield Found(name, weights, norm, activation, norm_activates=activates)


def _acting(block: nn.Module, prefix: str, child: str) -> str:
    """The name of a block's child; "" where it does nothing."""
    module = getattr(block, child, None)
    return "" if module is None or type(module) is nn.Identity else f"{prefix}{child}"


def includes_activation(norm: nn.Module) -> bool:
    """Whether the normalizer is its own activation, so that what leaves it are activations."""
    name = made_as(norm)
    return name is not None and name in norms.names() and bool(norms.get(name).facts.includes_activation)


def _followed(model: nn.Module, inputs: Inputs) -> list[Found]:
    """A plugin's layers in the order of their first calls, each with what its output goes to as it is."""
    seen = forward_pass(model, inputs, _SAMPLES, training=True)
    if seen.error or seen.recorder is None:  # whatever a user's layer raises: the run says so
        return []
    norms = normalizing(model, seen.calls)
    flow = Flow(seen.recorder.nodes(lambda module: id(module) in norms or is_leaf(module)))
    found: dict[str, Found] = {}
    for node in flow.nodes:
        is_weights = node.module is not None and next(weight_layers(node.module), ("?",))[0] == ""
        if is_weights and node.name not in found:
            found[node.name] = _joined(Found(node.name, node.name), node, flow, norms)
    return list(found.values())


def _joined(layer: Found, node: Node, flow: Flow, norms: Set[int]) -> Found:
    """The layer with the first norm and the first activation that its output goes to, one behind the other."""
    for reader in flow.reached(node):
        if reader.module is None:
            continue
        if id(reader.module) in norms and not layer.norm:
            layer = _joined(replace(layer, norm=reader.name), reader, flow, norms)
        elif type(reader.module).__module__ == _ACTIVATIONS.__name__ and not layer.activation:
            layer = _joined(replace(layer, activation=reader.name), reader, flow, norms)
    return layer


def _scaled(layer: Found, model: nn.Module, tried: dict[object, bool]) -> dict[str, Any]:
    """Whether the size of its weight has no effect, alone or together with its bias: by trials, whatever the names.

    tried: the answers of this network's normalizers so far; those of one description and shape behave alike.
    """
    weights = model.get_submodule(layer.weights)
    weight, biased = getattr(weights, "weight", None), getattr(weights, "bias", None) is not None
    own_forward = type(weights) not in (nn.Linear, nn.Conv2d)
    if own_forward and isinstance(weight, nn.Parameter) and ignores_size(weights, weight):
        return {"scale_invariant": True}
    if not layer.norm or not _stands_directly_behind(model, layer):
        return {}
    channels = getattr(weights, "out_features", getattr(weights, "out_channels", 0))
    axes = 2 if isinstance(weights, nn.Linear) else weight.dim() if isinstance(weight, Tensor) else 4
    norm, shape = model.get_submodule(layer.norm), (8, channels, *[4] * (axes - 2))

    def ignores(shifted: bool) -> bool:
        key = (type(norm), str(norm), shape, shifted)
        if key not in tried:
            tried[key] = ignores_scale(norm, shape, shifted)
        return tried[key]

    if ignores(biased):
        return {"scale_invariant": True}
    return {"scale_invariant": True, "scales_with_bias": True} if biased and ignores(False) else {}


def _stands_directly_behind(model: nn.Module, layer: Found) -> bool:
    """Whether nothing stands between the weights and the norm. In a plugin's network the pass has shown it."""
    block = model.get_submodule(layer.norm.rpartition(".")[0])
    if not isinstance(block, Block):
        return True
    children = [name for name, module in block.named_children() if type(module) is not nn.Identity]
    return children.index("norm") == 1
