"""The options of a factory: its keyword-only parameters, as a typed model that a study's values are checked by.

The help of an option is its description (`Annotated[float, Field(description="...")]`), or its line in the factory's
docstring (`name: what it does`).
"""

from __future__ import annotations

import enum
import inspect
import os
import re
import types
import typing
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Union

if TYPE_CHECKING:
    from pydantic import BaseModel


class OptionFaults(ValueError):
    """Options that do not go together, or that the factory refuses. faults: the path of each within them, and why."""

    def __init__(self, faults: Sequence[tuple[tuple[str, ...], str]]) -> None:
        self.faults = tuple(faults)
        super().__init__(" ".join(text for _, text in self.faults))


def options_model(name: str, factory: Callable[..., Any]) -> type[BaseModel]:
    """A model of the factory's keyword-only parameters; refuses unknown keys. Raises the error of a type hint."""
    from pydantic import ConfigDict, Field, create_model

    hints = _hints(factory)
    parameters = inspect.signature(factory).parameters.values()
    helps = documented(inspect.getdoc(factory) or "", {parameter.name for parameter in parameters})
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if parameter.name == "name":
            raise TypeError('an option can\'t be called "name", which chooses the factory')
        hint = hints.get(parameter.name, Any)
        if parameter.default is None:
            hint = hint | None  # `size: int = None` means that
        default = ... if parameter.default is parameter.empty else parameter.default
        text = description_of(hint) or helps.get(parameter.name)
        fields[parameter.name] = (_as_written(hint), Field(default, description=text))
    config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Field name .* shadows")
        return create_model(name, __config__=config, **fields)


def unreadable_option(factory: Callable[..., Any]) -> str:
    """The first option whose type no value of a study can have, and that type; "" where it is something else."""
    from pydantic import TypeAdapter

    try:
        hints = _hints(factory)
        options = [p.name for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]
    except Exception:
        return ""
    for option in options:
        try:
            TypeAdapter(hints.get(option, Any))
        except Exception:
            return f"{option} is of the type {getattr(hints[option], '__name__', hints[option])}"
    return ""


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    """The types of its parameters; a class, such as a task, is called by its __init__."""
    called = vars(factory).get("__init__", factory) if isinstance(factory, type) else factory
    return typing.get_type_hints(called, include_extras=True)


def _as_written(hint: Any) -> Any:
    """The same type, but where a number is wanted, true is not 1; where none is allowed, its words mean it."""
    from pydantic import BeforeValidator

    inner = set(_inner_kinds(hint))
    numeric = bool(inner & {int, float}) and bool not in inner
    optional = is_optional_number(hint)

    def read(value: Any) -> Any:
        if numeric and _holds_a_bool(value):
            no_bool(True)
        return None if optional and means_none(value) else value

    return Annotated[hint, BeforeValidator(read)] if numeric or optional else hint


def is_optional_number(hint: Any) -> bool:
    """Whether none is allowed, and no other word is: then a study's words for none mean it."""
    kinds = set(kinds_of(hint))
    return type(None) in kinds and not kinds & {str, bool, Any} and not any(map(_has_words, kinds))


def kinds_of(hint: Any) -> Iterator[Any]:
    """The types of a union, through Annotated."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from kinds_of(typing.get_args(hint)[0])
    elif origin in (Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from kinds_of(part)
    else:
        yield hint


def _inner_kinds(hint: Any) -> Iterator[Any]:
    """The types of a union, and of the elements of its lists and tuples."""
    for kind in kinds_of(hint):
        yield kind
        if typing.get_origin(kind) in (list, tuple):
            for part in typing.get_args(kind):
                yield from _inner_kinds(part)


def no_bool(value: Any) -> Any:
    """The value. Raises ValueError for true and false, which Python counts as numbers."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


def _holds_a_bool(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_a_bool, value))
    return isinstance(value, bool)


def _has_words(kind: Any) -> bool:
    """Whether a word can be one of its values: of a Literal, an Enum, a Path."""
    if typing.get_origin(kind) is typing.Literal:
        return True
    return isinstance(kind, type) and issubclass(kind, enum.Enum | os.PathLike | str)


def means_none(value: object) -> bool:
    """Whether a study's word says that there is none: none, no, off, null, ~ or false."""
    return value is None or value is False or str(value).strip().lower() in ("none", "no", "off", "null", "~")


def schema_of(options: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a factory's options; anything goes where a plugin's types have none."""
    try:
        schema = options.model_json_schema()
    except Exception:  # pydantic has several
        return {"properties": {option: {} for option in options.model_fields}}
    add_words_for_none(schema, options)
    return {"properties": {}} | schema


def add_words_for_none(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Let the words for none stand for every number of the model that may be left out, in its JSON Schema."""
    for option, field in model.model_fields.items():
        if is_optional_number(field.annotation):
            schema["properties"][option] = or_a_word_for_none(schema["properties"][option])


def or_a_word_for_none(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an optional number, which may be left out by its words too."""
    return {**schema, "anyOf": [*schema["anyOf"], {"enum": ["none", "no", "off"]}]}


def description_of(hint: Any) -> str | None:
    """The description in a type hint, wherever in a union it is."""
    from pydantic.fields import FieldInfo

    if typing.get_origin(hint) is Annotated:
        inner, *extras = typing.get_args(hint)
        for extra in extras:
            if isinstance(extra, FieldInfo) and extra.description:
                return extra.description
        return description_of(inner)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return next((text for part in typing.get_args(hint) if (text := description_of(part))), None)
    return None


#: "eps: what it is", "eps, momentum: ...", "eps (float): ..." of Google, "eps : float" of NumPy, ":param eps: ...".
_LINE = re.compile(r"( *)(?::param )?([\w*]+(?:, \w+)*)(?: \([^)]*\))?( ?): ?(.*)")


def documented(text: str, names: Collection[str]) -> dict[str, str]:
    """What a docstring says of each of these parameters, as one line each; more than a line is indented."""
    lines = text.splitlines()
    helps: dict[str, str] = {}
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        called = match[2].split(", ") if match else []
        if not match or not set(called) <= set(names):
            continue
        parts = [] if match[3] else [match[4]]  # after " : " NumPy has the type
        for later in lines[number + 1 :]:
            if later.strip() and len(later) - len(later.lstrip()) <= len(match[1]):
                break
            parts.append(later.strip())
        for name in called:
            helps.setdefault(name, " ".join(part for part in parts if part))
    return {name: line for name, line in helps.items() if line}
