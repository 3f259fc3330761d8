"""`0.1 * batch_size / 128`: a key of a sweep that follows others. Numbers, keys, + - * / ** and brackets; no code."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

#: Longer than any rule for a setting.
_MAX_LENGTH = 200
_NUMBER_OR_KEY = re.compile(r"(?<![\w.])(?:[A-Za-z_]\w*(?:\.\w+)*)")
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@dataclass(frozen=True)
class Formula:
    """An expression in other keys of the study."""

    text: str
    keys: tuple[str, ...]
    _tree: ast.expr

    def value(self, of: Callable[[str], float]) -> float:
        """Its value, each key's number being `of(key)`. Raises ValueError where it has none."""
        try:
            result = self._value(self._tree, [float(of(key)) for key in self.keys])
        except (ZeroDivisionError, OverflowError) as error:
            raise ValueError(f"{self.text!r} has no value: {error}") from None
        if isinstance(result, complex) or not math.isfinite(result):
            raise ValueError(f"{self.text!r} is not a number: {result}")
        return result

    def _value(self, node: ast.expr, numbers: list[float]) -> float:
        match node:
            case ast.Constant():
                return float(node.value)  # type: ignore[arg-type]
            case ast.Name():
                return numbers[int(node.id.removeprefix("_"))]
            case ast.UnaryOp():
                return _OPERATORS[type(node.op)](self._value(node.operand, numbers))
            case ast.BinOp():
                sides = self._value(node.left, numbers), self._value(node.right, numbers)
                return _OPERATORS[type(node.op)](*sides)
        raise AssertionError(node)


def read_formula(text: str) -> Formula:
    """Raises ValueError where it is none."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"it is longer than {_MAX_LENGTH} characters")
    keys: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[0] not in keys:
            keys.append(match[0])
        return f"_{keys.index(match[0])}"

    try:
        tree = ast.parse(_NUMBER_OR_KEY.sub(numbered, text.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("it is not arithmetic") from None
    for node in ast.walk(tree):
        if not _is_arithmetic(node):
            raise ValueError("only numbers, keys, + - * / ** and brackets can be in it")
    if not keys:
        raise ValueError("it names no other key")
    return Formula(text.strip(), tuple(keys), tree)


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    if isinstance(node, ast.BinOp | ast.UnaryOp):
        return type(node.op) in _OPERATORS
    return isinstance(node, ast.Name | ast.Load) or type(node) in _OPERATORS
