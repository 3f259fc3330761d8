"""What `bnbench fold` says on a network: plain records, which reports show without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bnbench.base.network_records import Proof, SiteRecord

#: Kinds whose whole normalization goes into a layer; of the others gamma and beta do.
WHOLE = ("batch", "sync", "frozen")


@dataclass(frozen=True)
class FoldRecord:
    """model: the word that names it, or its class. said: what was decided without being asked, such as the input.

    tracer: who followed the data. speed: the fields of `Speed`, None unless it was measured.
    """

    model: str
    sites: tuple[SiteRecord, ...]
    proofs: tuple[Proof, ...]
    tracer: str = ""
    speed: Mapping[str, float | int] | None = None
    said: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[SiteRecord, ...]:
        """The norms that stay."""
        return tuple(site for site in self.sites if site.action != "folded")

    @property
    def passed(self) -> bool:
        """Whether no comparison failed."""
        return all(proof.passed is not False for proof in self.proofs)

    def to_json(self) -> dict[str, Any]:
        """Every norm by itself, also where many are alike."""
        from bnbench import __version__

        return {
            "model": self.model,
            "bnbench": __version__,
            "sites": [_site(site) for site in self.sites],
            "proofs": [asdict(proof) for proof in self.proofs],
            "findings": [],
            "passed": self.passed,
            "tracer": self.tracer,
            "speed": None if self.speed is None else dict(self.speed),
            "notes": list(self.said),
        }


def _site(site: SiteRecord) -> dict[str, Any]:
    values = {name: getattr(site, name) for name in ("name", "kind", "calls", "action", "reason")}
    return {**values, "names": list(site.names), **site.details}
