"""What a study's probes say, over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bnbench.analysis.inside.indices import IndexContrast, IndexSpread
from bnbench.analysis.pairs import Spread
from bnbench.study.labels import Labelled

#: What enters a layer's activation, and what leaves it.
Kind = Literal["pre", "post"]


@dataclass(frozen=True)
class LayerNumber(Labelled):
    """One quantity of one layer after `step` updates, over seeds. depth: from 1, in the order of the network."""

    layer: str
    depth: int
    step: int
    quantity: str
    spread: Spread


@dataclass(frozen=True)
class Histogram(Labelled):
    """The values of all units of a layer on the probe batch, of all seeds together.

    edges: one more than counts, ascending.
    """

    layer: str
    depth: int
    step: int
    kind: Kind
    edges: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def middles(self) -> tuple[float, ...]:
        """Of the bins."""
        return tuple((left + right) / 2 for left, right in zip(self.edges, self.edges[1:], strict=False))


@dataclass(frozen=True)
class Band(Labelled):
    """A middle and two ends at a step or at a depth. n: what it is taken over (seeds, units, or one)."""

    layer: str
    at: int
    low: float | None
    mid: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class UnitBands:
    """Percentiles 15, 50 and 85 of one unit over the probed steps, in one run of each variant."""

    layer: str
    unit: str
    seed: int
    bands: tuple[Band, ...]


@dataclass(frozen=True)
class Inside:
    """Indices, layers and histograms of a study's networks. asked: whether any run was probed.

    unit: one unit over the steps. losses: the loss along the step, its least, its mean and its largest. gammas,
    betas: the parameters of the norms at the last step, by depth.
    """

    asked: bool = False
    spreads: tuple[IndexSpread, ...] = ()
    contrasts: tuple[IndexContrast, ...] = ()
    numbers: tuple[LayerNumber, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    unit: UnitBands | None = None
    losses: tuple[Band, ...] = ()
    gammas: tuple[Band, ...] = ()
    betas: tuple[Band, ...] = ()
