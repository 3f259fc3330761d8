"""The diagnosis of `bnbench doctor`: on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from bnbench.base import files
from bnbench.base.diagnosis import SEVERITIES, Diagnosis
from bnbench.base.network_records import Finding
from bnbench.base.terminal import one_line
from bnbench.reports.console import print_lines, print_table, print_text
from bnbench.reports.network.gap import print_gap
from bnbench.reports.network.names import shortened
from bnbench.reports.network.sarif import plain, to_sarif
from bnbench.reports.tables.layout import wrapped
from bnbench.reports.tables.table import Table

#: Names that are written out where alike findings share a line.
_FEW = 3
#: Columns of a name before its middle is left out.
_NAME = 40


@dataclass(frozen=True)
class Alike:
    """Findings of one rule with the same message: one line of the table."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The one with the largest evidence."""
        return max(self.findings, key=lambda finding: finding.evidence)

    @property
    def place(self) -> str:
        """For example "features.1", or "in 52 norms"."""
        if len(self.findings) > 1:
            return f"in {len(self.findings)} places"
        return shortened(self.first.place, _NAME) or "the network"

    @property
    def evidence(self) -> str:
        """The number, or its range, with its name and unit."""
        numbers = [finding.evidence for finding in self.findings]
        low, high = number_text(min(numbers)), number_text(max(numbers))
        return f"{low if low == high else f'{low} to {high}'} {self.first.measure}"


def number_text(value: float) -> str:
    """A count as it is, another number with three digits."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"


def alike(diagnosis: Diagnosis, *, every: bool = False) -> list[Alike]:
    """Findings that say the same as one; every: each by itself."""
    groups: dict[object, list[Finding]] = {}
    for index, finding in enumerate(diagnosis.findings):
        key = index if every else (finding.rule, finding.severity, finding.message, finding.measure)
        groups.setdefault(key, []).append(finding)
    return [Alike(tuple(group)) for group in groups.values()]


def answer(diagnosis: Diagnosis) -> str:
    """One line: how many findings, in how many normalizations, by how many rules."""
    norms = len(diagnosis.sites)
    looked = f"{counted(norms, 'normalization')}, {counted(len(diagnosis.rules), 'rule')}"
    if not norms:
        return f"{diagnosis.model}: no normalization was found, so there is nothing to judge."
    numbers = [
        counted(len(diagnosis.having(severity)), severity)
        for severity in SEVERITIES
        if diagnosis.having(severity)
    ]
    return f"{diagnosis.model}: {', '.join(numbers) or 'nothing found'} ({looked})."


def counted(number: int, noun: str) -> str:
    """For example "1 norm" and "2 norms"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_diagnosis(console: Console, diagnosis: Diagnosis, *, every: bool = False) -> None:
    """Print the answer, the table of findings, what each costs and its fix, and what was not looked at."""
    print_text(console, answer(diagnosis), style="bold")
    console.print()
    groups = alike(diagnosis, every=every)
    if groups:
        print_table(console, findings_table(groups), headed=False)
    for group in groups if not every else alike(diagnosis):
        _print_advice(console, diagnosis, group)
    for sentence in ((diagnosis.details or {}).get("difference") or {}).get("sentences", ()):
        print_text(console, sentence)
        console.print()
    print_gap(console, (diagnosis.details or {}).get("train_eval_gap"), every=every)
    print_lines(console, "Notes", [*diagnosis.said, *idle_lines(diagnosis), *broken_lines(diagnosis)])
    if groups:
        hidden = " Every place: --all." if any(len(group.findings) > 1 for group in groups) else ""
        rule = groups[0].first.rule
        print_text(console, f"More on a rule: bnbench doctor --explain {rule}.{hidden}")


def findings_table(groups: Sequence[Alike]) -> Table:
    """One row for findings that are alike."""
    rows = tuple((group.first.rule, group.first.severity, group.place, group.evidence) for group in groups)
    return Table("Findings", "", ("rule", "severity", "place", "evidence"), rows, "llll")


def _print_advice(console: Console, diagnosis: Diagnosis, group: Alike) -> None:
    first = group.first
    title = next((rule.title for rule in diagnosis.rules if rule.id == first.rule), "")
    print_text(console, f"{first.rule} {title}: {first.severity}", style="bold")
    print_text(console, first.message, indent=2)
    if len(group.findings) > 1:
        print_text(console, f"In {place_list(group.findings)}.", indent=2)
    print_text(console, f"Cost: {first.cost}", indent=2)
    lines = first.fix.split("\n")
    print_text(console, f"Fix: {lines[0]}", indent=2)
    for line in lines[1:]:
        print_text(console, line, indent=4)
    console.print()


def place_list(findings: Sequence[Finding]) -> str:
    """The first names, and how many more."""
    names = [shortened(finding.place, _NAME) or "the network" for finding in findings]
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"{', '.join(names[:_FEW])}{more}"


def idle_lines(diagnosis: Diagnosis) -> list[str]:
    """The rules that did not look: one line a reason."""
    reasons: dict[str, list[str]] = {}
    for idle in diagnosis.idle:
        reasons.setdefault(idle.reason, []).append(idle.rule)
    return [f"{', '.join(names)} did not look: {reason}." for reason, names in reasons.items()]


def broken_lines(diagnosis: Diagnosis) -> list[str]:
    """The proofs that do not hold."""
    return [
        f"NOT PROVED: {proof.name}. {proof.explanation}"
        for proof in diagnosis.proofs
        if proof.passed is False
    ]


def to_json(diagnosis: Diagnosis) -> str:
    """Strict JSON: every finding by itself."""
    return files.to_json(diagnosis.to_json(), ascii=True)


def sarif_text(diagnosis: Diagnosis) -> str:
    """SARIF 2.1.0, for code scanning."""
    return files.to_json(to_sarif(diagnosis), ascii=True)


#: Name -> function that writes a diagnosis in that format.
FORMATS: dict[str, Callable[[Diagnosis], str]] = {"json": to_json, "sarif": sarif_text}


def page_lines(page: str, width: int) -> list[str]:
    """A rule's page for a terminal: without the marks of Markdown, at most so many columns wide."""
    paragraphs = [wrapped(one_line(paragraph), width) for paragraph in plain(page).split("\n\n")]
    return [line for lines in paragraphs for line in (*lines, "")][:-1]
