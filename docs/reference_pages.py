"""Writes the pages of the reference that follow from the package: commands, keys of a study, names.

docs/conf.py calls `write` before a build, so that these pages are never stale.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

FOLDER = Path(__file__).parent / "reference" / "generated"
#: The keys whose meaning the schema does not carry.
MEANINGS = {
    "name": "names the results folder and the report; default: the file's name",
    "description": "one sentence for the tables and the report",
    "seeds": "how many seeds, a list of seeds, or `auto`: seeds are added until every variant is decided",
    "variants": "the columns of the comparison: a name and the settings that it changes",
    "baseline": "the variant that the others are compared with; default: the first",
    "target": "`{metric, value}`, one or a list: time to target is measured for each",
    "primary": "the metric that the verdict is about",
    "margin": "`{metric, value}`: differences within it count as the same",
    "metrics": "metrics that the tables show besides loss and accuracy",
    "sweep": "keys with lists of values; every variant is trained at every setting",
    "task": "what is learnt; default: the task of the data set",
    "dataset": "a data set of [Registered names](names.md)",
    "model": "a network of [Registered names](names.md)",
    "norm": "a normalizer of [Registered names](names.md), or none",
    "optimizer": "an optimizer of [Registered names](names.md); `lr` is required",
    "schedule": "how the learning rate changes",
    "loss": "what is minimized",
    "augment": "what changes training images at random; auto: what the data set declares",
}


def write(folder: Path = FOLDER) -> None:
    """Write all pages into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"commands": commands(), "study_keys": study_keys(), "names": names()}.items():
        path = folder / f"{name}.md"
        if (
            not path.exists() or path.read_text(encoding="utf-8") != text
        ):  # an unchanged page is not built again
            path.write_text(text, encoding="utf-8")


def commands() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    from bnbench.cli.app import app

    parts = ["# Commands", "`bnbench COMMAND --help` prints the same.", _plain(str(app.info.epilog or ""))]
    own = [("", command) for command in app.registered_commands]
    groups = [
        (f"{group.name} ", command)
        for group in app.registered_groups
        if group.typer_instance is not None
        for command in group.typer_instance.registered_commands
    ]
    for prefix, command in [*own, *groups]:
        assert command.callback is not None
        name = prefix + (command.name or command.callback.__name__)
        arguments, options = _parameters(command.callback)
        help_text = command.help or inspect.getdoc(command.callback) or ""
        parts += [
            f"## bnbench {name}",
            "```text\n"
            + " ".join([f"bnbench {name}", *(metavar for metavar, _ in arguments), "[OPTIONS]"])
            + "\n```",
            *(_plain(paragraph) for paragraph in help_text.split("\n\n")),
            _table(("argument", "meaning"), [(f"`{metavar}`", meaning) for metavar, meaning in arguments]),
            _table(("option", "default", "meaning"), options),
        ]
    return _page(parts)


