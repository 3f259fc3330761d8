"""What happened in a run: its outcome, its numbers and its history. Plain frozen dataclasses, free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from bnbench.study.labels import Labelled

#: How a run ended. not_finite: NaN or infinity in a loss or in the weights. worse_than_at_start: the last
#: validation loss is more than 5 % above the first, and the accuracy is not above chance.
#: stuck_at_chance: finite, and the validation accuracy is within 2 standard errors of the majority class
#: (where that is more than half, the loss is also not 5 % below the best constant guess). crashed: an
#: exception ended it, so that it has no numbers. A run trained where it finished.
Outcome = Literal["finished", "stuck_at_chance", "worse_than_at_start", "not_finite", "crashed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
#: Planned, and not there: it was not run yet, or was interrupted.
MISSING = "missing"


@dataclass(frozen=True)
class HistoryRow:
    """One evaluation. train_seconds: training time so far, without evaluation (see `RunRecord`).

    batch_loss: mean of the objective over the batches since the last evaluation, as the
    optimizer saw it (None at step 0). metrics: "train_loss", ..., "val_accuracy", in eval mode;
    the test set is not among them.
    """

    step: int
    epoch: float
    train_seconds: float
    batch_loss: float | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RunRecord(Labelled):
    """What happened in one run.

    final, best: every metric of train, val and test, after the last step and at the evaluation
    with the lowest validation loss. Empty where the run crashed. A number that is not finite is NaN.
    steps: optimizer steps done; planned_steps: the budget. train_seconds: without
    evaluation; by the processor's clock where one thread did the work, else by the wall's.
    trained_parameters: how many of num_parameters learn; None where all of them do.
    step_losses: the objective of every step's batch. notes: remarks for the user.
    layers: the built model, a line each. environment: versions and hardware, which can change the last bits.
    num_samples: "train" (seen in an epoch), "val" and "test"; empty where unknown.
    class_counts: samples of each class in "train", "probe" (the training samples that train metrics are
    measured on), "val" and "test", in the order of class_names; empty where unknown.
    cautions: limits of the answer (a warm-up that never ended, running statistics that are not
    filled yet); they stand beside the verdict, and notes at the end. inside: the indices of what probes measured
    (see `bnbench.base.indices`), empty without probes. probe_seconds: what the probes took, no training time.
    inference, inference_best: by further way of inference, such as "precise", what final and best hold; empty where
    the study asks for none, or the network has no running statistics.
    """

    seed: int
    cell: str
    norm: str
    outcome: Outcome
    error: str | None = None
    steps: int = 0
    planned_steps: int = 0
    steps_per_epoch: int = 0
    train_seconds: float = 0.0
    num_parameters: int = 0
    final: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    best_step: int | None = None
    history: tuple[HistoryRow, ...] = ()
    step_losses: tuple[float, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    num_samples: Mapping[str, int] = field(default_factory=dict)
    class_counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    inside: Mapping[str, float] = field(default_factory=dict)
    probe_seconds: float = 0.0
    trained_parameters: int | None = None
    inference: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    inference_best: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def was_only_looked_at(self) -> bool:
        """Whether no step was planned: its numbers are those of the initial network. Folders of before have none."""
        return self.steps_per_epoch > 0 and self.planned_steps == 0

    @property
    def trained(self) -> bool | None:
        """Whether it trained; None where it does not say: it crashed, or no step was planned."""
        return None if self.outcome == "crashed" or self.was_only_looked_at else self.outcome == "finished"

    @property
    def key(self) -> tuple[str, int]:
        """Which run of its study it is: its label and its seed, as in `RunSpec.key`."""
        return self.label, self.seed


#: The quantities that place a layer: its number from 1, and 1 where layers come behind it. At the first step alone.
DEPTH, HIDDEN = "depth", "hidden"


class ProbeRow(NamedTuple):
    """One number of the inside of a network after `step` updates.

    unit: which unit, bin or other part of the layer it is about; "" for the whole layer. value: NaN and infinities
    are kept as they are.
    """

    step: int
    layer: str
    quantity: str
    unit: str
    value: float


@dataclass(frozen=True)
class TestSamples:
    """What a run answered on each of N test samples in the end, as arrays.

    right: (N,) uint8, 1 where the answer is right; None where no answer is right or wrong. loss: (N,) float32.
    labels: a hash of the labels in their order, which names the samples. further: by the name of a metric of the
    task, (N,) float32 whose mean is that metric.
    """

    __test__ = False  # no class of tests

    right: Any | None
    loss: Any
    labels: str
    further: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Extras:
    """What is kept beside a run's record and its weights, where there is any.

    sheets: images that its network made, uint8 arrays (K, C, H, W), by way of inference ("" for the study's own).
    """

    samples: TestSamples | None = None
    probes: Sequence[ProbeRow] = ()
    sheets: Mapping[str, Any] = field(default_factory=dict)
