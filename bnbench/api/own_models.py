"""Networks that overrides, --model and `model=` name by their code: registered as models for one call."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bnbench.api.code_words import chosen_words, forget_changed, names_by_place
from bnbench.base.errors import BnbenchError, ConfigError, Mistake
from bnbench.base.files import key_text
from bnbench.base.kinds import KIND_OF
from bnbench.base.own_modules import FINDER
from bnbench.base.registry import registering
from bnbench.base.user_code import guarded
from bnbench.study import Study
from bnbench.study.layer_names import names_network
from bnbench.study.overrides import place_of
from bnbench.study.yaml_source import read_value

if TYPE_CHECKING:
    from bnbench.network.source.origin import Origin

Load = Callable[[Path], ModuleType]
#: The plugin of networks that only the calling program holds, so that no worker can load them.
LOCAL = "the calling program"


@dataclass(frozen=True)
class OwnModels:
    """values: by the word that the user wrote, what a study is given. modules: by the name of their plugin."""

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    modules: Mapping[str, ModuleType] = field(default_factory=dict)

    def overrides(self, texts: Sequence[str]) -> tuple[str, ...]:
        """With what a study is given in place of the words."""
        return tuple(map(self._override, texts)) if self.values else tuple(texts)

    def _override(self, text: str) -> str:
        key, equals, value = text.partition("=")
        if value.strip() in self.values and not key.strip().endswith("name"):
            return f"{key}{equals}{key_text(self.values[value.strip()])}"
        longest = sorted((word for word in self.values if "," not in word), key=len, reverse=True)
        if not longest:
            return text
        pattern = re.compile(rf"(?<![\w./~-])({'|'.join(map(re.escape, longest))})(?![\w:,]\w)")
        return f"{key}{equals}{pattern.sub(lambda match: key_text(self.values[match[1]]), value)}"


def model_words(overrides: Sequence[str]) -> dict[str, str]:
    """The words that name a network where a model is chosen, and the override that each stands in."""
    return chosen_words(overrides, "model", names_network)


def absolute_model(word: str) -> str:
    """The same word from any folder."""
    head, comma, options = word.partition(",")
    place, colon, name = (head, "", "") if head.endswith(".py") else head.rpartition(":")
    if not place.endswith(".py"):
        return word
    return f"{Path(place).expanduser().absolute()}{colon}{name}{comma}{options}"


def _check_needs(origin: Origin, options: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raises BnbenchError for an argument of the factory that nothing gives."""
    from bnbench.network.source.arguments import KNOWN

    given = {text.partition("=")[0].strip().rpartition("model.")[2] for text in overrides}
    missing = [
        name
        for name, parameter in origin.signature.parameters.items()
        if parameter.default is parameter.empty and name not in {*options, *given, *KNOWN}
    ]
    if missing:
        raise BnbenchError(
            f"{origin.place}: {origin.name} needs {', '.join(missing)}, which nothing gives.",
            "The data give the number of classes, the channels and the like, by their usual names.",
            f"{origin.how.format(f'{missing[0]}=...')}; or a default in its signature.",
        )


def register_models(
    words: Mapping[str, str], load: Load, overrides: Sequence[str] | None = None
) -> OwnModels:
    """Find the networks of these words, and register those of files as models.

    words: as `model_words` gives them. load: imports a file. overrides: all of them; None where
    they were checked before. Raises BnbenchError for one that is wrong, ConfigError
    with all that are.
    """
    if not words:
        return OwnModels()
    from bnbench.models.own_file import factory_of
    from bnbench.network.source.load import find_origin
    from bnbench.network.source.words import read_word

    found, errors = {}, list[tuple[str, BnbenchError]]()
    for word, text in words.items():
        try:
            read = read_word(word)
            with guarded(), FINDER.importing(os.getcwd()):
                forget_changed(word)
                found[word] = read, (origin := find_origin(read, load))
            if origin.module is not None and overrides is not None:
                _check_needs(origin, read.options, overrides)
        except BnbenchError as error:
            errors.append((text, error))
    if len(errors) > 1:
        raise ConfigError([Mistake(place_of(text), str(error)) for text, error in errors])
    if errors:
        raise errors[0][1]
    of_files = {
        word: (origin.file, origin.place, origin.name) for word, (_, origin) in found.items() if origin.file
    }
    names = names_by_place(of_files)
    values: dict[str, Mapping[str, Any]] = {}
    modules: dict[str, ModuleType] = {}
    registered: set[str] = set()
    for word, (read, origin) in found.items():
        if origin.module is None:
            chooses = "config" if read.provider == "hf" else "arch"
            options = {"options": dict(read.options)} if read.options else {}
            values[word] = {"name": read.provider, chooses: origin.name, **options}
            continue
        modules[origin.module.__name__] = origin.module
        values[word] = {"name": names[word], **read.options}
        if names[word] not in registered:
            _register(names[word], factory_of(origin), origin.module.__name__)
            registered.add(names[word])
    return OwnModels(values, modules)


