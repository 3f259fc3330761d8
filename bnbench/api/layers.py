"""Layers that overrides name by their code: `variants.mine.norm=my_layers.py:MyNorm`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bnbench.api.code_words import chosen_words, forget_changed, names_by_place
from bnbench.base.errors import BnbenchError, ConfigError, Mistake
from bnbench.base.kinds import KIND_OF
from bnbench.base.own_modules import FINDER
from bnbench.base.registry import registering
from bnbench.base.user_code import guarded
from bnbench.base.user_file import import_file
from bnbench.study.layer_names import names_code
from bnbench.study.overrides import place_of

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
    return chosen_words(overrides, "norm", names_code)


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
                forget_changed(word)
                layer = find_layer(word, load or import_layer_file)
                layers[word] = layer, factory_of(layer)
        except BnbenchError as error:
            errors.append((text, error))
    if len(errors) > 1:
        raise ConfigError([Mistake(place_of(text), str(error)) for text, error in errors])
    if errors:
        raise errors[0][1]
    names = names_by_place(
        {word: (layer.file, layer.place, layer.name) for word, (layer, _) in layers.items()}
    )
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
