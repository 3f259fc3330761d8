"""Expressions on a study's numbers, as `expect:` and the findings write them.

    expression = side OP value [within NUMBER]      OP: <, <=, >, >=, or = for "the same within the margin"
    side       = sum | quantity / quantity          a ratio is compared on the scale of its logarithm
    sum        = term {(+ | -) term}                term = quantity | ( sum )
    value      = NUMBER | quantity                  `a.x > b.x` is `a.x - b.x > 0`
    quantity   = VARIANT.NAME [KEY=VALUE, ...]      one setting of a sweep; without, the variant's best setting
               | VARIANT.usable(KEY)                also usable_low(KEY), usable_high(KEY)
               | VARIANT.probe(MEASURE, LAYER, STEP)

What the names mean is computed in `analysis/quantities.py`; whether a study has them, `expect.py` checks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bnbench.base.words import Words, plain

Sign = Literal["<", "<=", ">", ">=", "="]
#: The names that take a swept key.
RANGES = ("usable", "usable_low", "usable_high")
#: The name that takes a measure, a layer and a step.
PROBE = "probe"
STEPS_TO_TARGET = "steps_to_target"
TRAINED = "trained"
#: The names that are neither metrics nor indices of a network's inside.
NOT_METRICS = (*RANGES, PROBE, STEPS_TO_TARGET, TRAINED)
#: The keys of a claim that are texts, with what they hold; each may be given in several languages.
TEXTS = {
    "claim": "the claim in words",
    "source": "where the claim is made",
    "measured": "what is measured for it",
}
FORMS = (
    "'batch.test_accuracy - none.test_accuracy > 0', 'none.steps_to_target / batch.steps_to_target > 2' or "
    "'batch.usable(optimizer.lr) - none.usable(optimizer.lr) > 0'"
)

_RECALL = r"(?:[a-z]+_)?recall:[^\s()\[\]<>=]+"
_QUANTITY = re.compile(
    rf"(?P<variant>[^\s()\[\]<>=/,]+?)\.(?P<name>{_RECALL}|[A-Za-z_]\w*)(?![.\w])"
    r"(?:\s*\((?P<arguments>[^()]*)\))?(?:\s*\[(?P<setting>[^\[\]]*)\])?"
)
_SIGN = re.compile(r"<=|>=|==|<|>|=")
_NUMBER = re.compile(r"(?P<number>[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?P<percent>\s*%)?")
_WITHIN = re.compile(r"within\b")


class ExpressionError(ValueError):
    """An expression that can't be parsed, or does not fit the study; the message is one sentence with its fix."""


@dataclass(frozen=True)
class Quantity:
    """A number that each seed of a variant has. arguments: of usable(KEY) and of probe(MEASURE, LAYER, STEP).

    setting: keys and values of the sweep, as written; empty for the best setting.
    """

    text: str
    variant: str
    name: str
    arguments: tuple[str, ...] = ()
    setting: tuple[tuple[str, str], ...] = ()

    def stands_at(self, setting: Mapping[str, Any]) -> bool:
        """Whether a setting of the sweep has these values: 0.1 is 1e-1."""
        return all(key in setting and same_value(value, setting[key]) for key, value in self.setting)


@dataclass(frozen=True)
class Expression:
    """A claim about numbers. terms: a signed sum of quantities; of a ratio the numerator (+1) and the denominator (-1).

    within: how far from `value` counts as the same; of a ratio as a share: 0.05 is a factor of 1.05. place: where it
    is written, for mistakes that show when the networks are there.
    """

    text: str
    terms: tuple[tuple[int, Quantity], ...]
    ratio: bool
    sign: Sign
    value: float
    within: float | None = field(default=None)
    place: str = field(default="", compare=False, repr=False)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What it is about."""
        return tuple(quantity for _, quantity in self.terms)


@dataclass(frozen=True)
class Expectation:
    """A claim of a study. parts: the names of the parts and their expressions; one that stands alone has the name "".

    texts: those of TEXTS that are given: a text, or texts by language. counter: a counter-example: it stands beside the
    claim before it.
    """

    parts: tuple[tuple[Words, Expression], ...]
    texts: Mapping[str, Words]
    counter: bool = False

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Of its parts."""
        return tuple(expression for _, expression in self.parts)

    def written(self) -> Any:
        """As a study writes it."""
        that: Any = [{"part": plain(name), "that": expression.text} for name, expression in self.parts]
        if all(isinstance(name, str) for name, _ in self.parts):
            that = {name: expression.text for name, expression in self.parts}
            that = that.get("", that)
        if not self.texts and not self.counter and isinstance(that, str):
            return that
        texts = {key: plain(words) for key, words in self.texts.items()}
        return {**texts, "that": that, **({"counter": True} if self.counter else {})}


def parse_expression(text: str) -> Expression:
    """The parts of an expression. Raises ExpressionError."""
    if not isinstance(text, str) or not text.strip():
        raise ExpressionError(f"{text!r} is not an expression. Fix: write it like {FORMS}.")
    return _Parser(text).expression()


