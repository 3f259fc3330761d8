"""What `bnbench fold` says on a network: plain records, which reports show without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnbench.base.network_records import Proof, SiteRecord, hold, shared_json

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
        return hold(self.proofs)

    def to_json(self) -> dict[str, Any]:
        """Every norm by itself, also where many are alike."""
        return {
            **shared_json(self.model, self.sites, self.proofs, (), self.said),
            "passed": self.passed,
            "tracer": self.tracer,
            "speed": None if self.speed is None else dict(self.speed),
        }
