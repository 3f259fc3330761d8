"""A named layer as a normalizer's factory: what its signature takes beside channels and dimension are its options."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from bnbench.base.errors import LayerError
from bnbench.base.process_state import seeded
from bnbench.base.user_code import raise_interrupt
from bnbench.norms import behaviour
from bnbench.norms.named import DIM_MEANS, NamedLayer, check_signature

#: Of torch's own layers: bnbench decides both.
_DECIDED = ("device", "dtype")
#: Types that are inferred from a default without a type hint.
_SCALAR_TYPES = (bool, int, float, str)
#: Names that every factory's own arguments have: a layer's option of such a name keeps its default.
_TAKEN = ("num_features", "dim")
#: Accepted names of the number of channels.
_CHANNELS = {"num_features", "num_channels", "channels", "n_channels", "num_feats", "normalized_shape"}
INPUTS = {1: "(N, C)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


def factory_of(layer: NamedLayer) -> Callable[..., nn.Module]:
    """`factory(num_features, dim, *, options)` for the registry of normalizers. Raises LayerError."""
    options = list(_options(layer))
    check_signature(layer, {option.name for option in options} - _channels(layer))
    tried: set[int] = set()

    def make(num_features: int, dim: int, **values: Any) -> nn.Module:
        if dim not in tried:
            _check_inputs(layer, num_features, dim, values)
            tried.add(dim)
        return _with_parameters(layer.make(num_features, dim, values), num_features, dim)

    positional = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in _TAKEN]
    make.__signature__ = inspect.Signature([*positional, *options])  # type: ignore[attr-defined]
    make.__annotations__ = {option.name: option.annotation for option in options}
    make.__name__ = make.__qualname__ = layer.name
    make.__doc__ = documentation(layer.factory)
    return make


def _channels(layer: NamedLayer) -> set[str]:
    """Parameters other than the first that are the number of channels: the layer can't be called with that alone."""
    rest = list(layer.parameters.values())[1:]
    return {p.name for p in rest if p.name in _CHANNELS and p.default is p.empty}


def _check_inputs(layer: NamedLayer, num_features: int, dim: int, values: Mapping[str, Any]) -> None:
    """Raises LayerError where a layer takes inputs of another dimension, and not of this one."""
    with seeded(0, behaviour.CPU):
        fresh = layer.make(num_features, dim, values)
    if _is_lazy(fresh):
        return
    shapes = {1: (8, num_features), 2: (8, num_features, 4, 4), 3: (8, num_features, 2, 2, 2)}
    error = behaviour.refusal(fresh, shapes[dim])
    if not error or not any(behaviour.takes(fresh, shape) for other, shape in shapes.items() if other != dim):
        return
    raise LayerError(
        f"{layer.place}: {layer.name} does not take inputs {INPUTS[dim]}: {error}",
        f"This network has such inputs, and {layer.name} takes others.",
        f"name a function that returns the layer for each: def make(num_features, dim): ...  ({DIM_MEANS})",
    )


def _is_lazy(module: nn.Module) -> bool:
    return any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers()))


def _with_parameters(module: nn.Module, num_features: int, dim: int) -> nn.Module:
    """A lazy layer makes its parameters in its first call: one in eval, which moves no statistics."""
    if _is_lazy(module):
        with torch.no_grad():
            module.eval()(torch.zeros(2, num_features, *[4] * (2 * (dim == 2))))
        module.train()
    return module


def _options(layer: NamedLayer) -> Iterator[inspect.Parameter]:
    rest = list(layer.parameters.values())[1:]
    left_out = {layer.dim_parameter, *_DECIDED}
    return study_options(
        layer.factory,
        [p for p in rest if p.name not in left_out and (p.name not in _TAKEN or p.default is p.empty)],
    )


def study_options(
    factory: Callable[..., Any], parameters: Iterable[inspect.Parameter]
) -> Iterator[inspect.Parameter]:
    """Those of the parameters that a study can set, as keyword-only ones with their types. Others keep their default.

    A parameter can't be called "name", which chooses the factory.
    """
    hints = _hints(factory)
    for parameter in parameters:
        name, default = parameter.name, parameter.default
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if name == "name" or not named:
            continue
        hint = hints.get(name, _hint_of(default))
        if not _is_writable(hint, default):
            if default is not parameter.empty:
                continue  # its default stays
            hint = Any
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _hints(factory: Callable[..., Any]) -> Mapping[str, Any]:
    """The declared types; none where they can't be resolved."""
    code: Any = factory
    if inspect.isclass(factory):
        code = factory.__init__
    elif not inspect.isroutine(factory):
        code = getattr(factory, "func", None) or type(factory).__call__
    try:
        return typing.get_type_hints(code, include_extras=True)
    except BaseException as error:
        raise_interrupt(error)
        return {}


def _hint_of(default: Any) -> Any:
    """The type hint of a default: an integer default allows floats; other types are not checked."""
    if type(default) not in _SCALAR_TYPES:
        return Any
    return int | float if type(default) is int else type(default)


def _is_writable(hint: Any, default: Any) -> bool:
    """Whether a study can hold values of this type, and this default."""
    from pydantic import TypeAdapter
    from pydantic_core import to_jsonable_python

    try:
        TypeAdapter(hint)
        if default is not inspect.Parameter.empty:
            json.dumps(to_jsonable_python(default), allow_nan=False)
    except BaseException as error:  # whatever a type can raise
        raise_interrupt(error)
        return False
    return True


def documentation(factory: Callable[..., Any]) -> str:
    """The factory's own docstring, not an inherited one."""
    text = vars(factory).get("__doc__") if inspect.isclass(factory) else getattr(factory, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""
