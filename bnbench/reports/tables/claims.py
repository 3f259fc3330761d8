"""The claims of one study or several: each with where it is made, what was measured, its interval and its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bnbench.analysis.claims import Claim, Part
from bnbench.analysis.contents import Summary
from bnbench.analysis.measured import Measured
from bnbench.base.files import strict
from bnbench.base.words import Say, Words, in_language, phrases
from bnbench.reports.numbers import (
    NOTHING,
    decimals_for,
    interval_text,
    number_interval,
    ratio_text,
    share_text,
)
from bnbench.reports.tables.table import Table


@dataclass(frozen=True)
class Entry:
    """A claim of a study; counter-examples stand behind the claim that they belong to."""

    study: str
    claim: Claim


def entries_of(studies: Mapping[str, Summary]) -> list[Entry]:
    """The claims of all studies, in their order."""
    return [Entry(name, claim) for name, summary in studies.items() for claim in summary.claims]


def count_text(entries: Sequence[Entry], say: Say) -> str:
    """How many of the claims are confirmed; counter-examples are not counted."""
    own = [entry.claim for entry in entries if not entry.claim.counter]
    return say("claims.summary", confirmed=sum(claim.verdict == "confirmed" for claim in own), total=len(own))


def claim_rows(entries: Sequence[Entry], language: str) -> list[dict[str, Any]]:
    """A flat row for each part of each claim, in full precision; None for an open end of an interval."""
    say = phrases(language)
    return [
        strict(
            {
                "study": entry.study,
                "claim": claim_text(replace(entry.claim, counter=False), say, language),
                "counter_example": entry.claim.counter,
                "source": source_text(entry.claim, language),
                "verdict": entry.claim.verdict,
                "depends_on": _named(entry.claim.depends_on, language),
                "part": in_language(part.name, language),
                "measured": part_name(part, entry.claim, language),
                "expression": part.measured.text,
                "unit": part.measured.unit,
                "value": part.measured.value,
                "ci_low": part.measured.low,
                "ci_high": part.measured.high,
                "margin": part.measured.margin,
                "n": part.measured.n,
                "n_planned": part.measured.n_planned,
                "method": part.measured.method,
                "part_verdict": part.measured.verdict,
                "reason": part.measured.reason,
            }
        )
        for entry in entries
        for part in entry.claim.parts
    ]


def claims_table(summary: Summary) -> Table:
    """The claims of one study."""
    return joint_claims_table(entries_of({summary.name: summary}), summary.language)


def joint_claims_table(entries: Sequence[Entry], language: str) -> Table:
    """A row for each part of each claim; columns that none of them fills are left out."""
    say = phrases(language)
    rows = [row for entry in entries for row in _rows(entry, say, language)]
    columns = ("claim", "source", "measured", "interval", "verdict")
    kept = [
        i for i, name in enumerate(columns) if name in ("claim", "verdict") or any(row[i] for row in rows)
    ]
    return Table(
        say("claims.title"),
        say("claims.caption"),
        tuple(say(f"claims.{columns[i]}") for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
        "".join("r" if columns[i] == "interval" else "l" for i in kept),
        judges=True,
    )


def _rows(entry: Entry, say: Say, language: str) -> Iterator[tuple[str, ...]]:
    claim = entry.claim
    title, source = claim_text(claim, say, language), _text(claim, "source", language)
    several = len(claim.parts) > 1
    if several:
        yield title, source, measured_text(claim, language), "", verdict_words(claim, say, language)
    for part in claim.parts:
        verdict = say(f"verdict.{part.measured.verdict}") if several else verdict_words(claim, say, language)
        yield (
            "" if several else title,
            "" if several else source,
            part_name(part, claim, language),
            result_text(part.measured, say),
            with_reason(verdict, part.measured, say),
        )


def claim_text(claim: Claim, say: Say, language: str) -> str:
    """The claim in words, else its expressions; a counter-example is called one."""
    text = _text(claim, "claim", language) or "; ".join(part.measured.text for part in claim.parts)
    return say("claims.counter", claim=text) if claim.counter else text


def part_name(part: Part, claim: Claim, language: str) -> str:
    """What was measured: the part's name, else the claim's own words for it, else the expression."""
    if part.name:
        return in_language(part.name, language)
    expression = (
        part.measured.text if "claim" in claim.texts else ""
    )  # without words the claim is the expression
    return _text(claim, "measured", language) or expression


def source_text(claim: Claim, language: str) -> str:
    """Where the claim is made; "" where that is not given."""
    return _text(claim, "source", language)


def measured_text(claim: Claim, language: str) -> str:
    """What is measured, in the claim's own words; "" where it gives none."""
    return _text(claim, "measured", language)


