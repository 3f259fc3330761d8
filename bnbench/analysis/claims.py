"""The claims of a study (`expect:`), judged: every part measured, and the parts together.

A claim is confirmed where all of its parts are, so that no correction is needed within a claim (an intersection-union
test). Claims are not corrected for each other: each is a hypothesis of its own, stated before the study was run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bnbench.analysis.expressions import measure, pending
from bnbench.analysis.measured import Measured, Reason, Verdict
from bnbench.base.errors import UnknownNameError
from bnbench.base.words import Words
from bnbench.results import StudyResults
from bnbench.study import Study
from bnbench.study.expect import read_expectations
from bnbench.study.expressions import Expectation


@dataclass(frozen=True)
class Part:
    """One part of a claim. name: "" where the claim has no others."""

    name: Words
    measured: Measured


@dataclass(frozen=True)
class Claim:
    """A claim and its verdict.

    texts: those that the study gives (see `study.expressions.TEXTS`). counter: a counter-example: it stands beside the
    claim before it. depends_on: the parts that are not confirmed, where others are.
    """

    parts: tuple[Part, ...]
    verdict: Verdict
    texts: Mapping[str, Words] = field(default_factory=dict)
    counter: bool = False
    depends_on: tuple[Words, ...] = ()


def judge_claims(results: StudyResults) -> tuple[tuple[Claim, ...], list[str]]:
    """The study's claims on its results, and what is wrong with those that can't be measured."""
    warnings: list[str] = []
    claims = []
    try:
        expectations = tuple(read_expectations(results.study.get("expect")))
    except ValueError as error:
        return (), [f"the claims of study.yaml can't be read: {error}"]
    for expectation in expectations:
        try:
            claims.append(judge_claim(results, expectation))
        except UnknownNameError as error:
            texts = ", ".join(expression.text for expression in expectation.expressions)
            warnings.append(f"the claim {texts} can't be measured: {error}")
            claims.append(
                unmeasured(expectation, min(len(cell.seeds) for cell in results.cells), "not_measured")
            )
    return tuple(claims), warnings


def judge_claim(results: StudyResults, expectation: Expectation) -> Claim:
    """One claim. Raises UnknownNameError where the results do not have what it names."""
    parts = tuple(Part(name, measure(results, expression)) for name, expression in expectation.parts)
    verdict, depends_on = together(parts)
    return Claim(parts, verdict, expectation.texts, expectation.counter, depends_on)


def pending_claims(study: Study) -> tuple[Claim, ...]:
    """The claims of a study that has no results yet."""
    return tuple(unmeasured(expectation, len(study.seeds), "runs_missing") for expectation in study.expect)


def unmeasured(expectation: Expectation, seeds: int, reason: Reason) -> Claim:
    """A claim without a number, undecided. seeds: the planned ones."""
    parts = [(name, pending(expression, seeds)) for name, expression in expectation.parts]
    return Claim(
        tuple(Part(name, replace(measured, reason=reason)) for name, measured in parts),
        "undecided",
        expectation.texts,
        expectation.counter,
    )


def together(parts: Sequence[Part]) -> tuple[Verdict, tuple[Words, ...]]:
    """The verdict of all parts: theirs where they agree; "depends" with the names of those that are not confirmed.

    A part that is undecided disagrees with nobody: with it the claim is undecided, unless others disagree already.
    """
    verdicts = {part.measured.verdict for part in parts}
    if len(verdicts) == 1:
        return verdicts.pop(), ()
    if "confirmed" in verdicts and verdicts & {"refuted", "not_confirmed"}:
        return "depends", tuple(part.name for part in parts if part.measured.verdict != "confirmed")
    return ("undecided" if "undecided" in verdicts else "not_confirmed"), ()


def claim_rows(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """As plain values for summary.json."""
    return [
        {
            **vars(claim),
            "parts": [{"name": part.name, **vars(part.measured)} for part in claim.parts],
        }
        for claim in claims
    ]


def read_claims(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What `claim_rows` wrote and JSON kept, as the fields of `Claim`."""
    for row in rows:
        parts = []
        for part in row["parts"]:
            measured = {key: value for key, value in part.items() if key != "name"}
            measured["values"] = [
                (seed, *(float("nan") if bound is None else bound for bound in bounds))
                for seed, *bounds in part["values"]
            ]
            parts.append({"name": part["name"], "measured": measured})
        yield {**row, "parts": parts}
