"""What else than its settings identifies a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnbench.api.plugins import Names, installed_versions
from bnbench.api.ranks import facts_on
from bnbench.base.ranks import World
from bnbench.study import Settings

if TYPE_CHECKING:
    from bnbench.engine.library import Library
    from bnbench.engine.networks import Networks


class Sources:
    """The content of a run's data, and the source of the user's own code.

    packages: installed packages that such code imports, and their versions, by the settings (as JSON) that use it.
    """

    def __init__(self, names: Names, library: Library, networks: Networks, seed: int, world: World) -> None:
        self._names, self._library, self._networks, self._seed = names, library, networks, seed
        self._world = world
        self.packages: dict[str, dict[str, str]] = {}

    def packages_of(self, settings: Settings) -> dict[str, Any]:
        """The installed packages that such code imports, as a part of a run's environment."""
        packages = self.packages.get(settings.model_dump_json())
        return {"packages": packages} if packages else {}

    def of(self, settings: Settings) -> dict[str, Any]:
        """As plain values."""
        data = self._library.prepared(settings)
        plugins: Any = []
        if self._names.uses_plugins(settings):
            built = self._networks.objects(settings, data.sizes, self._seed)
            reached = self._names.reached(settings, built)
            self.packages[settings.model_dump_json()] = installed_versions(reached.installed)
            plugins = reached.content()
        facts = {"data": self._library.dataset(settings).fingerprint, "plugins": plugins}
        further = self._library.fingerprints(settings)
        facts |= {"test_sets": further} if further else {}
        return {**facts, **facts_on(settings, data.sizes, self._world, self._networks, self._seed)}
