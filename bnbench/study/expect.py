"""`expect`: what a study claims of its result before it is run. It changes no run.

    expect:
      - batch.test_accuracy - none.test_accuracy > 0
      - claim: Batch norm narrows the gap between test and training data.
        that: batch.gap_loss - none.gap_loss < 0

Every expression is held against what the study has before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bnbench.base.errors import Mistake, nearest
from bnbench.base.words import LANGUAGES, Words
from bnbench.study.expression_checks import faults
from bnbench.study.expressions import TEXTS, Expectation, Expression, ExpressionError, parse_expression
from bnbench.study.schema import Study
from bnbench.study.yaml_source import Path_, Source

#: The keys of a claim.
KEYS = ("that", *TEXTS, "counter")
_FORM = (
    "expect: [batch.test_accuracy - none.test_accuracy > 0], or {claim: in words, that: such an expression}"
)

#: A claim, and the place of each of its parts.
Placed = tuple[Expectation, list[Path_]]
#: The name of a part, its expression as it is written, and its place.
_Part = tuple[Words, Any, Path_]


class Expectations:
    """Reads the key of one source, and adds to its mistakes."""

    def __init__(self, source: Source, mistakes: list[Mistake]) -> None:
        self.source, self.mistakes = source, mistakes

    def read(self, given: Any) -> list[Placed]:
        """One claim or several, with the places of their parts; those with mistakes are left out."""
        if given is None:
            return []
        items = given if isinstance(given, list) else [given]
        paths = [
            ("expect", str(index)) if isinstance(given, list) else ("expect",) for index in range(len(items))
        ]
        read = [self._expectation(item, path) for item, path in zip(items, paths, strict=True)]
        return [placed for placed in read if placed]

    def check(self, claims: Sequence[Placed], study: Study, names: tuple[str, ...]) -> None:
        """Hold every expression against the study. names: its variants, also those with mistakes of their own."""
        for claim, places in claims:
            for expression, place in zip(claim.expressions, places, strict=True):
                for fault in dict.fromkeys(faults(expression, study, names)):
                    self._wrong(place, f"expect: {fault}")

    def _expectation(self, item: Any, path: Path_) -> Placed | None:
        if isinstance(item, str):
            return self._whole([("", item, path)], {}, counter=False)
        if not isinstance(item, dict):
            self._wrong(path, f"expect: {item!r} is not a claim. Fix: {_FORM}.")
            return None
        before = len(self.mistakes)
        for key in item:
            if key not in KEYS:
                guess = nearest(str(key), KEYS)
                hint = f' Did you mean "{guess}"?' if guess else ""
                self._wrong(
                    (*path, str(key)), f'expect: unknown key "{key}".{hint} Known: {", ".join(KEYS)}.'
                )
        texts = {
            key: words for key in TEXTS if (words := self._words(item.get(key), (*path, key))) is not None
        }
        counter = item.get("counter", False)
        if not isinstance(counter, bool):
            self._wrong((*path, "counter"), f"expect.counter: {counter!r} is neither true nor false.")
        parts = self._parts(item.get("that"), (*path, "that"))
        claim = self._whole(parts, texts, counter is True)
        return claim if len(self.mistakes) == before else None

    def _parts(self, that: Any, path: Path_) -> list[_Part]:
        """One expression; several, which are their own names; or several by names in one language or more."""
        if isinstance(that, str):
            return [("", that, path)]
        if isinstance(that, dict) and that and all(isinstance(part, str) for part in that.values()):
            return [(str(name), part, (*path, str(name))) for name, part in that.items()]
        places = [(*path, str(index)) for index in range(len(that))] if isinstance(that, list) else []
        if places and all(isinstance(part, str) for part in that):
            for place, part in zip(places, that, strict=True):
                if that.count(part) > 1:
                    self._wrong(place, f"expect.that: {part!r} is there twice.")
            return [(part, part, place) for part, place in zip(that, places, strict=True)]
        if places and all(isinstance(part, dict) and set(part) == {"part", "that"} for part in that):
            names = [part["part"] for part in that]
            for place, name in zip(places, names, strict=True):
                if names.count(name) > 1:
                    self._wrong((*place, "part"), f"expect.that: two parts are named {name!r}.")
            return [
                (self._words(part["part"], (*place, "part")) or "", part["that"], (*place, "that"))
                for part, place in zip(that, places, strict=True)
            ]
        given = "is missing" if that is None else f"{that!r} is not an expression"
        self._wrong(path, f"expect.that: {given}. Fix: {_FORM}; several parts by their names.")
        return []

    def _expression(self, text: Any, path: Path_) -> Expression | None:
        try:
            return replace(parse_expression(text), place=self.source.place(path))
        except ExpressionError as error:
            self._wrong(path, f"expect: {error}")
            return None

    def _words(self, given: Any, path: Path_) -> Words | None:
        if given is None or (isinstance(given, str) and given):
            return given
        if isinstance(given, dict) and given and all(isinstance(text, str) for text in given.values()):
            strange = [key for key in given if key not in LANGUAGES]
            if not strange:
                return dict(given)
            self._wrong(
                (*path, str(strange[0])),
                f'expect.{path[-1]}: unknown language "{strange[0]}". Known: {", ".join(LANGUAGES)}.',
            )
            return None
        self._wrong(
            path,
            f"expect.{path[-1]}: {given!r} is not a text. Fix: put it into quotes, or {{en: ..., cs: ...}}.",
        )
        return None

    def _whole(self, parts: Sequence[_Part], texts: Mapping[str, Words], counter: bool) -> Placed | None:
        read = [(name, self._expression(text, place)) for name, text, place in parts]
        whole = tuple((name, expression) for name, expression in read if expression)
        if not parts or len(whole) < len(parts):
            return None
        return Expectation(whole, texts, counter), [place for _, _, place in parts]

    def _wrong(self, path: Path_, message: str) -> None:
        self.mistakes.append(Mistake(self.source.place(path), message))


def with_claims(study: Study, source: Source, names: tuple[str, ...], mistakes: list[Mistake]) -> Study:
    """The study with its claims, each held against everything else of it. names: as in `Expectations.check`."""
    expectations = Expectations(source, mistakes)
    claims = expectations.read(source.data.get("expect"))
    expectations.check(claims, study, names)
    return replace(study, expect=tuple(claim for claim, _ in claims))


def read_expectations(values: Any) -> Iterator[Expectation]:
    """Those of a study.yaml that was written by bnbench. Raises ValueError where it was edited to what is none."""
    mistakes: list[Mistake] = []
    read = Expectations(Source(places={(): "study.yaml"}), mistakes).read(values)
    if mistakes:
        raise ValueError("; ".join(mistake.message for mistake in mistakes))
    yield from (claim for claim, _ in read)


def expect_schema() -> dict[str, Any]:
    """The JSON Schema of the key: an expression, or a mapping with its texts and its parts."""
    expression = {"type": "string", "minLength": 1}
    of_language = {"type": "object", "minProperties": 1, "additionalProperties": False}
    words = [expression, {**of_language, "properties": dict.fromkeys(LANGUAGES, expression)}]
    named = {
        "type": "object",
        "required": ["part", "that"],
        "additionalProperties": False,
        "properties": {"part": {"anyOf": words}, "that": expression},
    }
    parts = [
        {"type": "array", "items": expression, "minItems": 1},
        {"type": "array", "items": named, "minItems": 1},
        {"type": "object", "additionalProperties": expression, "minProperties": 1},
    ]
    texts = {key: {"anyOf": words, "description": text} for key, text in TEXTS.items()}
    claim = {
        "type": "object",
        "required": ["that"],
        "additionalProperties": False,
        "properties": {
            "that": {"anyOf": [expression, *parts], "description": "an expression, or parts by their names"},
            **texts,
            "counter": {"type": "boolean", "description": "a counter-example of the claim before it"},
        },
    }
    one = [expression, claim]
    return {
        "anyOf": [*one, {"type": "array", "items": {"anyOf": one}}, {"type": "null"}],
        "description": "claims about the result, such as batch.test_accuracy - none.test_accuracy > 0",
    }
