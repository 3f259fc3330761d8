"""The layer under test, and the names by which it takes eps and momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from bnbench.norms.named import NamedLayer, check_signature, find_layer


@dataclass(frozen=True)
class Target:
    """The factory of the layer; checks call it repeatedly."""

    layer: NamedLayer

    def options(self) -> dict[str, str]:
        """For example "eps", "momentum" -> the name of the parameter that takes it."""
        names = self.layer.parameters
        spelled = (("eps", "eps"), ("eps", "epsilon"), ("momentum", "momentum"))
        return {key: name for key, name in spelled if name in names}

    def make(self, num_features: int, dim: int, values: Mapping[str, float | None]) -> nn.Module:
        """A fresh layer. values: of eps and momentum, for a layer that takes them. Raises LayerError."""
        taken = {name: values[key] for key, name in self.options().items() if key in values}
        return self.layer.make(num_features, dim, taken)


def find_target(word: str) -> Target:
    """The layer that `path.py:Name`, `package.module:Name` or a registered name stands for. Raises LayerError."""
    target = Target(find_layer(word))
    if target.layer.module is not None:
        check_signature(target.layer, set(target.options().values()))
    return target
