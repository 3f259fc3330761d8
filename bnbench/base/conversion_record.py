"""What `bnbench convert` did to a network: plain records, which reports show without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bnbench.base.network_records import Proof, SiteRecord, hold, shared_json


@dataclass(frozen=True)
class ConversionRecord:
    """model: the word that names it, or its class. to: the normalizer. source: which norms were to be converted.

    renamed: of each old parameter whose name changed, the new one, None where it is gone. said: what was decided
    without being asked, such as the input.
    """

    model: str
    to: str
    source: str
    sites: tuple[SiteRecord, ...]
    proofs: tuple[Proof, ...]
    renamed: Mapping[str, str | None] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    @property
    def converted(self) -> tuple[SiteRecord, ...]:
        """The norms that were converted."""
        return tuple(site for site in self.sites if site.action == "converted")

    @property
    def left(self) -> tuple[SiteRecord, ...]:
        """The norms that stay, each with its reason."""
        return tuple(site for site in self.sites if site.action != "converted")

    @property
    def passed(self) -> bool:
        """Whether no proof failed."""
        return hold(self.proofs)

    def to_json(self) -> dict[str, Any]:
        """Every norm by itself, also where many are alike."""
        return {
            **shared_json(self.model, self.sites, self.proofs, (), self.said),
            "to": self.to,
            "from": self.source,
            "passed": self.passed,
            "renamed": dict(self.renamed),
        }
