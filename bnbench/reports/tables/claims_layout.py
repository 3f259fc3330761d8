"""The claims of a collection on a terminal of any width: a paragraph each, its verdict at the right or below."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from bnbench.analysis.claims import Claim
from bnbench.base.terminal import one_line
from bnbench.base.words import Say, phrases
from bnbench.reports.tables.claims import (
    Entry,
    claim_text,
    measured_text,
    part_name,
    result_text,
    source_text,
    verdict_words,
    with_reason,
)
from bnbench.reports.tables.layout import UNBROKEN, wrapped

#: Colours that differ for every kind of colour vision; the word says the same without them.
STYLES = {"confirmed": "bold blue", "refuted": "bold yellow", "not_confirmed": "yellow", "depends": "yellow"}
#: Columns of a claim beside its verdict, at least; else the verdict stands below.
_LEAST = 36
#: Columns by which the lines of a claim, and those of its counter-example, stand further right.
_INDENT = 2


def claim_lines(entries: Sequence[Entry], width: int, language: str) -> Iterator[Text]:
    """Every claim with its parts, a blank line before each that is no counter-example."""
    say = phrases(language)
    for place, entry in enumerate(entries):
        if place and not entry.claim.counter:
            yield Text()
        yield from _lines_of(entry.claim, width, say, language)


def _lines_of(claim: Claim, width: int, say: Say, language: str) -> Iterator[Text]:
    indent = _INDENT * claim.counter
    style = "" if claim.counter else "bold"
    title = one_line(claim_text(claim, say, language))
    verdict = Text(one_line(verdict_words(claim, say, language)), STYLES.get(claim.verdict, ""))
    yield from _beside(title, verdict, width, indent, style)
    if source := source_text(claim, language):
        yield from _paragraph(one_line(source), width, indent + _INDENT, "dim")
    if len(claim.parts) > 1 and (measured := measured_text(claim, language)):
        yield from _paragraph(one_line(measured), width, indent + _INDENT)
    for part in claim.parts:
        words = [part_name(part, claim, language), result_text(part.measured, say)]
        text = _unbroken(one_line(": ".join(filter(None, words))))
        several = len(claim.parts) > 1
        own = say(f"verdict.{part.measured.verdict}") if several else ""
        reason = with_reason(own, part.measured, say).strip()
        if reason:
            beside = Text(reason, STYLES.get(part.measured.verdict, "") if several else "")
            yield from _beside(text, beside, width, indent + _INDENT)
        else:
            yield from _paragraph(text, width, indent + _INDENT)


def _unbroken(text: str) -> str:
    """The claimed limit stays on the line of its sign."""
    return re.sub(r"(?:<=|>=|<|>|=) [^<>=]*$", lambda match: match[0].replace(" ", UNBROKEN), text)


def _beside(text: str, right: Text, width: int, indent: int, style: str = "") -> Iterator[Text]:
    """The text, and at the right end of its first line the other; below where there is no room."""
    room = width - indent - cell_len(right.plain) - 2
    if room < _LEAST:
        yield from _paragraph(text, width, indent, style)
        for line in wrapped(right.plain, width - indent - _INDENT):
            yield Text(" " * (indent + _INDENT)) + Text(line, right.style)
        return
    first, *others = wrapped(text, room)
    if cell_len(first) > room:  # a single long word
        yield from _paragraph(text, width, indent, style)
        yield Text(" " * (indent + _INDENT)) + right
        return
    gap = " " * (width - indent - cell_len(first) - cell_len(right.plain))
    yield Text(" " * indent) + Text(first, style) + Text(gap) + right
    for line in others:
        yield Text(" " * indent) + Text(line, style)


def _paragraph(text: str, width: int, indent: int, style: str = "") -> Iterator[Text]:
    for line in wrapped(text, width - indent):
        yield Text(" " * indent) + Text(line, style)
