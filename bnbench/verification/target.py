"""The layer that was named on the command line: found, imported, and made anew as often as checks need it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bnbench.base.errors import BnbenchError, LayerError, nearest
from bnbench.base.user_file import import_file, line_of
from bnbench.norms import norms
from bnbench.verification.outcome import first_line

#: What a second positional parameter may be called, and what goes in for (N, C), (N, C, H, W), (N, C, D, H, W).
_DIMS = {"dim": (1, 2, 3), "dims": (1, 2, 3), "ndim": (1, 2, 3), "num_dims": (2, 4, 5)}


@dataclass(frozen=True)
class Target:
    """What makes the layer. options: eps and momentum under the names that it takes them by."""

    name: str
    factory: Callable[..., Any]
    file: Path | None = None

    def options(self) -> dict[str, str]:
        """ "eps", "momentum" -> the name of the parameter that takes it."""
        names = _parameters(self.factory)
        spelled = (("eps", "eps"), ("eps", "epsilon"), ("momentum", "momentum"))
        return {key: name for key, name in spelled if name in names}

    def make(self, num_features: int, dim: int, values: Mapping[str, float | None]) -> nn.Module:
        """A fresh layer. Raises LayerError; a factory's own BnbenchError passes."""
        taken = {name: values[key] for key, name in self.options().items() if key in values}
        try:
            layer = self.factory(num_features, *self._dim(dim), **taken)
        except BnbenchError:
            raise
        except BaseException as error:
            raise LayerError(
                f"{self._place(error)}: {self.name} can't be made: {first_line(error)}",
                f"It was called as {_call(self.name, num_features, self._dim(dim), taken)}.",
            ) from error
        if not isinstance(layer, nn.Module):
            raise LayerError(
                f"{self.name} returned {type(layer).__name__}, not a torch.nn.Module.",
                fix="name the class itself, or a function (num_features, dim) that returns a layer.",
            )
        if "_parameters" not in vars(layer):
            raise LayerError(
                f"{self.file or 'verify'}: the __init__ of {type(layer).__name__} does not call torch's.",
                fix="begin it with super().__init__().",
            )
        return layer

    def _dim(self, dim: int) -> tuple[int, ...]:
        """The second positional argument: only for a parameter that is a dimension and has to be given."""
        for name, parameter in list(_parameters(self.factory).items())[1:2]:
            wanted = parameter.default is parameter.empty or not inspect.isclass(self.factory)
            if name in _DIMS and wanted and parameter.kind is not parameter.KEYWORD_ONLY:
                return (_DIMS[name][dim - 1],)
        return ()

    def _place(self, error: BaseException) -> str:
        if self.file is None:
            return "verify"
        line = line_of(error, self.file)
        return f"{self.file}:{line}" if line != "?" else str(self.file)


def find_target(word: str) -> Target:
    """The layer that `path.py:Name`, `package.module:Name` or a registered name stands for. Raises LayerError."""
    place, _, name = word.rpartition(":")
    if word.endswith(".py"):
        place, name = word, ""
    if not place:
        if Path(word).suffix == ".ipynb":
            _refuse_other_files(Path(word), "MyBatchNorm")
        return _registered(word)
    path = Path(place)
    _refuse_other_files(path, name)
    if place.endswith(".py"):
        module: ModuleType = _import(path)
        thing, name = _pick(module, name, place, own=True)
        target = Target(name, thing, path)
    else:
        thing, name = _pick(_import_module(place), name, place, own=False)
        target = Target(name, thing)
    _check_signature(target)
    return target


