"""Replicated findings as one HTML file that fetches nothing and runs no script."""

from __future__ import annotations

from bnbench.analysis.findings.replication import FindingResult, Replication
from bnbench.reports.findings.tables import findings_table
from bnbench.reports.findings.words import answer_text, claim_lines, deviations_text
from bnbench.reports.page.html import embedded, page_template


def replication_page(replication: Replication) -> str:
    """The answer, the table, then each finding with its claims, deviations and the command that repeats it."""
    page: str = page_template("findings.html").render(
        css=embedded("page.css"),
        answer=answer_text(replication),
        warnings=replication.warnings,
        table=findings_table(replication),
        findings=[_of(result) for result in replication.results],
    )
    return page


def _of(result: FindingResult) -> dict[str, object]:
    finding, citation = result.finding, result.finding.citation
    return {
        "name": finding.name,
        "paper": f"{citation.authors} {citation.year}, {citation.title}.",
        "link": citation.link if citation.link.startswith(("http://", "https://")) else "",
        "claims": claim_lines(result),
        "deviations": deviations_text(result),
        "why": finding.why,
        "command": result.replicated.command,
    }
