"""Messages for a wrong value of a study, in one sentence: the key, the value, the values allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bnbench.base.errors import nearest
from bnbench.study.schema import CHOICES, SECTIONS, STUDY_KEYS, Settings
from bnbench.study.yaml_source import Path_

#: How pydantic calls the branches of a union, beside those with a bracket: "literal['epoch']", "list[int]".
_BRANCHES = ("int", "float", "str", "bool")


def faults_by_path(error: ValidationError, prefix: Path_) -> dict[Path_, list[ErrorDetails]]:
    """pydantic's errors at each key; more than one where a value may have one of many types and has none of them."""
    details = error.errors(include_url=False)
    by_path: dict[Path_, list[ErrorDetails]] = {}
    for detail in details:
        if isinstance(detail["input"], list | tuple) and any(_is_within(other, detail) for other in details):
            continue  # a branch of a union that takes no list: the one that does names the element
        unknown = detail["type"] == "extra_forbidden"
        path = (*prefix, *(str(part) for part in detail["loc"] if unknown or not _is_branch(part)))
        by_path.setdefault(path, []).append(detail)
    return by_path


def _is_within(inner: ErrorDetails, outer: ErrorDetails) -> bool:
    """Whether the inner mistake is about an element of the outer one's value."""
    parts, whole = ([part for part in detail["loc"] if not _is_branch(part)] for detail in (inner, outer))
    return len(parts) > len(whole) and parts[: len(whole)] == whole


def _is_branch(part: int | str) -> bool:
    """Whether it names the branch of a union that was tried, and no key."""
    return isinstance(part, str) and (
        "[" in part or part in _BRANCHES or part.startswith(("constrained-", "function-", "lax-or-strict"))
    )


def message(details: Sequence[ErrorDetails], path: Path_, model: type[BaseModel], section: str) -> str:
    """One sentence for all mistakes at a key."""
    detail, *others = details
    if not others:
        return _message(detail, path, model, section)
    wanted = sorted(map(_wanted, details), key=lambda pair: pair[0])  # words of a Literal last
    texts = [text for _, text in wanted if text]
    if len(texts) < len(details):
        return _message(detail, path, model, section)
    return f"{'.'.join(path)}: {_Short(detail['input'])!r} is wrong: it should be {', or '.join(dict.fromkeys(texts))}."


def _wanted(detail: ErrorDetails) -> tuple[bool, str]:
    """Whether it asks for one of a list of words, and its request; "" where the message has another form."""
    if detail["type"] == "literal_error":
        return True, detail["ctx"]["expected"].replace("'", "")
    text = _without_hint(detail["msg"])
    return False, text.removeprefix("Input should be ") if text.startswith("Input should be ") else ""


def _without_hint(text: str) -> str:
    """pydantic's message without the details of its attempts."""
    return text.partition(", unable to")[0].partition(", got a number")[0]


def _message(detail: ErrorDetails, path: Path_, model: type[BaseModel], section: str) -> str:
    """One sentence in the user's words: the key, the value, the values allowed."""
    key, value, context = ".".join(path), _Short(detail["input"]), detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(path, model, section)
        case "missing":
            more = f" Fix: give it with the name, as in {path[0]}: {{name: ..., {path[-1]}: ...}}."
            return f"{key} is missing.{more if len(path) == 2 and path[0] in CHOICES else ''}"
        case "model_type" | "dataclass_type" | "dict_type" | "model_attributes_type":
            return f"{key}: {value!r} is wrong: it should be a mapping of keys to values."
        case "path_type":
            return f"{key}: {value!r} is wrong: it should be a path."
        case "list_type":
            return f"{key}: {value!r} is wrong: it should be a list, such as [{detail['input']}]."
        case "literal_error":
            return f"{key}: {value!r} is not one of {context['expected'].replace(chr(39), '')}."
        case "too_short" | "too_long":
            bound, number = (
                ("least", "min_length") if detail["type"] == "too_short" else ("most", "max_length")
            )
            return f"{key}: {value!r} is wrong: it should have at {bound} {context[number]}."
        case "value_error":
            return f"{key}: {value!r} is wrong: {context['error']}."
    text = _without_hint(detail["msg"])
    wanted = text.removeprefix("Input should be ")
    why = f"it should be {wanted}" if wanted != text else text[:1].lower() + text[1:]
    return f"{key}: {value!r} is wrong: {why}."


class _Short:
    """A value in a message: its beginning, where it is long."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        text = repr(self.value)
        return text if len(text) <= 80 else f"{text[:77]}..."


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