def _parameters(callback: Callable[..., Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Arguments (metavar, meaning) and options (names, default, meaning) of a command."""
    from typer.models import ArgumentInfo, OptionInfo

    arguments, options = [], []
    for name, parameter in inspect.signature(callback, eval_str=True).parameters.items():
        hint = parameter.annotation
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        for note in notes:
            if isinstance(note, ArgumentInfo):
                arguments.append((note.metavar or name.upper(), _plain(note.help or "")))
            elif isinstance(note, OptionInfo) and not note.hidden:
                # in Annotated, the first name stands where a default would
                words = (note.default, *(note.param_decls or ()))
                declared = [part for part in words if isinstance(part, str) and part.startswith("-")]
                long = f"--{name.replace('_', '-')}"
                names = declared if any(part.startswith("--") for part in declared) else [long, *declared]
                options.append(
                    (", ".join(f"`{n}`" for n in names), _shown(parameter.default), _with_choices(note, kind))
                )
    return arguments, options


def _shown(default: Any) -> str:
    if default in (None, False, "", inspect.Parameter.empty) or default in ([], ()) or callable(default):
        return ""
    return f"`{getattr(default, 'value', default)}`"


def _with_choices(note: Any, kind: Any) -> str:
    enums = [part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, Enum)]
    words = [str(member.value) for enum in enums for member in enum]
    if note.metavar and "|" in note.metavar and "..." not in note.metavar:
        words += note.metavar.strip("[]<>").split("|")
    choices = f"One of {', '.join(f'`{word}`' for word in words)}." if words else ""
    return " ".join(filter(None, [_plain(note.help or ""), choices]))


def study_keys() -> str:
    """Every key of a study from its JSON Schema, and the options of everything that has a name."""
    from bnbench.api.plugins import known_names
    from bnbench.study import json_schema

    schema = json_schema(known_names().vocabulary)
    rows = [
        (f"`{key}`", _type(value, schema), _default(value), MEANINGS.get(key) or _meaning(value, schema))
        for key, value in schema["properties"].items()
    ]
    parts = [
        "# Keys of a study",
        "`bnbench check --json-schema` prints the JSON Schema behind this page, for your editor too. "
        "A variant may set any key from `dataset` on; the keys before it belong to the study as a whole.",
        _table(("key", "type", "default", "meaning"), rows),
    ]
    for key, definition in (("init", "Init"), ("validation", "Validation")):
        if definition in schema.get("$defs", {}):
            parts += [f"## {key}", _properties(schema["$defs"][definition], schema)]
    return _page(parts)


def names() -> str:
    """Every registered name with its first sentence and its options."""
    from bnbench.api.plugins import known_names
    from bnbench.base.kinds import KINDS
    from bnbench.study import json_schema

    vocabulary = known_names().vocabulary
    schema = json_schema(vocabulary)
    parts = [
        "# Registered names",
        "What a study can name, with the options of each. `bnbench list` prints the names, also those of your plugins.",
    ]
    for kind in KINDS:
        key = kind.key
        sections = [
            branch
            for branch in _branches(schema["properties"].get(key, {}))
            if "name" in branch.get("properties", {})
        ]
        if not kind.chosen:  # named inside another key
            sections = [
                {
                    "description": entry.summary,
                    "properties": {"name": {"const": entry.name}, **entry.schema()["properties"]},
                }
                for entry in vocabulary[key].values()
            ]
        if sections:
            parts.append(f"## {key}")
        for section in sections:
            name = _constant(section["properties"]["name"])
            if name is None:
                continue
            parts += [f"### {name}", _plain(section.get("description", ""))]
            options = {option: value for option, value in section["properties"].items() if option != "name"}
            if options:
                parts.append(_properties({"properties": options}, schema))
    return _page(parts)


def _branches(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for branch in schema.get("anyOf", ()):
        yield from _branches(branch)


def _constant(schema: Mapping[str, Any]) -> str | None:
    for branch in _branches(schema):
        if isinstance(branch.get("const"), str):
            return str(branch["const"])
    return None


def _properties(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    rows = [
        (f"`{key}`", _type(value, root), _default(value), _meaning(value, root))
        for key, value in schema["properties"].items()
    ]
    return _table(("key", "type", "default", "meaning"), rows)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return root["$defs"][reference.rpartition("/")[2]] | schema if reference else schema


def _type(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """In words, e.g. "integer or `auto`"."""
    kinds: list[str] = []
    for raw in _branches(schema):
        branch = _resolved(raw, root)
        if "const" in branch:
            kinds.append(f"`{branch['const']}`")
        elif "enum" in branch and not any(isinstance(value, str) for value in branch["enum"]):
            kinds.append(" or ".join(f"`{value}`" for value in branch["enum"] if value is not None))
        elif "enum" in branch:
            words = [str(value) for value in branch["enum"] if isinstance(value, str)]
            kinds.append(
                "none"
                if {"none", "no"} <= set(words) and len(words) <= 4
                else "a name"
                if len(words) > 8
                else " or ".join(f"`{w}`" for w in words)
            )
        elif isinstance(branch.get("type"), str) and branch["type"] != "null":
            kinds.append({"object": "mapping", "array": "list"}.get(branch["type"], branch["type"]))
        elif isinstance(branch.get("type"), list):
            kinds.append("text")
    return " or ".join(dict.fromkeys(filter(None, kinds)))


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    default = schema["default"]
    if isinstance(default, Mapping):
        return f"`{default.get('name', '')}`" if default.get("name") else ""
    return (
        "none"
        if default is None
        else f"`{default}`"
        if not isinstance(default, list)
        else f"`[{', '.join(map(str, default))}]`"
    )


def _meaning(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    for branch in _branches(schema):
        text = _resolved(branch, root).get("description")
        if text and "properties" not in branch:
            return _plain(str(text))
    return ""


def _plain(text: str) -> str:
    """Text of the package as Markdown that shows it as it is."""
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"(?<!`)([<>*_|\[\]$])(?!`)", r"\\\1", text)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [" | ".join(row) for row in (columns, ("---",) * len(columns), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _page(parts: list[str]) -> str:
    return "\n\n".join(filter(None, parts)) + "\n"