def _refuse_other_files(path: Path, name: str) -> None:
    """A notebook, a folder or another kind of file has no class that could be imported."""
    if path.suffix == ".ipynb":
        script = path.with_suffix(".py")
        raise LayerError(
            f"{path} is a notebook, and a layer is imported from a Python file.",
            fix=f"jupyter nbconvert --to script {path}, then bnbench verify {script}:{name}; or copy the class "
            f"and its imports into {script}.",
        )
    if path.suffix != ".py" and (path.exists() or "/" in str(path)):
        kind = "a folder" if path.is_dir() else "not a Python file (.py)" if path.exists() else "no such file"
        raise LayerError(f"{path}: {kind}.", fix="name a file and a class in it: my_layer.py:MyBatchNorm")


def _registered(word: str) -> Target:
    if word not in norms.names():
        guess = nearest(word, norms.names())
        raise LayerError(
            f'no normalizer "{word}" is registered.' + (f' Did you mean "{guess}"?' if guess else ""),
            fix="name a file and a class in it (my_layer.py:MyBatchNorm), a module (torch.nn:BatchNorm1d), "
            f"or one of: {', '.join(norms.names())}.",
        )
    return Target(word, norms.get(word).factory)


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        there = [str(file) for file in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        guess = nearest(str(path), there)
        raise LayerError(f"{path}: no such file." + (f' Did you mean "{guess}"?' if guess else ""))
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # its neighbours can be imported, as when the file is run
        sys.path.insert(0, folder)
    try:
        return import_file(path, "bnbench_verify")
    except (SystemExit, KeyboardInterrupt) as error:
        raise LayerError(
            f"{path}:{line_of(error, path)}: it ends the program (sys.exit) while it is imported.",
            fix='put what the file does when it is run under if __name__ == "__main__":.',
        ) from error
    except BaseException as error:
        raise LayerError(f"{path}:{line_of(error, path)}: {first_line(error)}") from error


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LayerError(
            f'no module "{error.name}" can be imported.',
            fix=f"for a file, end its name in .py: {name.replace('.', '/')}.py:Name.",
        ) from error
    except BaseException as error:
        raise LayerError(f"{name}: {first_line(error)}") from error


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
        what = f'{place}: there is no "{name}" in it.' if name else f"{place}: which of its layers?"
        known = ", ".join(layers) if own else ""
        raise LayerError(
            what
            + (f' Did you mean "{guess}"?' if guess else "")
            + (f" Its layers: {known}." if known else ""),
            fix=f"{place}:{guess or (layers[0] if own and layers else 'Name')}",
        )
    thing = getattr(module, name)
    if not callable(thing) or isinstance(thing, nn.Module):
        kind = "a layer that is made already" if isinstance(thing, nn.Module) else type(thing).__name__
        raise LayerError(
            f"{place}: {name} is {kind}; checks need fresh layers.",
            fix=f"name its class, or a function: def make(num_features, dim): return {name.title()}(...)",
        )
    return thing, name


def _check_signature(target: Target) -> None:
    """Raises LayerError where the layer needs more than its number of channels."""
    parameters = _parameters(target.factory)
    given = set(target.options().values())
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
    signature = f"{target.name}{inspect.signature(target.factory)}"
    why = (
        f"It needs {', '.join(missing)} besides the number of channels."
        if missing
        else "It takes no number of channels as its first argument."
    )
    raise LayerError(
        f"{target.file or target.name}: bnbench can't call {signature}.",
        why,
        "add a function that makes it, and name that one: "
        f"def make(num_features, dim): return {target.name}({'num_features, ' * bool(missing)}...)  "
        "(dim is 1 for (N, C), 2 for (N, C, H, W), 3 for (N, C, D, H, W))",
    )


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # written in C, or a strange callable: it says itself what it lacks
        return {"num_features": inspect.Parameter("num_features", inspect.Parameter.POSITIONAL_ONLY)}


def _call(name: str, num_features: int, dim: tuple[int, ...], options: Mapping[str, float | None]) -> str:
    words = [
        str(num_features),
        *map(str, dim),
        *(f"{key}={_number(value)}" for key, value in options.items()),
    ]
    return f"{name}({', '.join(words)})"


def _number(value: float | None) -> str:
    return "None" if value is None else f"{value:g}"
