"""A layer named on the command line: FILE.py:Name, module:Name, or a registered normalizer.

`bnbench verify my_layers.py:MyNorm` and `bnbench compare variants.mine.norm=my_layers.py:MyNorm` share this syntax.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bnbench.base.errors import BnbenchError, LayerError, nearest
from bnbench.base.named_code import Importer, Thing
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.base.user_file import line_of
from bnbench.norms import norms

#: Accepted names of a second positional parameter, and its values for (N, C), (N, C, H, W), (N, C, D, H, W).
_DIMS = {"dim": (1, 2, 3), "dims": (1, 2, 3), "ndim": (1, 2, 3), "num_dims": (2, 4, 5)}


DIM_MEANS = "dim is 1 for (N, C), 2 for (N, C, H, W), 3 for (N, C, D, H, W)"
#: What messages call it, and an example.
LAYER = Thing("layer", "my_layer.py", "MyBatchNorm", LayerError)


@dataclass(frozen=True)
class NamedLayer:
    """The layer's factory: a class, or a function of the number of channels and perhaps the dimension.

    file, module: its source; a registered normalizer has neither.
    """

    name: str
    factory: Callable[..., Any]
    file: Path | None = None
    module: ModuleType | None = None

    @property
    def place(self) -> str:
        """Its file or module, as messages name it."""
        return str(self.file or (self.module and self.module.__name__) or self.name)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """By name, in order."""
        return _parameters(self.factory)

    def make(self, num_features: int, dim: int, options: Mapping[str, Any]) -> nn.Module:
        """A fresh layer. Raises LayerError; a factory's own BnbenchError passes."""
        try:
            layer = self.factory(num_features, *self._dim(dim), **options)
        except BnbenchError:
            raise
        except BaseException as error:
            raise_interrupt(error)
            raise LayerError(
                f"{self._place_of(error)}: {self.name} can't be made: {first_line(error)}",
                f"It was called as {_call(self.name, num_features, self._dim(dim), options)}.",
            ) from error
        if not isinstance(layer, nn.Module):
            raise LayerError(
                f"{self.name} returned {type(layer).__name__}, not a torch.nn.Module.",
                fix="name the class itself, or a function (num_features, dim) that returns a layer.",
            )
        if "_parameters" not in vars(layer):
            raise LayerError(
                f"{self.place}: the __init__ of {type(layer).__name__} does not call torch's.",
                fix="begin it with super().__init__().",
            )
        return layer

    @property
    def dim_parameter(self) -> str | None:
        """The second parameter, where it is a dimension and has to be given."""
        for name, parameter in list(self.parameters.items())[1:2]:
            wanted = parameter.default is parameter.empty or not inspect.isclass(self.factory)
            if name in _DIMS and wanted and parameter.kind is not parameter.KEYWORD_ONLY:
                return name
        return None

    def _dim(self, dim: int) -> tuple[int, ...]:
        name = self.dim_parameter
        return (_DIMS[name][dim - 1],) if name else ()

    def _place_of(self, error: BaseException) -> str:
        if self.file is None:
            return self.place
        line = line_of(error, self.file)
        return f"{self.file}:{line}" if line != "?" else str(self.file)


def find_layer(word: str, load: Importer | None = None) -> NamedLayer:
    """The layer that `path.py:Name`, `package.module:Name` or a registered name stands for. Raises LayerError.

    load: imports a file; by default, under a name of its own, with its folder on sys.path from then on.
    """
    place, _, name = word.rpartition(":")
    if word.endswith(".py"):
        place, name = word, ""
    if not place:
        if Path(word).suffix == ".ipynb":
            LAYER.refuse_other_files(Path(word), "MyBatchNorm")
        return _registered(word)
    path = Path(place).expanduser()
    LAYER.refuse_other_files(path, name)
    if place.endswith(".py"):
        module = LAYER.import_path(path, load)
        thing, name = _pick(module, name, place, own=True)
        layer = NamedLayer(name, thing, path, module)
    else:
        module = LAYER.import_module(place)
        thing, name = _pick(module, name, place, own=False)
        layer = NamedLayer(name, thing, None, module)
    return layer


def _registered(word: str) -> NamedLayer:
    if word not in norms.names():
        guess = nearest(word, norms.names())
        raise LayerError(
            f'no normalizer "{word}" is registered.' + (f' Did you mean "{guess}"?' if guess else ""),
            fix="name a file and a class in it (my_layer.py:MyBatchNorm), a module (torch.nn:BatchNorm1d), "
            f"or one of: {', '.join(norms.names())}.",
        )
    return NamedLayer(word, norms.get(word).factory)


def _pick(module: ModuleType, name: str, place: str, *, own: bool) -> tuple[Callable[..., Any], str]:
    """The thing of that name; without a name, the only layer that the file defines."""
    layers = [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and (not own or value.__module__ == module.__name__)
    ]
    if not name and len(layers) == 1:
        name = layers[0]
    if not name or not hasattr(module, name):
        callables = [
            key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
        ]
        guess = nearest(name, layers) or nearest(name, callables) if name else None
        problem = f'{place}: there is no "{name}" in it.' if name else f"{place}: which of its layers?"
        known = ", ".join(layers) if own else ""
        raise LayerError(
            problem
            + (f' Did you mean "{guess}"?' if guess else "")
            + (f" Its layers: {known}." if known else ""),
            fix=f"{place}:{guess or (layers[0] if own and layers else 'Name')}",
        )
    thing = getattr(module, name)
    if not callable(thing) or isinstance(thing, nn.Module):
        kind = "a layer that is made already" if isinstance(thing, nn.Module) else type(thing).__name__
        raise LayerError(
            f"{place}: {name} is {kind}; what makes fresh layers is needed.",
            fix=f"name its class, or a function: def make(num_features, dim): return {name.title()}(...)",
        )
    return thing, name


def check_signature(layer: NamedLayer, given: Collection[str]) -> None:
    """Raises LayerError where it takes no number of channels, or needs more than that and what is given."""
    parameters = layer.parameters
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    first = positional[:1] or [p for p in parameters.values() if p.kind is p.VAR_POSITIONAL]
    missing = [
        parameter.name
        for index, parameter in enumerate(parameters.values())
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and index > 0
        and parameter.name not in given
        and not (index == 1 and parameter.name in _DIMS)
    ]
    if first and first[0].name not in given and not missing:
        return
    signature = f"{layer.name}{inspect.signature(layer.factory)}"
    why = (
        f"It needs {', '.join(missing)} beside the number of channels."
        if missing
        else "It takes no number of channels as its first argument."
    )
    raise LayerError(
        f"{layer.place}: bnbench can't call {signature}.",
        why,
        "add a function that makes it, and name that one: "
        f"def make(num_features, dim): return {layer.name}({'num_features, ' * bool(missing)}...)  ({DIM_MEANS})",
    )


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # written in C, or a strange callable: it says itself what it lacks
        return {"num_features": inspect.Parameter("num_features", inspect.Parameter.POSITIONAL_ONLY)}


def _call(name: str, num_features: int, dim: tuple[int, ...], options: Mapping[str, Any]) -> str:
    words = [
        str(num_features),
        *map(str, dim),
        *(f"{key}={_number(value)}" for key, value in options.items()),
    ]
    return f"{name}({', '.join(words)})"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
