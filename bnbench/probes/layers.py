"""The layers of a network that a probe looks at, and which of them correspond in two networks.

In bnbench's own models a layer is a `Block` (weights, norm, activation in the study's order) or a layer of weights that
stands alone, such as the head. In a plugin's model it is a layer of weights with the norm and the activation that its
output goes to as it is, followed through one pass. Layers of two variants correspond where their names are equal; so a
plugin's factory gives a layer one name, whatever the norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.user_code import raise_interrupt
from bnbench.models.layers import Block
from bnbench.network.sites import Inputs, ignores_size
from bnbench.norms import norms
from bnbench.norms.behaviour import ignores_scale
from bnbench.norms.owner import is_normalizer, made_as, weight_layers
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
    watch = _Watch()
    handles = [
        module.register_forward_hook(watch.hook(name), with_kwargs=True)
        for name, module in model.named_modules()
        if watch.kind(module)
    ]
    parameter = next(iter(model.parameters()), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    try:
        with torch.no_grad():
            model.train()(inputs(_SAMPLES).to(device))
    except BaseException as error:  # whatever a user's layer raises: the run says so
        raise_interrupt(error)
        return []
    finally:
        for handle in handles:
            handle.remove()
    return list(watch.found.values())


class _Watch:
    """Hooks that follow an output from a layer of weights to its norm and its activation, by its place in memory."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        # kept, so that no place is used twice
        self._outputs: dict[int, tuple[str, Tensor]] = {}

    def kind(self, module: nn.Module) -> str:
        if next(weight_layers(module), ("?",))[0] == "":
            return "weights"
        if is_normalizer(module):
            return "norm"
        return "activation" if type(module).__module__ == _ACTIVATIONS.__name__ else ""

    def hook(self, name: str) -> Callable[..., None]:
        def after(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            kind = self.kind(module)
            if kind == "weights":
                layer = name if name not in self.found else ""
                self.found.setdefault(name, Found(name, name))
            else:
                layer = self._joined(name, kind, [*arguments, *keywords.values()])
            if layer:
                self._outputs[output.untyped_storage().data_ptr()] = layer, output

        return after

    def _joined(self, name: str, kind: str, arguments: Sequence[Any]) -> str:
        """The layer that the module belongs to, "" where to none."""
        given = next((argument for argument in arguments if isinstance(argument, Tensor)), None)
        if given is None:
            return ""
        layer, output = self._outputs.get(given.untyped_storage().data_ptr(), ("", given))
        if not layer or output.numel() != given.numel() or getattr(self.found[layer], kind):
            return ""
        found = self.found[layer]
        self.found[layer] = replace(found, norm=name) if kind == "norm" else replace(found, activation=name)
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
