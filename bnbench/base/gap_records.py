"""Plain records of the train/eval gap of a network: what its running statistics do beside those of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: batch: each layer sees inputs that the layers before it normalized by the statistics of the batch, as in training.
#: layers: it sees inputs that they normalized by precise statistics, as in inference with those.
Definition = Literal["batch", "layers"]


@dataclass(frozen=True)
class Measure:
    """A number with its interval (level 95 %, bootstrap over batches); NaN ends where there are too few batches."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero is outside of the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class LayerGap:
    """Of one layer with running statistics.

    gap: the root mean square difference between its normalized outputs by running and by precise statistics, over
    all channels, in standard deviations. floor: 95 % of the same between the statistics of two halves of the data
    lie below. opens: the whole interval is above the floor, and the gap is large enough to matter.
    """

    name: str
    gap: Measure
    floor: float
    opens: bool


@dataclass(frozen=True)
class OutputGap:
    """Of the network's output: the root mean square difference of two ways, over the output's standard deviation.

    running_batch, running_precise: between these ways. floor: between the precise statistics of two halves of the data.
    """

    running_batch: Measure
    running_precise: Measure
    floor: float


@dataclass(frozen=True)
class MetricGap:
    """A metric on the same batches by each way, and running minus the others, paired by batch."""

    name: str
    running: float
    batch: float
    precise: float
    running_batch: Measure
    running_precise: Measure


@dataclass(frozen=True)
class TrainEvalGap:
    """The gap of a network on some data.

    layers: in the order of execution. first: the name of the first that opens, "" where none does. cause, evidence:
    the likely cause, and the number that speaks for it. left_out: layers that use running statistics in training, too.
    judged: whether the network was trained: else its running statistics have no reason to fit.
    """

    source: str
    batches: int
    samples: int
    definition: Definition
    layers: tuple[LayerGap, ...]
    output: OutputGap | None
    metrics: tuple[MetricGap, ...] = ()
    first: str = ""
    cause: str = ""
    evidence: str = ""
    left_out: tuple[str, ...] = ()
    judged: bool = True