def _text(claim: Claim, key: str, language: str) -> str:
    return in_language(claim.texts[key], language) if key in claim.texts else ""


def verdict_words(claim: Claim, say: Say, language: str) -> str:
    """For example "confirmed", or "depends on the gradient's definition"."""
    return say(f"verdict.{claim.verdict}", parts=_named(claim.depends_on, language))


def _named(names: Sequence[Words], language: str) -> str:
    return ", ".join(in_language(name, language) for name in names)


def with_reason(verdict: str, measured: Measured, say: Say) -> str:
    """The verdict, and why there is no other where that is not the interval."""
    if not measured.reason:
        return verdict
    lost = ", ".join(f"{count} {say(f'outcome.{reason}')}" for reason, count in measured.lost.items())
    why = say(f"reason.{measured.reason}", lost=lost, n=measured.n, planned=measured.n_planned)
    return f"{verdict} ({why})"


def result_text(measured: Measured, say: Say) -> str:
    """The value with its interval in its unit, and what was claimed of it."""
    number = _number_text(measured, say)
    limit = _limit_text(measured, say)
    return f"{number}; {say('claims.claimed', sign=measured.sign, limit=limit)}" if number else NOTHING


def _number_text(measured: Measured, say: Say) -> str:
    value, low, high = measured.value, measured.low, measured.high
    if low is None and high is None and value is None:
        return ""
    if low is None or high is None or value is None:
        return _one_sided(measured, say)
    return _with_unit(measured, say, value, low, high)


def _with_unit(measured: Measured, say: Say, value: float, low: float | None, high: float | None) -> str:
    match measured.unit:
        case "ratio":
            return ratio_text(value, low, high)
        case "share":
            return _share(measured, value, low, high)
        case "points":
            return interval_text(value, low, high, percent=True).replace(
                " pp", say("claims.points", number=""), 1
            )
        case "decades":
            return say("claims.decades", number=number_interval(value, low, high, sign=_sign(measured)))
        case "steps":
            return say("claims.steps", number=number_interval(value, low, high, sign=_sign(measured)))
    return number_interval(value, low, high, sign=_sign(measured))


def _share(measured: Measured, value: float, low: float | None, high: float | None) -> str:
    """A share of seeds in whole percent, any other with the digits that its interval has."""
    if low is None or high is None:
        return f"{100 * value:.0f}%"
    if measured.method == "exact":
        return share_text(value, low, high)
    decimals = decimals_for(50 * (high - low), percent=True)
    return f"{100 * value:.{decimals}f}% [{100 * low:.{decimals}f}%, {100 * high:.{decimals}f}%]"


def _one_sided(measured: Measured, say: Say) -> str:
    """Where a side is open: how far it goes on the other."""
    end, key = (
        (measured.low, "claims.at_least") if measured.low is not None else (measured.high, "claims.at_most")
    )
    if end is None:
        return "" if measured.value is None else _with_unit(measured, say, measured.value, None, None)
    return say(key, number=_with_unit(measured, say, end, None, None))


def _sign(measured: Measured) -> str:
    return "+" if measured.difference else ""


def _limit_text(measured: Measured, say: Say) -> str:
    limit = _plain(measured.limit, measured, say)
    if measured.sign != "=" or measured.margin is None:
        return limit
    margin = f"{100 * measured.margin:g}%" if measured.ratio else _plain(measured.margin, measured, say)
    return f"{limit} ± {margin}"


def _plain(number: float, measured: Measured, say: Say) -> str:
    if measured.unit == "share":
        return f"{100 * number:g}%"
    if measured.unit == "points":
        return say("claims.points", number=f"{100 * number:g}") if number else "0"
    return f"{number:g}"
