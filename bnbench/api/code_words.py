"""Words of overrides that name the user's own code: where a normalizer or a model is chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnbench.base.errors import ConfigError
from bnbench.base.own_modules import forget
from bnbench.base.reached import Module, locate
from bnbench.base.user_file import outdated
from bnbench.study.yaml_source import read_value


def chosen_words(overrides: Sequence[str], kind: str, names_it: Callable[[object], bool]) -> dict[str, str]:
    """The words that name code where one of this kind is chosen, and the override that each stands in."""
    words: dict[str, str] = {}
    for text in overrides:
        key, _, written = text.partition("=")
        try:
            value = read_value(written, key.strip())
        except ConfigError:
            continue  # reported where the study is read
        for name in _chosen_in(tuple(key.strip().split(".")), value, kind):
            if names_it(name):
                words.setdefault(name, text)
    return words


def _chosen_in(path: tuple[str, ...], value: Any, kind: str) -> Iterator[Any]:
    """What is chosen of that kind in the value of a key, wherever in it that is."""
    if path[-1] == kind or (path == ("variants",) and kind == "norm"):
        for item in value if isinstance(value, list) else [value]:
            yield item.get("name") if isinstance(item, dict) and path[-1] == kind else item
    if path[-2:] == (kind, "name"):
        yield from value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _chosen_in((*path, *str(key).split(".")), item, kind)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _chosen_in((*path, ""), item, kind)


def forget_changed(word: str) -> None:
    """Let a module of the user's own that changed since it was loaded be loaded again."""
    place = word.rpartition(":")[0]
    module = None if place.endswith(".py") or os.sep in place else locate(place)
    if module and module.file:
        forget(
            outdated(Module(place, module.file, module.package, module.folders), os.path.dirname(module.file))
        )


def names_by_place(things: Mapping[str, tuple[Path | None, str, str]]) -> dict[str, str]:
    """my_layers.py:MyNorm for each, wherever the file lies; with its folder where two files have that name."""
    names: dict[str, str] = {}
    files = {word: file.resolve() if file else None for word, (file, _, _) in things.items()}
    for word, (_, place, name) in things.items():
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
