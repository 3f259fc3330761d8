"""What a verification found, as plain data: rows for tables and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

SCHEMA_VERSION = 1
#: The shapes of input that a layer is judged on, in the order of the columns.
INPUTS = ("(N, C)", "(N, C, L)", "(N, C, H, W)")

Status = Literal["passed", "failed", "skipped"]


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


@dataclass(frozen=True)
class Verification:
    """Everything found about one layer.

    conventions: eps, momentum and what they were taken to mean. parts: role -> attribute of the layer.
    notes: what the reader should know besides, one sentence each.
    """

    layer: str
    conventions: Mapping[str, Any]
    parts: Mapping[str, str]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    def having(self, status: Status) -> list[Finding]:
        """The findings of one status, in the order of the checks."""
        return [finding for finding in self.findings if finding.status == status]

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return not self.having("failed") and bool(self.having("passed"))

    def by_cause(self) -> dict[str, list[Finding]]:
        """The failed checks under each cause; under "" those that no usual cause explains."""
        found: dict[str, list[Finding]] = {}
        for finding in self.having("failed"):
            for cause in finding.causes or ("",):
                found.setdefault(cause, []).append(finding)
        unexplained = found.pop("", None)
        return found | ({"": unexplained} if unexplained else {})

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for json.dumps."""
        return {
            "schema_version": SCHEMA_VERSION,
            "layer": self.layer,
            "passed": self.passed,
            "counts": {status: len(self.having(status)) for status in ("passed", "failed", "skipped")},
            "conventions": dict(self.conventions),
            "parts": dict(self.parts),
            "causes": [
                {"cause": cause or None, "checks": [f"{item.check} {item.input}" for item in items]}
                for cause, items in self.by_cause().items()
            ],
            "checks": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
        }
