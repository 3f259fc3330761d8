"""The page of a collection: every claim with its verdict, its intervals and the figures of its study, in one file."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from bnbench.analysis.claims import Claim
from bnbench.analysis.contents import Summary
from bnbench.base.words import Say, phrases
from bnbench.reports.figures.all import Figure, figures, leading_figures
from bnbench.reports.figures.files import render
from bnbench.reports.page.html import embedded, page_template
from bnbench.reports.tables.claims import (
    Entry,
    claim_text,
    count_text,
    entries_of,
    joint_claims_table,
    measured_text,
    part_name,
    result_text,
    source_text,
    verdict_words,
    with_reason,
)
from bnbench.results import REPORT

#: The figures of a network's inside that stand on the page.
_INSIDE = ("inside_unit", "inside_strips_pre")


@dataclass(frozen=True)
class _Section:
    """A claim or a counter-example as the page shows it.

    figures: title, caption, words and picture (as the source of an image). report: the path of the study's own page.
    """

    id: str
    title: str
    source: str
    measured: str
    verdict: str
    kind: str
    counter: bool
    study: str
    rows: Sequence[tuple[str, str, str]]
    report: str
    figures: Sequence[tuple[str, str, str, str]] = field(default=())


def claims_page(name: str, studies: Mapping[str, Summary], folders: Mapping[str, Path], language: str) -> str:
    """The page as HTML; nothing in it is fetched from anywhere. folders: of the studies, beside the page."""
    say = phrases(language)
    entries = entries_of(studies)
    return str(
        page_template("claims.html").render(
            title=name,
            language=language,
            say=say,
            answer=count_text(entries, say),
            table=joint_claims_table(entries, language),
            sections=list(_sections(entries, studies, folders, language)),
            css=embedded("page.css"),
        )
    )


def _sections(
    entries: Sequence[Entry], studies: Mapping[str, Summary], folders: Mapping[str, Path], language: str
) -> Iterator[_Section]:
    say = phrases(language)
    drawn: set[str] = set()
    for index, entry in enumerate(entries, start=1):
        claim, summary = entry.claim, studies[entry.study]
        report = folders[entry.study] / REPORT
        yield _Section(
            id=f"claim-{index}",
            title=claim_text(claim, say, language),
            source=source_text(claim, language),
            measured=measured_text(claim, language) if len(claim.parts) > 1 else "",
            verdict=verdict_words(claim, say, language),
            kind=claim.verdict,
            counter=claim.counter,
            study=entry.study,
            rows=_rows(claim, say, language),
            report=f"{quote(folders[entry.study].name)}/{REPORT}" if os.path.lexists(report) else "",
            figures=[]
            if entry.study in drawn
            else [_picture(figure, summary) for figure in _figures(summary)],
        )
        drawn.add(entry.study)


def _rows(claim: Claim, say: Say, language: str) -> list[tuple[str, str, str]]:
    """What was measured, its result and its verdict, part by part."""
    return [
        (
            part_name(part, claim, language) or part.measured.text,
            result_text(part.measured, say),
            with_reason(say(f"verdict.{part.measured.verdict}"), part.measured, say),
        )
        for part in claim.parts
    ]


def _figures(summary: Summary) -> list[Figure]:
    """Those that answer the study's question; of a study with probes also one unit and the histograms of all layers."""
    made = {figure.name: figure for figure in figures(summary)}
    leading = leading_figures(summary, list(made.values()))
    return [made[name] for name in (*leading, *_INSIDE) if name in made]


def _picture(figure: Figure, summary: Summary) -> tuple[str, str, str, str]:
    picture = base64.b64encode(render(figure, summary, "svg")).decode()
    return figure.title, figure.caption, figure.alternative, f"data:image/svg+xml;base64,{picture}"
