"""The environment that a run would be trained in now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bnbench.engine.backends.base import backend_of
from bnbench.engine.cell import Cell
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec


class Today:
    """The environment of runs that would be trained now, or that were.

    cells: as the rehearsal has decided them, by label. packages: the installed packages that a plugin imports, by
    the settings (as JSON) that use it. ranks: the processes that train each run together.
    """

    def __init__(
        self,
        cells: Mapping[str, Cell],
        device: torch.device,
        packages: Mapping[str, Mapping[str, str]],
        ranks: int = 1,
    ) -> None:
        self._cells, self._device, self._packages, self._ranks = cells, device, packages, ranks
        self._environments: dict[str, dict[str, Any]] = {}

    def of(self, run: RunSpec) -> dict[str, Any]:
        """What can change that run's last bits."""
        framework = run.settings.framework
        if framework not in self._environments:
            self._environments[framework] = dict(backend_of(run.settings).environment(self._device))
        threads = {"num_threads": self._cells[run.label].choice.threads, "ranks": self._ranks}
        return {**self._environments[framework], **threads, **self._of_plugins(run)}

    def noted(self, event: RunEnded) -> RunEnded:
        """The end of a run, with the versions of the packages that its plugins import."""
        packages = self._of_plugins(event.run)
        record = replace(event.record, environment={**event.record.environment, **packages})
        return replace(event, record=record)

    def _of_plugins(self, run: RunSpec) -> dict[str, Any]:
        packages = self._packages.get(run.settings.model_dump_json())
        return {"packages": dict(packages)} if packages else {}
