"""Networks in a user's file: a class, a function that returns a network, or a network that is built already."""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bnbench.base.errors import BnbenchError, nearest
from bnbench.base.named_code import Importer, Thing
from bnbench.base.process_state import seeded
from bnbench.base.reached import module_of, reach
from bnbench.base.user_code import guarded
from bnbench.network.source.arguments import Signature
from bnbench.network.source.origin import Origin
from bnbench.norms.behaviour import CPU

MODEL = Thing("network", "my_model.py", "Net", BnbenchError)
#: An option of a network in a file is given so.
HOW = "{word},{{}}"


def in_file(place: str, name: str, load: Importer | None = None) -> Origin:
    """The network of that name in a file; without a name, the only class of a network that the file defines.

    load: imports the file. What it draws while it is imported follows from no seed but 0. Raises BnbenchError.
    """
    path = Path(place).expanduser()
    MODEL.refuse_other_files(path, name or "Net")
    with guarded(), seeded(0, CPU):
        module = MODEL.import_path(path, load)
    name = name or _only(module, path)
    if not hasattr(module, name):
        raise _missing(module, path, name)
    thing = getattr(module, name)
    how = HOW.format(word=f"{place}:{name}")
    content = _content(module)
    if isinstance(thing, nn.Module):
        return Origin(
            str(path),
            name,
            lambda: copy.deepcopy(thing),
            Signature(name, {}),
            content,
            how,
            file=path,
            module=module,
            ready=True,
        )
    if not callable(thing):
        raise BnbenchError(
            f"{path}: {name} is of type {type(thing).__name__}, not a network.",
            fix=f"name a class, a function that returns a network, or a network. {_networks_text(module)}",
        )
    if inspect.isclass(thing) and not issubclass(thing, nn.Module):
        raise BnbenchError(
            f"{path}: {name} is a class that is no torch.nn.Module.",
            fix=f"name a network, or a function that returns one. {_networks_text(module)}",
        )
    return Origin(str(path), name, thing, Signature.of(name, thing), content, how, file=path, module=module)


def of_object(thing: Any) -> Origin:
    """The same for a class or a function that Python code has at hand. Raises BnbenchError."""
    name = getattr(thing, "__qualname__", None) or type(thing).__name__
    if not callable(thing) or isinstance(thing, nn.Module):
        kind = "a network that is built already" if isinstance(thing, nn.Module) else repr(thing)
        raise BnbenchError(
            f"model: {kind}; what makes fresh networks is needed.",
            "Each seed starts from initial weights of its own.",
            "model=Net, its class, or a function that returns it; or the word of a file, model='my_model.py:Net'.",
        )
    file = inspect.getsourcefile(thing) if inspect.isroutine(thing) or inspect.isclass(thing) else None
    return Origin(
        f"model {name}",
        name,
        thing,
        Signature.of(name, thing),
        lambda: "",
        'overrides={{"model.{}"}}',
        file=Path(file) if file else None,
    )


def _content(module: ModuleType) -> Callable[[], str]:
    """The hash of the file and of all that it imports of the user's own."""

    def content() -> str:
        start = module_of(module)
        parts = reach([start]).content() if start else {}
        return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()[:16]

    return content


def _networks(module: ModuleType) -> Iterator[str]:
    """What the file defines that is, or may make, a network: classes first, then networks, then functions."""
    own = [
        (key, value)
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", module.__name__) == module.__name__
    ]
    yield from (key for key, value in own if inspect.isclass(value) and issubclass(value, nn.Module))
    yield from (
        key for key, value in vars(module).items() if isinstance(value, nn.Module) and not key.startswith("_")
    )
    yield from (key for key, value in own if inspect.isfunction(value))


def _networks_text(module: ModuleType) -> str:
    names = list(dict.fromkeys(_networks(module)))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"It has {', '.join(names[:8])}{more}." if names else "It defines no class and no function."


def _only(module: ModuleType, path: Path) -> str:
    classes = [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]
    if len(classes) == 1:
        return classes[0]
    example = classes[-1] if classes else "Net"
    raise BnbenchError(
        f"{path}: which of its networks? {_networks_text(module)}"
        if classes
        else f"{path}: it defines no class of a network. {_networks_text(module)}",
        fix=f"{os.fspath(path)}:{example}"
        if classes
        else f"define one, class {example}(torch.nn.Module), or a function that returns one; then name it.",
    )


def _missing(module: ModuleType, path: Path, name: str) -> BnbenchError:
    names = list(dict.fromkeys(_networks(module)))
    guess = nearest(name, names) or nearest(name, [key for key in vars(module) if not key.startswith("_")])
    hint = f' Did you mean "{guess}"?' if guess else ""
    return BnbenchError(
        f'{path}: there is no "{name}" in it.{hint}',
        _networks_text(module),
        f"{path}:{guess or names[0]}"
        if guess or names
        else f"define it there, class {name}(torch.nn.Module).",
    )
