"""Findings with their verdicts: what `replicate report` shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bnbench.analysis.findings.finding import Finding
from bnbench.analysis.findings.stored import Replicated
from bnbench.analysis.findings.verdicts import VERDICTS, Judged, Verdict, corrected, judge


@dataclass(frozen=True)
class FindingResult:
    """A finding that was run, and the verdict of each of its claims."""

    replicated: Replicated
    judged: tuple[Judged, ...]

    @property
    def finding(self) -> Finding:
        """What was published."""
        return self.replicated.finding


@dataclass(frozen=True)
class Replication:
    """Findings that were run, in the order of their papers. unreadable: what is wrong with other files there."""

    results: tuple[FindingResult, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Files that can't be read, and findings whose file asks for something else than what was run."""
        outdated = (
            f"{result.finding.name}: its file asks for another study or quantity than the values here; "
            "`bnbench replicate run` trains it again."
            for result in self.results
            if result.replicated.outdated
        )
        return (*self.unreadable, *outdated)

    @property
    def claims(self) -> tuple[Judged, ...]:
        """The claims of all findings."""
        return tuple(judged for result in self.results for judged in result.judged)

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many claims have each verdict."""
        verdicts = [judged.verdict for judged in self.claims]
        return {verdict: verdicts.count(verdict) for verdict in VERDICTS}

    @property
    def num_papers(self) -> int:
        """How many papers they are of."""
        return len({result.finding.citation.key for result in self.results})

    @property
    def records(self) -> list[dict[str, Any]]:
        """One record a claim, of plain values."""
        return [record(result, judged) for result in self.results for judged in result.judged]

    def only(self, names: Iterable[str]) -> Replication:
        """These findings alone, with the verdicts that they have among all."""
        wanted = set(names)
        return replace(
            self, results=tuple(one for one in self.results if one.finding.name in wanted), unreadable=()
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {verdict}" for verdict, number in self.counts.items() if number)
        numbers = (len(self.results), self.num_papers, len(self.claims))
        found, papers, claims = (
            f"{number} {noun}{'s' * (number != 1)}"
            for number, noun in zip(numbers, ("finding", "paper", "claim"), strict=True)
        )
        sizes = f"{found} of {papers}, {claims}"
        return f"{sizes}{f': {counts}' if counts else ''}"


def replication(replicated: Sequence[Replicated], unreadable: Sequence[str] = ()) -> Replication:
    """Judge every claim, with Holm's correction over the claims of each paper that are here."""
    ordered = sorted(replicated, key=_order)
    pairs = [(one, *pair) for one in ordered for pair in zip(one.finding.claims, one.measured, strict=True)]
    judged = corrected(
        [judge(claim, measured) for _, claim, measured in pairs],
        [one.finding.citation.key for one, _, _ in pairs],
    )
    rest = iter(judged)
    results = [FindingResult(one, tuple(next(rest) for _ in one.finding.claims)) for one in ordered]
    return Replication(tuple(results), tuple(unreadable))


def _order(replicated: Replicated) -> tuple[int, str, str]:
    finding = replicated.finding
    return finding.citation.year, finding.citation.short, finding.name


def record(result: FindingResult, judged: Judged) -> dict[str, Any]:
    """A claim as plain values, numbers in bnbench's units (an accuracy is a share)."""
    finding, claim, published = result.finding, judged.claim, judged.claim.published
    low, high = judged.band or (None, None)
    return {
        "finding": finding.name,
        "claim": claim.name or None,
        "paper": finding.citation.short,
        **{key: value for key, value in asdict(finding.citation).items() if value},
        "text": claim.text,
        "where": claim.where,
        "published": published.value if published.values is None else list(published.values),
        "published_text": published.text or None,
        "unit": published.unit,
        "published_runs": f"{published.runs:g}" if published.runs_known and judged.band else None,
        "published_low": low,
        "published_high": high,
        "quantity": claim.quantity,
        "criterion": claim.criterion.text,
        "scale": claim.scale,
        "ours": judged.ours,
        "low": judged.low,
        "high": judged.high,
        "n": judged.n,
        "planned": judged.planned,
        "prediction_low": judged.prediction_low,
        "prediction_high": judged.prediction_high,
        "p": judged.p,
        "p_holm": judged.p_holm,
        "family": judged.family,
        "verdict": judged.verdict,
        "uncorrected": judged.uncorrected,
        "reason": judged.reason,
        "deviations": list(result.replicated.deviations),
        "why": finding.why or None,
        "command": result.replicated.command,
        "cpu_seconds": result.replicated.cpu_seconds,
    }
