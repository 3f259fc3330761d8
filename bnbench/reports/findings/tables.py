"""Replicated findings as tables, and the list of findings that can be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnbench.analysis.findings.finding import Finding
from bnbench.analysis.findings.replication import FindingResult, Replication
from bnbench.analysis.findings.stored import Replicated
from bnbench.analysis.findings.verdicts import VERDICTS
from bnbench.reports.findings.words import (
    CAPTION,
    claim_name,
    deviations_text,
    ours_text,
    prediction_text,
    published_text,
)
from bnbench.reports.tables.lists import duration
from bnbench.reports.tables.table import Table

_TITLE = "Published findings"
_COLUMNS = ("published", "ours", "prediction", "verdict")


def findings_table(replication: Replication) -> Table:
    """A row a claim."""
    rows = [
        (claim_name(result.finding, judged.claim), *numbers)
        for result in replication.results
        for judged, numbers in zip(result.judged, claim_rows(result), strict=True)
    ]
    return Table(_TITLE, CAPTION, ("finding", *_COLUMNS), tuple(rows), "lrrrl")


def claims_table(result: FindingResult) -> Table:
    """A row a claim of one finding."""
    rows = [
        (judged.claim.name.replace("_", " ") or "–", *numbers)
        for judged, numbers in zip(result.judged, claim_rows(result), strict=True)
    ]
    return Table(result.finding.name, "", ("claim", *_COLUMNS), tuple(rows), "lrrrl")


def overview_table(replication: Replication) -> Table:
    """A row a finding: its paper, and how many claims have which verdict."""
    rows = []
    for result in replication.results:
        verdicts = [judged.verdict for judged in result.judged]
        counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts]
        rows.append((result.finding.name, result.finding.citation.short, ", ".join(counts)))
    return Table(_TITLE, CAPTION, ("finding", "paper", "verdicts"), tuple(rows), "lll")


def claim_rows(result: FindingResult) -> list[tuple[str, ...]]:
    """Published, ours, prediction and verdict of each claim of a finding."""
    return [
        (published_text(one.claim.published), ours_text(one), prediction_text(one), one.verdict)
        for one in result.judged
    ]


def full_table(replication: Replication) -> Table:
    """A row a claim, with the paper, the claim in words, our deviations and the command: for documents."""
    rows = [
        (
            result.finding.citation.short,
            f"{judged.claim.text.rstrip('.')} ({judged.claim.where})",
            *numbers,
            deviations_text(result),
            result.replicated.command,
        )
        for result in replication.results
        for judged, numbers in zip(result.judged, claim_rows(result), strict=True)
    ]
    columns = ("paper", "claim", *_COLUMNS, "deviations", "command")
    return Table(_TITLE, CAPTION, columns, tuple(rows), "llrrrlll")


def _done(kept: Replicated | None) -> str:
    if kept is None:
        return "no"
    return "yes, with overrides" if kept.overrides else "yes"


def list_table(findings: Sequence[Finding], done: Mapping[str, Replicated]) -> Table:
    """The findings that can be run: paper, claims, time, data, whether done. done: by the finding's name."""
    rows = []
    for finding in findings:
        kept = done.get(finding.name)
        seconds = kept.cpu_seconds if kept and kept.cpu_seconds else finding.cpu_seconds
        rows.append(
            (
                finding.name,
                finding.citation.short,
                str(len(finding.claims)),
                duration(seconds) if seconds else "not known",
                ", ".join(finding.data) or "–",
                _done(kept),
            )
        )
    caption = (
        "Time: processor time of one thread (--jobs 1), measured. Findings that share a study train it once."
    )
    return Table(
        "Findings", caption, ("name", "paper", "claims", "time", "data", "done"), tuple(rows), "llrrll"
    )
