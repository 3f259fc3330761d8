"""YAML as people mean it, with the line of every key.

Differences from PyYAML's own loader: `1e-4` is a number; `no`, `off`, `yes` and `on` are words; dates
are words; a duplicate key is a mistake; nothing in a file can make an object or run code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bnbench.errors import ConfigError, Mistake

Path_ = tuple[str, ...]

_MAX_DEPTH = 20


class _Loader(yaml.SafeLoader):
    """SafeLoader with the number and truth words of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML looks it up on the class)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.yaml_implicit_resolvers[""] = [("tag:yaml.org,2002:null", re.compile("^$"))]


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)  # 010 is ten


@dataclass
class Source:
    """Plain values, and where each key was written: places[("optimizer", "lr")] = "study.yaml:4".

    mistakes: duplicate keys (the first one counts), to be told together with what else is wrong.
    """

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Path_, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def place(self, path: Path_) -> str:
        """Where that key, or the nearest section around it, was written."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, "study")


def read_yaml(text: str, filename: str) -> Source:
    """Parse the text of a study. Raises ConfigError where it is no mapping in valid YAML."""
    source = Source(places={(): filename})
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        value = _Builder(loader, filename, source).build(node, ()) if node else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = " (indent with spaces, not tabs)" if "'\\t'" in str(error) else ""
        raise ConfigError(
            [Mistake(f"{filename}:{line}", f"not valid YAML: {error.problem}{hint}.")]
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError([Mistake(filename, f"not valid YAML: {error}.")]) from None
    if not isinstance(value, dict):
        what = "a study is a mapping of keys to values, such as dataset: mnist."
        raise ConfigError([*source.mistakes, Mistake(f"{filename}:1", what)])
    source.data = value
    return source


def read_value(text: str) -> Any:
    """The value of a key=value override, read as YAML ("1e-3" is a number, "[64, 64]" a list)."""
    source = read_yaml(f"value: {text}", "command line")
    if source.mistakes:
        raise ConfigError(source.mistakes)
    return source.data["value"]


def read_file(path: Path) -> Source:
    """Read a study from a file. Raises ConfigError where it can't be read or parsed."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Mistake(str(path), f"can't be read: {reason}.")]) from None
    return read_yaml(text, str(path))


class _Builder:
    """Turns YAML nodes into plain values, noting the line of every key and every duplicate."""

    def __init__(self, loader: _Loader, filename: str, source: Source) -> None:
        self.loader, self.filename, self.source = loader, filename, source

    def build(self, node: yaml.Node, path: Path_) -> Any:
        if len(path) > _MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deeply, or contains itself")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, str(index))) for index, child in enumerate(node.value)]
        return self.loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged |= self._merged(value_node, path)
                continue
            key = str(key_node.value)
            here = f"{self.filename}:{key_node.start_mark.line + 1}"
            if key in values:
                first = self.source.places[(*path, key)]
                self.source.mistakes.append(
                    Mistake(here, f'duplicate key "{key}": it stands at {first} already.')
                )
                continue
            self.source.places[(*path, key)] = here
            values[key] = self.build(value_node, (*path, key))
        return merged | values

    def _merged(self, node: yaml.Node, path: Path_) -> dict[str, Any]:
        """The mappings of a `<<` key: earlier ones win."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for child in reversed(nodes):
            value = self.build(child, path)
            merged |= value if isinstance(value, dict) else {}
        return merged
