"""A study's text as plain values, with the line of every key (see `yaml_nodes` for the meaning of a value)."""

from __future__ import annotations

import codecs
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bnbench.base.errors import ConfigError, Mistake
from bnbench.study.yaml_nodes import RESOLVERS, Loader, check_mapping, count, fault, scalar, word

Path_ = tuple[str, ...]

#: Stands for the levels of a `<<` key in a mapping: a list of mappings, earlier ones win.
MERGE = "<<"
#: A study of 1,000 variants with every default written out is smaller.
MAX_BYTES = 4 * 2**20
#: What is text as it is written: a study may be called 1e3, and its baseline too.
TEXTS = ("name", "description", "baseline", "check_of")


@dataclass
class Source:
    """Plain values, and where each key was written: places[("optimizer", "lr")] = "study.yaml:4".

    mistakes: duplicate keys (the first one counts), to be reported together with the other mistakes.
    unreadable: the places of values that are None here because they have no meaning.
    """

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Path_, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)

    def place(self, path: Path_) -> str:
        """Where that key, or the nearest section around it, was written."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, "study")


def read_yaml(text: str, filename: str, kind: str = "a study", example: str = "dataset: mnist") -> Source:
    """Parse the text of a study, or of a file of another kind. Raises ConfigError where it is no mapping in valid YAML.

    example: one of its keys with a value, for the message.
    """
    source = Source(places={(): filename})
    value = _parse(text, filename, source, ())
    if value is None:
        raise ConfigError([Mistake(filename, f"it is empty. Fix: {example}, and so on.")])
    if not isinstance(value, dict):
        problem = f"{kind} is a mapping of keys to values, such as {example}."
        raise ConfigError([*source.mistakes, Mistake(f"{filename}:1", problem)])
    source.data = value
    return source


def read_value(text: str, key: str = "value") -> Any:
    """The value of a key=value override, read as YAML ("1e-3" is a number, "[64, 64]" a list)."""
    source = Source(places={(): "value"})
    value = _parse(text, "value", source, (key,))
    if source.mistakes:
        raise ConfigError(source.mistakes)
    return value


def read_file(path: Path, kind: str = "a study", example: str = "dataset: mnist") -> Source:
    """Read a study, or a file of another kind, or standard input where it is `-`. Raises ConfigError."""
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([Mistake(str(path), f"can't be read: {reason}.")]) from None
    name = "standard input" if str(path) == "-" else str(path)
    if len(content) > MAX_BYTES:
        problem = f"larger than {MAX_BYTES // 2**20} MiB, which is not {kind}."
        raise ConfigError([Mistake(name, problem)])
    return read_yaml(_decoded(content, name), name, kind, example)


def to_yaml(values: dict[str, Any]) -> str:
    """Plain values as a text that `read_yaml` reads as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def to_flow(value: Any) -> str:
    """A plain value on one line, as it can stand behind `key=`."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()


class _Dumper(yaml.SafeDumper):
    """Quotes every word that this reader, or another one, would take for a number, a date or a truth value."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: a file for people."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Line ends that only some readers know are escaped: others would fold them into a space."""
    style = '"' if re.search("[\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)
for _tag, _pattern, _first in RESOLVERS:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _decoded(content: bytes, name: str) -> str:
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = "it is not UTF-8 text. Fix: save it as UTF-8."
        raise ConfigError([Mistake(f"{name}:{line}", f"can't be read: {problem}")]) from None


def _parse(text: str, filename: str, source: Source, path: Path_) -> Any:
    """The value of a text that stands at `path` of a study. Raises ConfigError."""
    loader: Loader | None = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        count(node)
        return _Builder(filename, source).build(node, path)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problem = f"the character U+{int(error.character):04X} can't stand in YAML"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = _explained(error, text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:  # a \U escape out of range
        line = loader.line + 1 if loader else 1
        problem = str(error)
    place = filename if filename == "value" else f"{filename}:{line}"
    raise ConfigError([Mistake(place, f"not valid YAML: {problem}.")]) from None


def _explained(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = str(error.problem or error.context)
    if "'\\t'" in str(error) or (error.problem_mark and "\t" in _line(text, error.problem_mark.line)):
        return f"{problem} (indent with spaces, not tabs)"
    if "but found another document" in problem:
        return "a study is one document. Fix: leave out what follows the second '---'"
    return problem


def _line(text: str, number: int) -> str:
    lines = text.split("\n")
    line = lines[number] if number < len(lines) else ""
    return line[: len(line) - len(line.lstrip())]


class _Builder:
    """Turns YAML nodes into plain values, noting the line of every key and every duplicate."""

    def __init__(self, filename: str, source: Source) -> None:
        self.filename, self.source = filename, source

    def build(self, node: yaml.Node, path: Path_) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        check_mapping(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        values = []
        for index, child in enumerate(node.value):
            here = (*path, str(index))
            self.source.places[here] = self._place(child)
            values.append(self.build(child, here))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path_) -> Any:
        value = scalar(node)
        if path and path[-1] in TEXTS and len(path) in (1, 3) and value is not None:
            return str(node.value)
        return value

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, str] = {}
        explicit: list[tuple[str, yaml.Node]] = []
        for key_node, value_node in node.value:
            key, here = self._key(key_node), self._place(key_node)
            if key in first:
                where = f": it stands at {first[key]} already" if ":" in here else ""
                self.source.mistakes.append(Mistake(here, f'duplicate key "{key}"{where}.'))
                continue
            first[key] = here
            if key == MERGE:
                values[MERGE] = self._merged(value_node, path)
            else:
                explicit.append((key, value_node))
        for key, value_node in explicit:  # after what is merged, whose places they take
            self.source.places[(*path, key)] = first[key]
            values[key] = self.build(value_node, (*path, key))
        return values

    def _merged(self, node: yaml.Node, path: Path_) -> list[dict[str, Any]]:
        """The mappings of a `<<` key, the one that wins first."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        levels: list[dict[str, Any]] = []
        for child in reversed(nodes):
            value = self.build(child, path)
            if not isinstance(value, dict):
                raise fault("<< takes a mapping, or a list of mappings", child.start_mark)
            levels.insert(0, value)
        return levels

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise fault("a key is a word, not a list or a mapping", node.start_mark)
        try:
            return word(str(node.value))
        except ValueError as error:
            raise fault(str(error), node.start_mark) from None

    def _place(self, node: yaml.Node) -> str:
        return f"{self.filename}:{node.start_mark.line + 1}" if self.filename != "value" else self.filename
