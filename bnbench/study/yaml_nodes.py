"""From YAML's nodes to plain values: the meaning of each scalar, and the largest size of a text.

Differences from PyYAML's own constructor: `1e-4` is a number; `no`, `off`, `yes` and `on` are words; dates
are words; 010 is ten; nothing in a file can make an object or run code. Nothing is built before it is counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import yaml

#: A study nests 5 deep.
MAX_DEPTH = 20
#: Keys and values, each alias counted as often as it stands: more than those of 10,000 settings, written out.
MAX_NODES = 200_000
#: More than any number of a study (2**63 has 19).
MAX_DIGITS = 18

_TOO_MANY = f"it holds more than {MAX_NODES:,} keys and values"
_PREFIX = "tag:yaml.org,2002:"
_NULL = r"~|null|Null|NULL|"
_TRUE, _FALSE = r"true|True|TRUE", r"false|False|FALSE"
_INT = r"[-+]?[0-9][0-9_]*"
_FLOAT = (
    r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
#: Tag, pattern and possible first characters of the plain scalars that are not words.
RESOLVERS = (
    ("bool", f"{_TRUE}|{_FALSE}", "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("null", _NULL, "~nN\0"),
    ("merge", r"<<", "<"),
)


class Loader(yaml.SafeLoader):
    """SafeLoader with the number and truth words of YAML 1.2; it composes nodes, no objects are made by it."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML looks it up on the class)
    depth = composed = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As PyYAML's, but not without end."""
        self.depth += 1
        self.composed += 1
        if self.depth > MAX_DEPTH:
            raise fault("it is nested too deeply", self.get_mark())
        if self.composed > MAX_NODES:
            raise fault(_TOO_MANY, self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in RESOLVERS:
    Loader.add_implicit_resolver(f"{_PREFIX}{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
Loader.yaml_implicit_resolvers[""] = [(f"{_PREFIX}null", re.compile("^$"))]


def fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    """An error at a place in the text."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def count(root: yaml.Node) -> None:
    """Raises MarkedYAMLError where aliases make more of the text than a study can hold, or go round in a circle."""
    sizes: dict[int, tuple[int, int]] = {}

    def size(node: yaml.Node) -> tuple[int, int]:
        if id(node) in sizes:
            known = sizes[id(node)]
            if known == (0, 0):
                raise fault("it contains itself", node.start_mark)
            return known
        sizes[id(node)] = (0, 0)
        below = [size(child) for child in _children(node)]
        total = 1 + sum(nodes for nodes, _ in below)
        depth = 1 + max((deep for _, deep in below), default=0)
        if total > MAX_NODES:
            raise fault(_TOO_MANY, node.start_mark)
        if depth > MAX_DEPTH:
            raise fault("it is nested too deeply", node.start_mark)
        sizes[id(node)] = (total, depth)
        return total, depth

    size(root)


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def scalar(node: yaml.ScalarNode) -> Any:
    """The value of a scalar. Raises MarkedYAMLError where its tag does not fit."""
    kind = node.tag.removeprefix(_PREFIX)
    read = _READERS.get(kind)
    if read is None:
        raise fault(_no_tag(node.tag), node.start_mark)
    try:
        return read(str(node.value))
    except ValueError as error:
        raise fault(str(error), node.start_mark) from None


def check_mapping(node: yaml.Node) -> None:
    """Raises MarkedYAMLError where a mapping or a list has a tag of another type."""
    known = ("map", "set") if isinstance(node, yaml.MappingNode) else ("seq",)
    if node.tag.removeprefix(_PREFIX) not in known:
        raise fault(_no_tag(node.tag), node.start_mark)


def word(text: str) -> str:
    """The text itself. Raises ValueError where no file, no terminal and no JSON can hold it."""
    for character in text:
        category = unicodedata.category(character)
        if (category == "Cc" and character not in "\n\t") or category == "Cs":
            raise ValueError(f"{_short(text)} holds the control character U+{ord(character):04X}")
    return text


def _no_tag(tag: str) -> str:
    written = f"!!{tag.removeprefix(_PREFIX)}" if tag.startswith(_PREFIX) else tag
    return f"the tag {written} has no meaning in a study. Fix: write the value alone"


def _null(text: str) -> None:
    if not re.fullmatch(_NULL, text):
        raise ValueError(f"{_short(text)} is not null")


def _bool(text: str) -> bool:
    for pattern, value in ((f"{_TRUE}|yes|on", True), (f"{_FALSE}|no|off", False)):
        if re.fullmatch(pattern, text):
            return value
    raise ValueError(f"{_short(text)} is neither true nor false")


def _int(text: str) -> int:
    if not re.fullmatch(_INT, text):
        raise ValueError(f"{_short(text)} is not an integer")
    digits = text.replace("_", "")
    if len(digits.lstrip("+-0")) > MAX_DIGITS + 1:
        raise ValueError(
            f"{_short(text)} is an integer of {len(digits.lstrip('+-')):,} digits, too large here"
        )
    return int(digits)


def _float(text: str) -> float:
    if not re.fullmatch(_FLOAT, text):
        raise ValueError(f"{_short(text)} is not a number")
    digits = text.lower().replace("_", "")
    return float(digits.replace(".", "") if digits.endswith(("inf", "nan")) else digits)


_READERS: dict[str, Callable[[str], Any]] = {
    "str": word,
    "null": _null,
    "bool": _bool,
    "int": _int,
    "float": _float,
}


def _short(text: str) -> str:
    written = repr(text)
    return written if len(written) <= 40 else f"{written[:37]}...'"
