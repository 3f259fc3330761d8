"""A study becomes runs: every variant, at every setting of the sweep, with every seed.

Plain frozen dataclasses, free of torch: they travel from the engine to the results folder, the
analysis and the reports.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bnbench.base.files import key_text
from bnbench.study import Settings, Study
from bnbench.study.labels import Labelled

#: Raised by one whenever the same settings give other numbers than before: old runs are then
#: other runs, and are left alone.
NUMERICS_VERSION = 3


@dataclass(frozen=True)
class RunSpec(Labelled):
    """One variant (at one setting of the sweep) with one seed.

    setting: the swept keys and values, empty where nothing is swept.
    cell: identity of everything but the seed, 12 hex digits; the runs of a cell are replicates.
    provenance: the part of that identity outside the settings: the data's content, a plugin's source.
    """

    seed: int
    cell: str
    settings: Settings = field(repr=False)
    provenance: Any = field(default=None, repr=False)

    @property
    def key(self) -> tuple[str, int]:
        """Which run of its study it is: its label and its seed. Hashable, as the settings are not."""
        return self.label, self.seed


@dataclass(frozen=True)
class ProbeCost:
    """What measures cost one run: their names, at how many steps they look, and the seconds of all of that."""

    measures: tuple[str, ...]
    steps: int
    seconds: float


@dataclass(frozen=True)
class CellEstimate:
    """The cost of one variant: of one of its runs. memory_bytes: of a process that trains it, with the data.

    trained_parameters: how many learn, None for all. evaluation_seconds: the part of `seconds` in which nothing is
    trained. warnings: limits of its answer. notes: remarks on its data. probes: what its probes cost, within `seconds`.
    network: what was done to the normalizers of a network that was not written for bnbench. worker_bytes: of a worker
    that trains the largest of its jobs, with the data; 0 where it is trained in the command's own process. workers: how
    many train at a time, by default. together_bytes: of all of them.
    """

    label: str
    num_parameters: int
    steps: int
    seconds: float
    memory_bytes: int
    notes: tuple[str, ...] = ()
    evaluation_seconds: float = 0.0
    trained_parameters: int | None = None
    warnings: tuple[str, ...] = ()
    probes: tuple[ProbeCost, ...] = ()
    network: str = ""
    worker_bytes: int = 0
    workers: int = 0
    together_bytes: int = 0


def make_plan(study: Study, provenance: Callable[[Settings], Any]) -> list[RunSpec]:
    """Every run of the study, seed by seed so that variants are interleaved in time.

    provenance: everything outside these settings that can change their numbers (the data's content, a
    plugin's source), as plain values.
    """
    cells = [(cell, provenance(cell.settings)) for cell in study.cells]
    specs = [
        (cell.variant, cell.setting, cell_identity(cell.settings, facts), cell.settings, facts)
        for cell, facts in cells
    ]
    return [
        RunSpec(variant, setting, seed, identity, settings, facts)
        for seed, (variant, setting, identity, settings, facts) in itertools.product(study.seeds, specs)
    ]


def identity_facts(settings: Settings, provenance: Any) -> dict[str, Any]:
    """Everything but the seed that can change a run's numbers, as plain values."""
    facts = provenance if isinstance(provenance, Mapping) else {"provenance": provenance}
    return {"numerics": NUMERICS_VERSION, "settings": settings.identity(), **facts}


def cell_identity(settings: Settings, provenance: Any) -> str:
    """Hash of everything but the seed that can change a run's numbers; 12 hex digits."""
    facts = {"numerics": NUMERICS_VERSION, "settings": settings.identity(), "provenance": provenance}
    return hashlib.blake2b(key_text(facts).encode(), digest_size=6).hexdigest()
