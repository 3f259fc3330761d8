"""Replicated findings on a terminal of any width."""

from __future__ import annotations

from rich.console import Console

from bnbench.analysis.findings.replication import FindingResult, Replication
from bnbench.reports.console import print_table, print_text
from bnbench.reports.findings.tables import claims_table, overview_table
from bnbench.reports.findings.words import answer_text, claim_lines, deviations_text, paper_text


def print_replication(console: Console, replication: Replication) -> None:
    """Print each finding with its claims in words and its table, then an overview and, last, the answer."""
    for result in replication.results:
        _print_finding(console, result)
    print_table(console, overview_table(replication))
    for warning in replication.warnings:
        print_text(console, f"Warning: {warning}")
    print_text(console, answer_text(replication), style="bold")


def _print_finding(console: Console, result: FindingResult) -> None:
    print_text(console, result.finding.name, style="bold")
    print_text(console, paper_text(result.finding), indent=2)
    console.print()
    print_table(console, claims_table(result), headed=False)
    for line in claim_lines(result):
        print_text(console, f"- {line}", indent=2)
    print_text(console, f"Deviations: {deviations_text(result)}.", indent=2)
    if result.finding.why:
        print_text(console, f"Comment: {result.finding.why}", indent=2)
    print_text(console, f"Repeat: {result.replicated.command}", indent=2)
    console.print()
