"""A study becomes runs: what is planned, what happened, and the events in between.

Plain frozen dataclasses, free of torch: they travel from the engine to the results folder, the
analysis and the reports.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bnbench.study import Settings, Study

#: Raised by one whenever the same settings give other numbers than before: old runs are then
#: other runs, and are left alone.
NUMERICS_VERSION = 3

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
class RunSpec:
    """One variant (at one setting of the sweep) with one seed.

    setting: the swept keys and values, empty where nothing is swept.
    cell: identity of everything but the seed, 12 hex digits; the runs of a cell are replicates.
    provenance: what of that is not in the settings: the data's content, a plugin's source.
    """

    variant: str
    setting: Mapping[str, Any]
    seed: int
    cell: str
    settings: Settings = field(repr=False)
    provenance: Any = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """ "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.variant, self.setting)


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
class RunRecord:
    """What happened in one run.

    final, best: every metric of train, val and test, after the last step and at the evaluation
    with the lowest validation loss. Empty where the run crashed. A number that is not finite is NaN.
    steps: optimizer steps done; planned_steps: the budget. train_seconds: without
    evaluation; by the processor's clock where one thread did the work, else by the wall's.
    step_losses: the objective of every step's batch. notes: what the user should know of the run.
    layers: the built model, a line each. environment: what can change the last bits.
    num_samples: "train" (seen in an epoch), "val" and "test"; empty in folders of before.
    class_counts: samples of each class in "train", "probe" (the training samples that train metrics are
    measured on), "val" and "test", in the order of class_names; empty where unknown.
    cautions: what limits the answer (a warm-up that never ended, running statistics that are not
    filled yet); shown beside the verdict, where notes stand at the end.
    """

    variant: str
    setting: Mapping[str, Any]
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

    @property
    def label(self) -> str:
        """ "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.variant, self.setting)


@dataclass(frozen=True)
class CellEstimate:
    """The cost of one variant: of one of its runs. memory_bytes: data, weights, optimizer, activations.

    evaluation_seconds: the part of `seconds` in which nothing is trained. warnings: what will limit its answer.
    notes: what is to be known of its data.
    """

    label: str
    num_parameters: int
    steps: int
    seconds: float
    memory_bytes: int
    notes: tuple[str, ...] = ()
    evaluation_seconds: float = 0.0
    warnings: tuple[str, ...] = ()


# Events: what the engine says while it works.


@dataclass(frozen=True)
class RunStarted:
    """A run is about to take its first step."""

    run: RunSpec
    planned_steps: int
    epochs: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stepped:
    """A few steps later (said a few times a second, and at the end of an epoch)."""

    run: RunSpec
    step: int


@dataclass(frozen=True)
class Evaluated:
    """The model was evaluated."""

    run: RunSpec
    row: HistoryRow


@dataclass(frozen=True)
class TestSamples:
    """What a run answered on each of N test samples in the end, as arrays.

    right: (N,) uint8, 1 where the answer is right. loss: (N,) float32. labels: a hash of the labels in their
    order, which names the samples.
    """

    __test__ = False  # no class of tests

    right: Any
    loss: Any
    labels: str


@dataclass(frozen=True)
class RunEnded:
    """A run is over, one way or another. weights: its last state_dict; None where it crashed, as are samples."""

    run: RunSpec
    record: RunRecord
    weights: Mapping[str, Any] | None = field(default=None, repr=False)
    samples: TestSamples | None = field(default=None, repr=False)


Event = RunStarted | Stepped | Evaluated | RunEnded


def cell_label(variant: str, setting: Mapping[str, Any]) -> str:
    """ "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
    swept = ", ".join(f"{key}={value}" for key, value in setting.items())
    return f"{variant} @ {swept}" if swept else variant


def make_plan(study: Study, provenance: Callable[[Settings], Any]) -> list[RunSpec]:
    """Every run of the study, seed by seed so that variants are interleaved in time.

    provenance: what else can change the numbers of these settings (the data's content, a
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
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
