"""Checks one variant's settings against their types and against what is registered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bnbench.config.merge import Layer
from bnbench.config.schema import CHOICES, DEFAULT_CHOICES, SECTIONS, STUDY_KEYS, Choice, Settings
from bnbench.config.yaml_source import Path_
from bnbench.errors import Mistake, nearest, unknown_name
from bnbench.registry import Entry, means_none

#: For each of CHOICES, what is registered: the command line, which sees everything, hands it in.
Vocabulary = Mapping[str, Mapping[str, Entry]]

_KINDS = {"dataset": "data set", "norm": "norm"}


def check_settings(
    layer: Layer, vocabulary: Vocabulary, mistakes: list[Mistake], folder: Path
) -> Settings | None:
    """The typed settings of one layer, or None where there are mistakes (which are added to the list).

    folder: relative paths in a study's file are relative to the file's own folder.
    """
    before = len(mistakes)
    values: dict[str, Any] = {}
    for key, value in layer.data.items():
        if key in CHOICES:
            continue
        if key in STUDY_KEYS:
            mistakes.append(
                Mistake(layer.place((key,)), f"{key} belongs to the study, no variant may change it.")
            )
        else:
            values[key] = value
    for key in CHOICES:
        choice = _check_choice(key, layer, vocabulary[key], mistakes, folder)
        if choice:
            values[key] = choice
    settings = _validated(Settings, values, (), layer, mistakes, given_choices=True)
    _check_batch_of_one(values, layer, vocabulary, mistakes)
    return settings if isinstance(settings, Settings) and len(mistakes) == before else None


def _check_choice(
    key: str, layer: Layer, entries: Mapping[str, Entry], mistakes: list[Mistake], folder: Path
) -> Choice | None:
    """One registered name with its options."""
    kind, here = _KINDS.get(key, key), layer.place((key,))
    if key not in layer.data and key not in DEFAULT_CHOICES:
        mistakes.append(Mistake(here, f"{key} is missing. Known: {', '.join(sorted(entries))}."))
        return None
    given = layer.data.get(key, DEFAULT_CHOICES.get(key))
    options = dict(given) if isinstance(given, dict) else {"name": given}
    name = options.pop("name", DEFAULT_CHOICES.get(key))
    if key == "norm" and means_none(name):
        name = "none"
    if not isinstance(name, str) or name not in entries:
        what = unknown_name(kind, str(name), entries) if name is not None else f"{key}.name is missing."
        mistakes.append(Mistake(layer.place((key, "name")), what))
        return None
    checked = _validated(entries[name].options(), options, (key,), layer, mistakes, section=f"{key} {name}")
    if checked is None:
        return None
    return Choice(name=name, options=_plain(checked, key, layer, folder))


def _plain(options: BaseModel, key: str, layer: Layer, folder: Path) -> dict[str, Any]:
    """JSON-like values, every default written out, relative paths made absolute."""
    plain: dict[str, Any] = options.model_dump(mode="json")
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, Path):
            value = value.expanduser()
            from_file = layer.place((key, name)) != "command line"
            plain[name] = os.path.abspath(folder / value if from_file else value)
    return plain


def _validated(
    model: type[BaseModel],
    values: Mapping[str, Any],
    prefix: Path_,
    layer: Layer,
    mistakes: list[Mistake],
    section: str = "",
    given_choices: bool = False,
) -> BaseModel | None:
    """The model's instance, or None with one Mistake for each of its faults."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if given_choices and detail["type"] == "missing" and detail["loc"][0] in CHOICES:
                continue  # said already, by _check_choice
            unknown = detail["type"] == "extra_forbidden"
            path = (*prefix, *(str(part) for part in detail["loc"] if unknown or not _is_tag(part)))
            mistakes.append(Mistake(layer.place(path), _message(detail, path, model, section)))
        return None


def _is_tag(part: int | str) -> bool:
    """pydantic names the branch of a union that it tried: "literal['epoch']", "constrained-int"."""
    return isinstance(part, str) and (
        "[" in part or part in ("int", "float", "str", "constrained-int", "bool")
    )


def _message(detail: ErrorDetails, path: Path_, model: type[BaseModel], section: str) -> str:
    """One sentence in the user's words: the key, the value, what is wanted."""
    key, value, context = ".".join(path), detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(path, model, section)
        case "missing":
            return f"{key} is missing."
        case "literal_error":
            return f"{key}: {value!r} is not one of {context['expected'].replace(chr(39), '')}."
        case "value_error":
            return f"{key}: {value!r} is wrong: {context['error']}."
    wanted = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{key}: {value!r} is wrong: it should be {wanted}."


def _unknown_key(path: Path_, model: type[BaseModel], section: str) -> str:
    """The unknown key, the nearest one, and those that its section knows."""
    unknown = path[-1]
    if model is Settings and len(path) > 1:
        model, section = SECTIONS[path[0]], path[0]
    known = set(model.model_fields)
    if model is Settings:
        known |= set(STUDY_KEYS)
    guess = nearest(unknown, known)
    hint = f' Did you mean "{guess}"?' if guess else ""
    place = f" in {section}" if section else ""
    return f'unknown key "{unknown}"{place}.{hint} Known: {", ".join(sorted(known)) or "no options"}.'


def _check_batch_of_one(
    values: Mapping[str, Any], layer: Layer, vocabulary: Vocabulary, mistakes: list[Mistake]
) -> None:
    norm = values.get("norm")
    if not norm or values.get("batch_size") != 1 or not vocabulary["norm"][norm.name].facts.needs_batch:
        return
    mistakes.append(
        Mistake(
            layer.place(("batch_size",)),
            f"batch_size: 1 with norm: {norm.name}: one sample has no variance to normalise with. "
            "Fix one: batch_size: 2 or more, norm: none, or a normalizer that looks at one sample "
            "(layer, group).",
        )
    )
