"""Under which circumstances a run would be trained now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bnbench.base.user_code import guarded, raise_interrupt
from bnbench.engine.choose import choose
from bnbench.engine.device import environment
from bnbench.engine.execute import Library
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec


class Today:
    """The environment of runs that would be trained now, or that were.

    packages: the installed packages that a plugin imports, by the settings (as JSON) that use it.
    """

    def __init__(
        self, library: Library, device: torch.device, packages: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._library, self._device, self._packages = library, device, packages
        self._threads: dict[str, int | None] = {}
        self._here = environment(device)

    def of(self, run: RunSpec) -> dict[str, Any]:
        """What can change that run's last bits."""
        here = {key: value for key, value in self._here.items() if key != "num_threads"}
        if run.settings.framework == "keras":
            here |= {"device": "cpu", "device_name": here["processor"], **_keras_versions()}
        if (threads := self._threads_of(run)) is not None:
            here["num_threads"] = threads
        return here | self._of_plugins(run)

    def noted(self, event: RunEnded) -> RunEnded:
        """The end of a run, with the versions of what its plugins import."""
        more = self._of_plugins(event.run)
        record = replace(event.record, environment={**event.record.environment, **more})
        return replace(event, record=record)

    def _of_plugins(self, run: RunSpec) -> dict[str, Any]:
        packages = self._packages.get(run.settings.model_dump_json())
        return {"packages": dict(packages)} if packages else {}

    def _threads_of(self, run: RunSpec) -> int | None:
        """None where that can't be known: the run would crash."""
        if run.cell not in self._threads:
            settings = run.settings
            try:
                with guarded():
                    data = self._library.prepared(settings.for_seed(run.seed))
                    choice = choose(settings, data.input_shape, data.num_classes, self._device)
                self._threads[run.cell] = choice.threads
            except BaseException as error:
                raise_interrupt(error)
                self._threads[run.cell] = None
        return self._threads[run.cell]


def _keras_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name, distributions in {"keras": ("keras",), "tensorflow": ("tensorflow", "tensorflow-cpu")}.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found
