"""What `bnbench doctor` says on a network: plain records, which reports show without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bnbench.base.network_records import Finding, Proof, Severity, SiteRecord, hold, shared_json

#: The gravest first.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class RuleRecord:
    """A rule that looked at the network. page: its section in the documentation, as Markdown."""

    id: str
    title: str
    severity: Severity
    cost: str
    link: str
    page: str = ""


@dataclass(frozen=True)
class Idle:
    """A rule that did not look, and why: something that it needs was not given, or it raised an error."""

    rule: str
    reason: str
    failed: bool = False


@dataclass(frozen=True)
class Source:
    """Where the model's class is written. file: "" where it is in no file of the user's. line: counted from 1."""

    file: str = ""
    line: int = 0


#: A class in no file of the user's.
NOWHERE = Source()


@dataclass(frozen=True)
class Diagnosis:
    """The normalizations of a network, and what the rules found in them.

    model: the word that names it, or its class. said: what was decided without being asked, such as the input. proofs:
    for example that the model is as it was. gap: what the train/eval gap measured with data, JSON values alone.
    """

    model: str
    sites: tuple[SiteRecord, ...]
    findings: tuple[Finding, ...]
    rules: tuple[RuleRecord, ...]
    idle: tuple[Idle, ...] = ()
    proofs: tuple[Proof, ...] = ()
    said: tuple[str, ...] = ()
    source: Source = NOWHERE
    details: Mapping[str, Any] | None = None

    def having(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def passed(self) -> bool:
        """Whether no finding is an error, and the model is as it was."""
        return not self.having("error") and hold(self.proofs)

    def to_json(self) -> dict[str, Any]:
        """Every finding by itself, also where many are alike."""
        return {
            **shared_json(self.model, self.sites, self.proofs, self.findings, self.said),
            "rules": [rule.id for rule in self.rules],
            "idle": [asdict(idle) for idle in self.idle],
            **(self.details or {}),
        }
