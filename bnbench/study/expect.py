"""`expect`: what a study claims of its result before it is run. It changes no run.

    expect:
      - batch.test_accuracy - none.test_accuracy > 0
      - claim: Batch norm narrows the gap between test and training data.
        that: batch.gap_loss - none.gap_loss < 0

Every expression is held against what the study has before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


class Expectations:
    """Reads the key of one source, and adds to its mistakes."""

    def __init__(self, source: Source, mistakes: list[Mistake]) -> None:
        self.source, self.mistakes = source, mistakes

    def read(self, given: Any) -> dict[Path_, Expectation]:
        """One claim or several, by their places; those with mistakes are left out."""
        if given is None:
            return {}
        read: dict[Path_, Expectation] = {}
        for index, item in enumerate(given if isinstance(given, list) else [given]):
            path = ("expect", str(index)) if isinstance(given, list) else ("expect",)
            expectation = self._expectation(item, path)
            if expectation:
                read[path] = expectation
        return read

    def check(self, claims: Mapping[Path_, Expectation], study: Study, names: tuple[str, ...]) -> None:
        """Hold every expression against the study. names: its variants, also those with mistakes of their own."""
        for path, claim in claims.items():
            for part, expression in claim.parts:
                place = (*path, "that", part) if part else path
                for fault in dict.fromkeys(faults(expression, study, names)):
                    self._wrong(place, f"expect: {fault}")

    def _expectation(self, item: Any, path: Path_) -> Expectation | None:
        if isinstance(item, str):
            return self._whole({"": self._expression(item, path)}, {}, counter=False)
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
        return self._whole(parts, texts, counter is True) if len(self.mistakes) == before else None

    def _parts(self, that: Any, path: Path_) -> dict[str, Expression | None]:
        if isinstance(that, str):
            return {"": self._expression(that, path)}
        if isinstance(that, list) and that and all(isinstance(part, str) for part in that):
            return {part: self._expression(part, (*path, str(i))) for i, part in enumerate(that)}
        if isinstance(that, dict) and that and all(isinstance(part, str) for part in that.values()):
            return {str(name): self._expression(part, (*path, str(name))) for name, part in that.items()}
        given = "is missing" if that is None else f"{that!r} is not an expression"
        self._wrong(path, f"expect.that: {given}. Fix: {_FORM}; several parts by their names.")
        return {}

    def _expression(self, text: str, path: Path_) -> Expression | None:
        try:
            return parse_expression(text)
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

    @staticmethod
    def _whole(
        parts: Mapping[str, Expression | None], texts: Mapping[str, Words], counter: bool
    ) -> Expectation | None:
        whole = tuple((name, expression) for name, expression in parts.items() if expression)
        return Expectation(whole, texts, counter) if parts and len(whole) == len(parts) else None

    def _wrong(self, path: Path_, message: str) -> None:
        self.mistakes.append(Mistake(self.source.place(path), message))


def with_claims(study: Study, source: Source, names: tuple[str, ...], mistakes: list[Mistake]) -> Study:
    """The study with its claims, each held against everything else of it. names: as in `Expectations.check`."""
    expectations = Expectations(source, mistakes)
    claims = expectations.read(source.data.get("expect"))
    expectations.check(claims, study, names)
    return replace(study, expect=tuple(claims.values()))


def read_expectations(values: Any) -> Iterator[Expectation]:
    """Those of a study.yaml that was written by bnbench. Raises ValueError where it was edited to what is none."""
    mistakes: list[Mistake] = []
    read = Expectations(Source(places={(): "study.yaml"}), mistakes).read(values)
    if mistakes:
        raise ValueError("; ".join(mistake.message for mistake in mistakes))
    yield from read.values()
