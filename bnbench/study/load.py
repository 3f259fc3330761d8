"""From a source (YAML and overrides) to a `Study`: variants merged, every value checked, all mistakes at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnbench.base.errors import ConfigError, Mistake
from bnbench.study.changes import NO_CHANGE, Given, changes
from bnbench.study.check import Vocabulary
from bnbench.study.dict_source import read_dict
from bnbench.study.overrides import COMMAND_LINE
from bnbench.study.resolver import Resolver
from bnbench.study.schema import Study
from bnbench.study.yaml_source import Source, read_file


def load_study(
    given: Path | Mapping[str, Any],
    overrides: Sequence[str],
    vocabulary: Vocabulary,
    origin: str = COMMAND_LINE,
) -> Study:
    """Read and check a study, from a file or a dict.

    overrides: "key=value", the key dotted, the value read as YAML; they change what all variants
    share. origin: where the overrides stand. Raises ConfigError with every mistake.
    """
    return _load(given, overrides, vocabulary, origin, Resolver.study)


def load_inner_study(
    source: Source, path: Path, overrides: Sequence[str], vocabulary: Vocabulary, origin: str = COMMAND_LINE
) -> Study:
    """Check a study that is a part of a file, whose name it has. Raises ConfigError with every mistake."""
    return _checked(source, path, vocabulary, overrides, origin, Resolver.study)


def load_variant(
    given: Path | Mapping[str, Any],
    variant: str | None,
    overrides: Sequence[str],
    vocabulary: Vocabulary,
    origin: str = COMMAND_LINE,
) -> Study:
    """Read and check one variant of a study (default: its first), as a study of its own without a sweep.

    overrides: as in `load_study`, but they have the last word, over the variant's own settings.
    """
    foreign = [text for text in overrides if text.startswith(("variants.", "variants="))]
    if foreign:
        problem = "train has one variant; name the key alone."
        raise ConfigError([Mistake(origin, f"{text}: {problem}") for text in foreign])
    return _load(given, overrides, vocabulary, origin, lambda resolver: resolver.one_variant(variant))


def _load(
    given: Path | Mapping[str, Any],
    overrides: Sequence[str],
    vocabulary: Vocabulary,
    origin: str,
    read: Callable[[Resolver], Study],
) -> Study:
    """The checked study, with the changes of the overrides, from a file or a dict."""
    source, path = (read_dict(given), None) if isinstance(given, Mapping) else (read_file(given), given)
    return _checked(source, path, vocabulary, overrides, origin, read)


def _checked(
    source: Source,
    path: Path | None,
    vocabulary: Vocabulary,
    overrides: Sequence[str],
    origin: str,
    read: Callable[[Resolver], Study],
) -> Study:
    """The checked study of a source that stands in this file."""
    untouched = copy.deepcopy(source) if overrides else None
    resolver = Resolver(source, path, vocabulary, overrides, origin)
    study, words = read(resolver), resolver.overrides
    if "name" not in words.keys:
        study = replace(study, home=_home(path))
    if untouched is None or set(words.keys) <= NO_CHANGE:
        return study
    try:
        own = read(Resolver(untouched, path, vocabulary, (), origin))
    except ConfigError:  # the overrides make it a study
        own = None
    given_words = Given(words.settings, words.variants, words.keys)
    added = [name for name in study.variants if own and name not in own.variants]
    return replace(study, changes=changes(study, own, given_words, vocabulary), added=tuple(added))


def _home(path: Path | None) -> Path | None:
    """The results folder that holds this very study, resolved; None for any other."""
    inside = path is not None and path.name == "study.yaml" and (path.parent / "plan.json").is_file()
    if not (path and inside):
        return None
    return path.parent if path.parent.name else path.parent.absolute()
