"""The findings of a verification, as plain data: rows for tables and for JSON. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

SCHEMA_VERSION = 2

Status = Literal["passed", "failed", "skipped"]
Group = Literal["mathematics", "library"]
#: The mathematics: what is computed and learnt. Library: use in other precisions, layouts, tools.
GROUPS: tuple[Group, ...] = ("mathematics", "library")


@dataclass(frozen=True)
class Finding:
    """One check on one shape of input.

    message: what was seen, or why it was skipped. size: the worst relative error, None where the
    check has no number (or the number is not finite). causes: the usual mistakes that give exactly that.
    """

    check: str
    input: str
    status: Status
    message: str = ""
    size: float | None = None
    tolerance: float | None = None
    causes: tuple[str, ...] = ()
    group: Group = "mathematics"


@dataclass(frozen=True, repr=False)
class Verification:
    """All findings on one layer.

    conventions: eps, momentum and their assumed meaning. parts: role -> attribute of the layer.
    notes: further remarks, one sentence each.
    """

    layer: str
    conventions: Mapping[str, Any]
    parts: Mapping[str, str]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    def having(self, status: Status, group: Group | None = None) -> list[Finding]:
        """The findings of one status, of one group or of both, in the order of the checks."""
        return [item for item in self.findings if item.status == status and group in (None, item.group)]

    @property
    def passed(self) -> bool:
        """Whether the mathematics was checked and nothing of it failed."""
        return not self.having("failed", "mathematics") and bool(self.having("passed", "mathematics"))

    @property
    def strictly_passed(self) -> bool:
        """Whether all checks of both groups passed."""
        return self.passed and not self.having("failed")

    def __repr__(self) -> str:
        groups = (
            f"{group}: {counts['failed']} of {counts['failed'] + counts['passed']} checks failed"
            for group in GROUPS
            if (counts := self.counts(group))
        )
        causes = (f"{cause or 'no usual cause'}: {len(items)}" for cause, items in self.by_cause().items())
        return "\n".join([f"{self.layer}: {'; '.join(groups)}", *causes])

    def by_cause(self) -> dict[str, list[Finding]]:
        """The failed checks by cause; under "" the checks that no usual cause explains."""
        by_cause: dict[str, list[Finding]] = {}
        for finding in self.having("failed"):
            for cause in finding.causes or ("",):
                by_cause.setdefault(cause, []).append(finding)
        unexplained = by_cause.pop("", None)
        return by_cause | ({"": unexplained} if unexplained else {})

    def counts(self, group: Group) -> dict[str, int]:
        """The numbers of the group's checks that passed, failed and were skipped."""
        return {status: len(self.having(status, group)) for status in ("passed", "failed", "skipped")}

    def to_json(self) -> dict[str, Any]:
        """The verification, ready for json.dumps. passed: the mathematics; strictly_passed: the library checks too."""
        return {
            "schema_version": SCHEMA_VERSION,
            "layer": self.layer,
            "passed": self.passed,
            "strictly_passed": self.strictly_passed,
            "counts": {group: self.counts(group) for group in GROUPS},
            "conventions": dict(self.conventions),
            "parts": dict(self.parts),
            "causes": [
                {"cause": cause or None, "checks": [f"{item.check} {item.input}" for item in items]}
                for cause, items in self.by_cause().items()
            ],
            "checks": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Verification:
        """The inverse of `to_json`."""
        findings = tuple(Finding(**{**item, "causes": tuple(item["causes"])}) for item in data["checks"])
        return Verification(data["layer"], data["conventions"], data["parts"], findings, tuple(data["notes"]))
