"""Layers that overrides name by their code: `variants.mine.norm=my_layers.py:MyNorm`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bnbench.base.errors import BnbenchError, ConfigError, Mistake
from bnbench.base.kinds import KIND_OF
from bnbench.base.own_modules import FINDER, forget
from bnbench.base.reached import Module, locate
from bnbench.base.registry import registering
from bnbench.base.user_code import guarded
from bnbench.base.user_file import import_file, outdated
from bnbench.study.layer_names import names_code
from bnbench.study.overrides import place_of
from bnbench.study.yaml_source import read_value

Load = Callable[[Path], ModuleType]


@dataclass(frozen=True)
class Layers:
    """names: of the normalizers, by the word that the user wrote. modules: by the name of their plugin."""

    names: Mapping[str, str]
    modules: Mapping[str, ModuleType]

    def overrides(self, texts: Sequence[str]) -> tuple[str, ...]:
        """With the normalizers' names in place of the words."""
        if not self.names:
            return tuple(texts)
        longest = sorted(self.names, key=len, reverse=True)
        pattern = re.compile(rf"(?<![\w./~-])({'|'.join(map(re.escape, longest))})(?![\w:])")
        return tuple(
            f"{key}{equals}{pattern.sub(lambda match: self.names[match[1]], value)}"
            for key, equals, value in (text.partition("=") for text in texts)
        )


def words_in(overrides: Sequence[str]) -> dict[str, str]:
    """The words that name code where a normalizer is chosen, and the override that each stands in."""
    words: dict[str, str] = {}
    for text in overrides:
        key, _, written = text.partition("=")
        try:
            value = read_value(written, key.strip())
        except ConfigError:
            continue  # reported where the study is read
        for name in _norms_in(tuple(key.strip().split(".")), value):
            if names_code(name):
                words.setdefault(name, text)
    return words


def _norms_in(path: tuple[str, ...], value: Any) -> Iterator[Any]:
    """What is chosen as a normalizer in the value of a key, wherever in it that is."""
    if path[-1] == "norm" or path == ("variants",):
        for item in value if isinstance(value, list) else [value]:
            yield item.get("name") if isinstance(item, dict) and path[-1] == "norm" else item
    if path[-2:] == ("norm", "name"):
        yield from value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _norms_in((*path, *str(key).split(".")), item)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _norms_in((*path, ""), item)


def absolute(words: Sequence[str]) -> tuple[str, ...]:
    """The same words from any folder."""
    return tuple(_absolute(word) for word in words)


def _absolute(word: str) -> str:
    place, colon, name = (word, "", "") if word.endswith(".py") else word.rpartition(":")
    return f"{Path(place).expanduser().absolute()}{colon}{name}" if place.endswith(".py") else word


def register_layers(words: Mapping[str, str], load: Load | None = None) -> Layers:
    """Find the layers of these words, and register each as a normalizer.

    words: as `words_in` gives them. load: imports a file; by default as a plugin. Raises LayerError for one that is
    wrong, ConfigError with all that are.
    """
    from bnbench.norms.named import find_layer
    from bnbench.norms.named_factory import factory_of

    norms = KIND_OF["norm"].registry()
    layers, errors = {}, list[tuple[str, BnbenchError]]()
    for word, text in words.items():
        if word in norms.names():
            continue
        try:
            with guarded(), FINDER.importing(os.getcwd()):
                _forget_changed(word)
                layer = find_layer(word, load or import_layer_file)
                layers[word] = layer, factory_of(layer)
        except BnbenchError as error:
            errors.append((text, error))
    if len(errors) > 1:
        raise ConfigError([Mistake(place_of(text), str(error)) for text, error in errors])
    if errors:
        raise errors[0][1]
    names = _names({word: (layer.file, layer.place, layer.name) for word, (layer, _) in layers.items()})
    modules: dict[str, ModuleType] = {}
    registered: set[str] = set()
    for word, (layer, factory) in layers.items():
        assert layer.module is not None
        modules[layer.module.__name__] = layer.module
        if names[word] not in registered:
            with registering(layer.module.__name__):
                norms.register(names[word])(factory)
            registered.add(names[word])
    return Layers(names, modules)


def import_layer_file(path: Path) -> ModuleType:
    """Load the file as a plugin, so that its registrations belong to a plugin."""
    return import_file(path, "bnbench_plugin", registering)


def _forget_changed(word: str) -> None:
    """Let a module of the user's own that changed since it was loaded be loaded again."""
    place = word.rpartition(":")[0]
    module = None if place.endswith(".py") or os.sep in place else locate(place)
    if module and module.file:
        forget(
            outdated(Module(place, module.file, module.package, module.folders), os.path.dirname(module.file))
        )


def _names(layers: Mapping[str, tuple[Path | None, str, str]]) -> dict[str, str]:
    """my_layers.py:MyNorm for each, wherever the file lies; with its folder where two files have that name."""
    names: dict[str, str] = {}
    files = {word: file.resolve() if file else None for word, (file, _, _) in layers.items()}
    for word, (_, place, name) in layers.items():
        file = files[word]
        if file is None:
            names[word] = f"{place}:{name}"
            continue
        others = {other for other in files.values() if other and other != file}
        depth = 1
        while any(other.parts[-depth:] == file.parts[-depth:] for other in others):
            depth += 1
        names[word] = f"{'/'.join(file.parts[-depth:])}:{name}"
    return names
