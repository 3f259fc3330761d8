"""Typed options as JSON has them: every default written out, relative paths made absolute."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from bnbench.base.options import kinds_of
from bnbench.base.registry import Entry


def to_plain(value: Any, absolute: Callable[[PurePath], str]) -> Any:
    """absolute: converts a path, anywhere in the value. Raises ValueError where JSON can't hold the value."""

    def convert(value: Any) -> Any:
        if isinstance(value, PurePath):
            return absolute(value)
        if isinstance(value, BaseModel):
            return {name: convert(getattr(value, name)) for name in type(value).model_fields}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: convert(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {str(to_jsonable_python(key)): convert(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [convert(item) for item in value]
        if isinstance(value, set | frozenset):
            return sorted((convert(item) for item in value), key=repr)
        return to_jsonable_python(value)

    return convert(value)


def absolute_path(value: PurePath, folder: PurePath) -> str:
    """A path of a study: `~` is the user's home, and a relative path is in `folder`. Raises ValueError."""
    expanded = os.path.expanduser(value)
    if expanded.startswith("~"):
        raise ValueError(f"{value}: there is no such user's home")
    return os.path.abspath(os.path.join(folder, expanded))


def with_paths(key: str, value: Any, vocabulary: Mapping[str, Mapping[str, Entry]], folder: PurePath) -> Any:
    """A swept value, or the options in it, with every path made absolute: so it means the same from everywhere."""
    section, _, option = key.partition(".")
    if isinstance(value, dict):
        return {
            inner: with_paths(f"{key}.{inner}", item, vocabulary, folder) for inner, item in value.items()
        }
    entries = vocabulary.get(section, {}).values()
    fields = [
        entry.options().model_fields[option] for entry in entries if option in entry.options().model_fields
    ]
    kinds = {kind for field in fields for kind in kinds_of(field.annotation)}
    if (
        isinstance(value, str)
        and not value.startswith("hf://")
        and any(isinstance(k, type) and issubclass(k, PurePath) for k in kinds)
    ):
        with suppress(ValueError):  # reported where the value is checked
            return absolute_path(PurePath(value), folder)
    return value
