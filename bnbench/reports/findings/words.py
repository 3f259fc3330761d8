"""The numbers and sentences of replicated findings."""

from __future__ import annotations

import math

from bnbench.analysis.findings.finding import Claim, Finding, Published
from bnbench.analysis.findings.replication import FindingResult, Replication
from bnbench.analysis.findings.verdicts import Judged
from bnbench.reports.numbers import NOTHING

#: What the tables show, for their captions.
CAPTION = (
    "Ours: mean over the seeds (of a ratio the geometric mean) with its 95 % interval, seeds paired. Prediction: where "
    "95 % of results published from so many runs would lie; only on the paper's own scale. Verdicts after Holm's "
    "correction over all claims of one paper in this table."
)


def published_text(published: Published) -> str:
    """For example "10.6 pp", "98.46 and 9.80 %", "1.480 (theory)", "no number"."""
    unit = "" if published.unit in ("1", "none") else f" {published.unit}"
    runs = ""
    if math.isinf(published.runs):
        runs = " (theory)"
    elif published.runs > 1:
        runs = f" ({published.runs:g} runs)"
    if published.values is not None:
        first, second = (_printed(value, published.decimals) for value in published.values)
        return f"{first} and {second}{unit}{runs}"
    if published.value is None:
        return "no number"
    interval = ""
    if published.interval:
        low, high = (_printed(end, published.decimals) for end in published.interval)
        interval = f" [{low}, {high}]"
    return f"{_printed(published.value, published.decimals)}{interval}{unit}{runs}"


def _printed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}"


def ours_text(judged: Judged) -> str:
    """For example "+2.3 [+1.1, +3.5] pp"; the interval alone where values are known on one side."""
    ends = [end for end in (judged.low, judged.high) if end is not None]
    if judged.ours is None and not any(map(math.isfinite, ends)):
        return NOTHING
    number = "" if judged.ours is None else _scaled(judged, judged.ours)
    return f"{number}{interval_text(judged, judged.low, judged.high)}{unit_text(judged)}".strip()


def prediction_text(judged: Judged) -> str:
    """For example "[-1.0, +5.6] pp"; – where the published number is not on our scale."""
    if judged.prediction_low is None:
        return NOTHING
    return (
        f"{interval_text(judged, judged.prediction_low, judged.prediction_high).strip()}{unit_text(judged)}"
    )


def interval_text(judged: Judged, low: float | None, high: float | None) -> str:
    """With a space before it, "" where there is none."""
    if low is None or high is None:
        return ""
    return f" [{_scaled(judged, low)}, {_scaled(judged, high)}]"


def unit_text(judged: Judged) -> str:
    """Behind our numbers, where they are shares; any other unit stands with the published number."""
    if not judged.percent:
        return ""
    return " pp" if _is_signed(judged.claim) else " %"


def _is_signed(claim: Claim) -> bool:
    return " - " in claim.quantity or " + " in claim.quantity


def _scaled(judged: Judged, value: float) -> str:
    factor = 100 if judged.percent else 1
    sign = "+" if _is_signed(judged.claim) else ""
    number, low, high = (factor * part for part in (value, judged.low or 0.0, judged.high or 0.0))
    if not math.isfinite(number):
        return f"{number:{sign}}"
    half = (high - low) / 2 if math.isfinite(high - low) else 0.0
    digits = math.floor(math.log10(half)) if half > 0 else -3  # the place of the scatter's first digit
    if number and not 1e-3 <= abs(number) < 1e5 and abs(number) > half:
        return f"{number:{sign}.{min(max(_exponent(number) - digits + 1, 1), 3)}e}"
    return f"{number:{sign},.{min(max(1 - digits, 0), 6)}f}"


def _exponent(number: float) -> int:
    return math.floor(math.log10(abs(number)))


def answer_text(replication: Replication) -> str:
    """For example "14 findings of 11 papers, 38 claims: 12 reproduced, ..."."""
    return f"{replication!r}."


def claim_name(finding: Finding, claim: Claim) -> str:
    """What a row of the table is called."""
    return f"{finding.name}: {claim.name.replace('_', ' ')}" if claim.name else finding.name


def claim_lines(result: FindingResult) -> list[str]:
    """A sentence for each claim: what the paper says and where, what was measured, and the verdict's reason."""
    lines = []
    for judged in result.judged:
        claim = judged.claim
        name = f"{claim.name.replace('_', ' ')}: " if claim.name else ""
        lines.append(
            f"{name}{claim.text.rstrip('.')} ({claim.where}). Measured: {claim.quantity}; criterion: "
            f"{claim.criterion.text}{seeds_text(judged)}. {judged.verdict.capitalize()}: {judged.reason}."
        )
    return lines


def seeds_text(judged: Judged) -> str:
    """For example ", 5 seeds, p 0.003 (0.02 after Holm's correction over 6 claims)"."""
    count = f"{judged.n}" if judged.n == judged.planned else f"{judged.n} of {judged.planned}"
    if judged.p is None or judged.p_holm is None:
        return f", {count} seeds"
    return f", {count} seeds, p {_p(judged.p)} ({_p(judged.p_holm)} after Holm's correction over {judged.family})"


def _p(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def paper_text(finding: Finding) -> str:
    """Authors, year, title and where it can be read."""
    citation = finding.citation
    return f"{citation.authors} {citation.year}, {citation.title}. {citation.link}"


def deviations_text(result: FindingResult) -> str:
    """What differs from the paper, in one line."""
    return "; ".join(result.replicated.deviations) or "none"
