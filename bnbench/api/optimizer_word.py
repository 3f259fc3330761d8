"""The optimizers that train a network: as given, or made by a function that a word names."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bnbench.base.errors import BnbenchError, nearest
from bnbench.base.user_code import guarded, raise_interrupt, text_of
from bnbench.base.user_file import import_file, line_of

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

_FIX = (
    "--optimizer train.py:make, with "
    "`def make(model): return torch.optim.SGD(model.parameters(), lr=0.1)` in it"
)


def optimizers_of(
    given: Optimizer | Iterable[Optimizer] | str | None, model: nn.Module
) -> tuple[Optimizer, ...]:
    """One, several or none. A word names a function of the model, or of its parameters. Raises BnbenchError."""
    from torch.optim import Optimizer

    if given is None:
        return ()
    made: Any = _made(given, model) if isinstance(given, str) else given
    if isinstance(made, Optimizer):
        return (made,)
    made = tuple(made.values()) if isinstance(made, dict) else made
    made = tuple(made) if isinstance(made, Iterable) else (made,)
    if wrong := [one for one in made if not isinstance(one, Optimizer)] or not made:
        what = type(wrong[0]).__name__ if isinstance(wrong, list) else "nothing"
        where = f"{given} gave" if isinstance(given, str) else "optimizer:"
        raise BnbenchError(f"{where} {what}, not a torch.optim.Optimizer.", fix=_FIX)
    return cast(tuple[Any, ...], made)


def _made(word: str, model: nn.Module) -> Any:
    file, colon, name = word.rpartition(":")
    path = Path(os.path.expanduser(file))
    if not colon or not name or not file:
        raise BnbenchError(f"--optimizer {word}: it is not FILE.py:NAME.", fix=_FIX)
    if not path.is_file():
        raise BnbenchError(f"--optimizer {word}: there is no file {file}.", fix=_FIX)
    make = _function(path, name, word)
    argument = model.parameters() if _takes_parameters(make) else model
    try:
        with guarded():
            return make(argument)
    except BaseException as error:
        raise_interrupt(error)
        line = line_of(error, path)
        place = word if line == "?" else f"{path}:{line}"
        raise BnbenchError(
            f"--optimizer {place}: {text_of(error)}", f"{name}(model) was called.", _FIX
        ) from error


def _function(path: Path, name: str, word: str) -> Callable[..., Any]:
    try:
        with guarded():
            module = import_file(path, "bnbench_optimizer")
    except BaseException as error:
        raise_interrupt(error)
        raise BnbenchError(f"--optimizer {path}:{line_of(error, path)}: {text_of(error)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        guess = nearest(name, own)
        hint = f' Did you mean "{guess}"?' if guess else ""
        kind = "it has no such name" if found is None else f"{name} is no function"
        known = ", ".join(own) or "no function"
        raise BnbenchError(f"--optimizer {word}: {kind}.{hint}", f"It defines: {known}.", _FIX)
    return cast(Callable[..., Any], found)


def _takes_parameters(make: Callable[..., Any]) -> bool:
    """Whether its first argument is called after parameters, as those of torch's optimizers are."""
    try:
        first = next(iter(inspect.signature(make).parameters), "")
    except (TypeError, ValueError):
        return False
    return first.startswith("param")
