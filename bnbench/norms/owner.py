"""Who owns a parameter: a normalizer, or a layer of weights. And which modules of a network are normalizers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from bnbench.norms.tokens import TokenNorm

#: The attribute in which a module keeps the name of the normalizer that it was made as.
_MADE_AS = "bnbench_norm"
#: The attribute for the call that made it: name, number of channels, dimension, options, place in the network.
_RECIPE = "bnbench_recipe"
#: A tuple of plain values, which a copy of a network takes over as it is.
Recipe = tuple[str, int, int, tuple[tuple[str, Any], ...], Any]
_TORCH_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d)
#: Layers whose `weight` multiplies the input.
_WEIGHT_LAYERS = (nn.Linear, nn.Bilinear, _ConvNd)
#: A class that says it normalizes its input: "LayerNorm2d", and not "NormalInit" or "WeightNormLinear".
_NORM_NAME = re.compile(r"(?<!weight)(?<!spectral)norm(?!al)", re.IGNORECASE)
_BIAS_NAME = re.compile(r"(^|_)bias(es)?(_|\d|$)", re.IGNORECASE)


def mark(module: nn.Module, name: str, recipe: Recipe | None = None) -> nn.Module:
    """Remember that the module was made as the normalizer of that name, and the call of the factory that made it."""
    vars(module)[_MADE_AS] = name
    if recipe is not None:
        vars(module)[_RECIPE] = recipe
    return module


def recipe_of(module: nn.Module) -> Recipe | None:
    """The call of the factory that made the module as a normalizer, None where it is not known."""
    recipe: Recipe | None = vars(module).get(_RECIPE)
    return recipe


def made_as(module: nn.Module) -> str | None:
    """The name of the normalizer that the module was made as, or None."""
    name = vars(module).get(_MADE_AS)
    return name if isinstance(name, str) else None


def is_normalizer(module: nn.Module) -> bool:
    """Whether a normalizer's factory made it, or it is one by its class. Over tokens: the layer inside."""
    if isinstance(module, TokenNorm):
        return False
    if made_as(module) is not None or isinstance(module, _TORCH_NORMS):
        return True
    if not _NORM_NAME.search(type(module).__name__):
        return False
    return not any(
        isinstance(inner, _WEIGHT_LAYERS) for inner in module.modules()
    )  # "ConvNormAct", "PreNorm"


def normalizers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The outermost normalizers by their dotted names, in the order of the network's modules."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        if module is not model and is_normalizer(module):
            inside = (*inside, f"{name}.")
            yield name, module


def weight_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Linear and convolution layers by their dotted names."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, _WEIGHT_LAYERS))


def spared_names(model: nn.Module) -> set[str]:
    """The parameters that `decay_norm_and_bias: false` spares, by their dotted names.

    Everything that a normalizer owns, whatever its shape and however deep inside; every bias; and of other
    layers' parameters those that are vectors (one axis longer than 1 at most), such as a learnt scale.
    The weights of linear and convolution layers are decayed, also where they have one input or output.
    """
    owned = {
        f"{name}.{parameter}"
        for name, module in normalizers(model)
        for parameter, _ in module.named_parameters(remove_duplicate=False)
    }
    if is_normalizer(model):
        owned |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name in owned or _is_spared_by_itself(model, name, parameter)
    }


def _is_spared_by_itself(model: nn.Module, name: str, parameter: Tensor) -> bool:
    # a parametrized weight is "conv.parametrizations.weight.original": its layer and its own name stand before
    path, _, rest = name.partition(".parametrizations.")
    owner, _, key = (f"{path}.{rest.partition('.')[0]}" if rest else name).rpartition(".")
    if _BIAS_NAME.search(key):
        return True
    if key == "weight" and isinstance(model.get_submodule(owner), _WEIGHT_LAYERS):
        return False
    return sum(size > 1 for size in parameter.shape) <= 1
