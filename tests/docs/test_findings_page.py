"""docs/findings.md shows what the shipped results say today."""

from pathlib import Path

import bnbench
from bnbench.reports.findings.documents import as_markdown

ROOT = Path(__file__).parents[2]


def test_the_table_is_what_the_command_prints() -> None:
    """Stale after a change? `bnbench replicate report results/findings --format markdown`."""
    printed = as_markdown(bnbench.load_replication(ROOT / "results" / "findings"))
    table = printed[printed.index("| paper") : printed.index("\n\nOurs:")]
    assert table in (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")


def test_shipped_results_are_those_of_the_shipped_findings() -> None:
    """All of them, of the studies as they are: at least 14 of 9 papers."""
    replication = bnbench.load_replication(ROOT / "results" / "findings")
    assert not replication.warnings
    assert len(replication.results) >= 14
    assert replication.num_papers >= 9
    assert {result.finding.name for result in replication.results} == {one.name for one in bnbench.findings()}