def check_model(study: Study, overrides: Sequence[str]) -> None:
    """Raises ConfigError where --model is given, and a variant or the sweep has a model of its own.

    overrides: with what a study is given in place of the words.
    """
    given = [text for text in overrides if text.partition("=")[0].strip() == "model"]
    if not given:
        return
    value = read_value(given[-1].partition("=")[2], "model")
    name = value.get("name") if isinstance(value, dict) else value
    mistakes = [
        Mistake(
            f"variant {cell.variant}",
            f"model: {cell.settings.model.name}: it has a model of its own, which {name} does not replace. Fix: "
            "a study whose variants differ in their norm alone, or variants.NAME.model=my_model.py:Net for each.",
        )
        for cell in study.cells
        if name is not None and cell.settings.model.name != name
    ]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))


def _register(name: str, factory: Callable[..., Any], plugin: str) -> None:
    with registering(plugin):
        KIND_OF["model"].registry().register(name, init="own", whole=True)(factory)


def model_override(word: str) -> str:
    """The override that a MODEL word stands for. Raises BnbenchError for an empty one, or one that can't be read."""
    from bnbench.network.source.words import EXAMPLES, read_word

    if not word.strip():
        raise BnbenchError("--model is empty: it names no network.", fix=f"for example {EXAMPLES}.")
    if (":" in word or ".py" in word) and not word.lstrip().startswith("{"):
        read_word(word)
    return f"model={word}"


def with_model(overrides: Sequence[str], model: Any) -> tuple[list[str], dict[str, Any]]:
    """The overrides with the argument `model`, and the object that is to be registered by its name, if it is one.

    model: a word, or a class or a function that makes the network. One that a file defines is named by its file, so
    that other processes can load it. Raises BnbenchError.
    """
    if model is None:
        return list(overrides), {}
    if isinstance(model, str | os.PathLike):
        return [*overrides, model_override(os.fspath(model))], {}
    from bnbench.network.source.files import of_object

    origin = of_object(model)
    if word := _word_of(model):
        return [*overrides, f"model={word}"], {}
    name = re.sub(r"\W+", "_", origin.name).strip("_") or "network"
    return [*overrides, f"model={key_text({'name': name})}"], {name: model}


def _word_of(model: Any) -> str:
    """FILE.py:NAME, where importing that file by itself gives it; "" else."""
    module = sys.modules.get(getattr(model, "__module__", "") or "")
    name = getattr(model, "__qualname__", "")
    file = getattr(module, "__file__", None) or ""
    alone = (
        module is not None
        and module.__name__ != "__main__"
        and not module.__package__
        and file.endswith(".py")
    )
    return f"{file}:{name}" if alone and getattr(module, name, None) is model else ""


def register_objects(objects: Mapping[str, Any]) -> None:
    """Networks of the calling program by their names. Raises BnbenchError."""
    from bnbench.models.own_file import factory_of
    from bnbench.network.source.files import of_object

    for name, thing in objects.items():
        factory = factory_of(of_object(thing))
        factory.__module__ = getattr(thing, "__module__", None) or "__main__"
        _register(name, factory, LOCAL)
