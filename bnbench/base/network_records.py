"""Plain records of what was found and done in somebody's network; `convert`, `doctor` and `fold` share them.

They hold no tensor and no module, so that reports can show them without torch. Each key of the JSON is a field here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Action = Literal["converted", "folded", "left", "refused"]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class SiteRecord:
    """One normalization and what became of it. A shared one counts once, with all its names.

    name: its first qualified name, "" where it is the root. kind: what it computes (`NormBehaviour.kind`). calls: per
    forward pass. reason: why it was left or refused; "" else. details: what one command adds to it, JSON values alone.
    """

    name: str
    names: tuple[str, ...]
    kind: str
    calls: int
    action: Action
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Its fields, with the details beside them."""
        values = {name: getattr(self, name) for name in ("name", "kind", "calls", "action", "reason")}
        return {**values, "names": list(self.names), **self.details}


@dataclass(frozen=True)
class Proof:
    """A statement that was checked. passed: None where it could not be. value: the number or the sentence it rests on.

    explanation: one sentence for people: what was compared, or why it could not be.
    """

    name: str
    passed: bool | None
    value: float | int | str | None
    explanation: str = ""


@dataclass(frozen=True)
class Finding:
    """What a rule of `doctor` found. rule: for example "D06". place: the qualified name of a site, "" for the network.

    evidence: one number, with its name and unit in `measure`. cost: what it does to training or to results. fix: text
    to follow or to paste. page: of the documentation, with the public threads.
    """

    rule: str
    severity: Severity
    place: str
    evidence: float
    measure: str
    message: str
    cost: str
    fix: str
    page: str = ""


def hold(proofs: Sequence[Proof]) -> bool:
    """Whether none of them failed."""
    return all(proof.passed is not False for proof in proofs)


def shared_json(
    model: str,
    sites: Sequence[SiteRecord],
    proofs: Sequence[Proof],
    findings: Sequence[Finding],
    said: Sequence[str],
) -> dict[str, Any]:
    """The keys that the JSON of `convert`, `doctor` and `fold` has; every norm and finding by itself."""
    from bnbench import __version__

    return {
        "model": model,
        "bnbench": __version__,
        "sites": [site.to_json() for site in sites],
        "proofs": [asdict(proof) for proof in proofs],
        "findings": [asdict(finding) for finding in findings],
        "notes": list(said),
    }