class _Parser:
    """Recursive descent over one text."""

    def __init__(self, text: str) -> None:
        self.text, self.at = " ".join(text.split()), 0

    def expression(self) -> Expression:
        terms, ratio = self._side()
        sign: Any = self._wanted(_SIGN, "<, <=, >, >= or =").replace("==", "=")
        value: float | None = self._number()
        if value is None:
            if ratio:
                raise self._error("a ratio is compared with a number")
            terms, value = (*terms, *((-by, quantity) for by, quantity in self._sum())), 0.0
        within = self._within()
        if self.text[self.at :].strip():
            raise self._error("nothing more can stand there")
        return Expression(self.text, terms, ratio, sign, value, within)

    def _side(self) -> tuple[tuple[tuple[int, Quantity], ...], bool]:
        terms = self._sum()
        if not self._found("/"):
            return terms, False
        below = self._sum()
        if len(terms) > 1 or len(below) > 1:
            raise self._error("a ratio is of two quantities")
        return (terms[0], (-1, below[0][1])), True

    def _sum(self) -> tuple[tuple[int, Quantity], ...]:
        terms = list(self._term(1))
        while (sign := self._found("-", "+")) is not None:
            terms += self._term(-1 if sign == "-" else 1)
        return tuple(terms)

    def _term(self, sign: int) -> Iterator[tuple[int, Quantity]]:
        if self._found("("):
            inner = self._sum()
            if not self._found(")"):
                raise self._error('a ")" is missing')
            yield from ((sign * by, quantity) for by, quantity in inner)
            return
        self._skip()
        match = _QUANTITY.match(self.text, self.at)
        if not match:
            raise self._error("a quantity such as batch.test_accuracy is wanted")
        quantity = self._quantity(match)
        self.at = match.end()
        yield sign, quantity

    def _quantity(self, match: re.Match[str]) -> Quantity:
        arguments, setting = match["arguments"], match["setting"]
        quantity = Quantity(match[0].strip(), match["variant"], match["name"])
        if arguments is not None:
            quantity = replace(quantity, arguments=tuple(part.strip() for part in arguments.split(",")))
        if setting is not None:
            quantity = replace(quantity, setting=tuple(self._pair(part) for part in setting.split(",")))
        _check_arguments(quantity)
        return quantity

    def _pair(self, text: str) -> tuple[str, str]:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not key or not equals or not value:
            raise self._error(f'"{text.strip()}" is not of the form KEY=VALUE')
        return key, value

    def _within(self) -> float | None:
        self._skip()
        match = _WITHIN.match(self.text, self.at)
        if not match:
            return None
        self.at = match.end()
        value = self._number()
        if value is None:
            raise self._error('a number is wanted after "within"')
        if value <= 0:
            raise self._error(f"within {value:g} is not above 0")
        return value

    def _number(self) -> float | None:
        self._skip()
        match = _NUMBER.match(self.text, self.at)
        # 8bit.test_accuracy is a quantity, 8 a number
        if not match or _QUANTITY.match(self.text, self.at):
            return None
        self.at = match.end()
        value = float(match["number"].replace("_", "")) / (100 if match["percent"] else 1)
        if not math.isfinite(value):
            raise self._error(f"{match['number']} is not a finite number")
        return value

    def _wanted(self, pattern: re.Pattern[str], words: str) -> str:
        self._skip()
        match = pattern.match(self.text, self.at)
        if not match:
            raise self._error(f"{words} is wanted")
        self.at = match.end()
        return match[0]

    def _found(self, *marks: str) -> str | None:
        self._skip()
        mark = next((mark for mark in marks if self.text.startswith(mark, self.at)), None)
        self.at += len(mark or "")
        return mark

    def _skip(self) -> None:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1

    def _error(self, why: str) -> ExpressionError:
        rest = self.text[self.at :].strip()
        where = f'at "{rest}"' if rest else "at its end"
        return ExpressionError(f"'{self.text}' cannot be parsed {where}: {why}. Fix: write it like {FORMS}.")


def _check_arguments(quantity: Quantity) -> None:
    """Raises ExpressionError where a name has too few or too many arguments."""
    given = [argument for argument in quantity.arguments if argument]
    if quantity.name in RANGES:
        form, wanted = f"{quantity.name}(optimizer.lr)", 1
    elif quantity.name == PROBE:
        form, wanted = f"{PROBE}(pre_std, 2, last): a quantity, a layer and a step", 3
    else:
        form, wanted = f"{quantity.name}", 0
    if len(given) != wanted or len(quantity.arguments) != wanted:
        raise ExpressionError(f"{quantity.text}: it is written {quantity.variant}.{form}.")


def same_value(text: str, value: Any) -> bool:
    """Whether a value of the sweep is the one that an expression names."""
    try:
        return float(text) == float(value)
    except (TypeError, ValueError):
        return text.strip("'\"").lower() == str(value).lower()
