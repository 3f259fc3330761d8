"""What a normalizer's output at a valid position depends on, as plain data. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SCHEMA_VERSION = 1
#: In the order in which they are tried.
MODES = ("training", "inference")


@dataclass(frozen=True)
class Dependence:
    """One normalizer over tokens (N, T, C).

    takes_mask: its forward has an argument `mask`. called: how it was called. padding, samples, later: the modes
    (training, inference) in which an output at a valid position depends on padding, on the other samples of the batch,
    on later positions of its own sample. With padding count what training keeps, and gradients. changes: what padding
    changed, a sentence each; largest: the largest of these changes, relative. other_mask: an argument
    of its forward that looks like a mask, where it has none called `mask`. refused: why it has no meaning over tokens;
    then nothing was tried.
    """

    layer: str
    takes_mask: bool = False
    called: str = ""
    padding: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    largest: float = 0.0
    other_mask: str = ""
    refused: str = ""

    @property
    def passed(self) -> bool:
        """Whether it keeps its promise: with a mask, padding changes nothing. Without one there is no promise."""
        return not (self.takes_mask and self.padding)

    @property
    def strictly_passed(self) -> bool:
        """Whether padding changes nothing, with a mask or without."""
        return self.passed and not self.padding and not self.refused


@dataclass(frozen=True)
class Dependences:
    """Those of one normalizer, or of every registered one."""

    layers: tuple[Dependence, ...]

    @property
    def passed(self) -> bool:
        """Whether every layer that takes a mask leaves padding out."""
        return all(layer.passed for layer in self.layers)

    @property
    def strictly_passed(self) -> bool:
        """Whether padding changes nothing in any of them."""
        return all(layer.strictly_passed for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dumps."""
        return {
            "schema_version": SCHEMA_VERSION,
            "passed": self.passed,
            "strictly_passed": self.strictly_passed,
            "layers": [
                {**asdict(layer), "passed": layer.passed, "strictly_passed": layer.strictly_passed}
                for layer in self.layers
            ],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Dependences:
        """The inverse of `to_json`."""
        names = {field.name for field in fields(Dependence)}
        return Dependences(tuple(_read(layer, names) for layer in data["layers"]))


def _read(data: Mapping[str, Any], names: set[str]) -> Dependence:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in data.items()
        if name in names
    }
    return Dependence(**values)
