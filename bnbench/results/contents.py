"""What a results folder holds, read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnbench.base.metrics import columns_of
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts
from bnbench.study import DEFAULT_PRIMARY, Margin, Target
from bnbench.study.labels import Labelled
from bnbench.study.records import ProbeRow, RunRecord, TestSamples

if TYPE_CHECKING:
    from bnbench.results.sheets import Sheet


@dataclass(frozen=True)
class Cell(Labelled):
    """One variant at one setting of the sweep: its planned seeds, and the runs that are there.

    records: in the order of `seeds`; a planned run that is not there yet is simply missing.
    """

    cell: str
    seeds: tuple[int, ...]
    records: tuple[RunRecord, ...] = ()


LoadSamples = Callable[[Cell, RunRecord], TestSamples | None]
LoadProbes = Callable[[Cell, RunRecord], tuple[ProbeRow, ...] | None]
#: The sheet of the images that a cell's networks made.
LoadSheet = Callable[[Cell], "Sheet | None"]


def no_samples(cell: Cell, run: RunRecord) -> TestSamples | None:
    """Of results that have none."""
    del cell, run
    return None


def no_probes(cell: Cell, run: RunRecord) -> tuple[ProbeRow, ...] | None:
    """Of results that have none."""
    del cell, run
    return None


def no_sheet(cell: Cell) -> Sheet | None:
    """Of results that have none."""
    del cell
    return None


@dataclass(frozen=True)
class EarlierLook:
    """A result that this folder showed earlier, under another design: the number of seeds, and the metric.

    looks: of `seeds: auto`; empty where the number of seeds was fixed. family: the variants that were compared
    with the `baseline`; empty and "" where the folder does not record it.
    """

    seeds: int
    looks: tuple[int, ...]
    primary: str
    margin: float | None
    baseline: str = ""
    family: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyResults:
    """What a results folder holds of one study.

    cells: variants in the study's order (the sweep's settings within each). study: the resolved
    study as plain values. primary: the metric that the verdict is about. margin: a smaller difference
    counts as none. warnings: what could not be read, and why. looks: of `seeds: auto`, how many of a
    cell's seeds each look takes; empty where the number of seeds is fixed. earlier: results that the
    folder showed before the number of seeds (or the looks, the primary metric, the margin) changed.
    metrics: the study's further ones, next to the default ones. task: facts about its task. checks: the
    variants with `role: check`, and which variant each of them checks. samples: reads a run's answers on the
    test samples; None where there are none; raises ValueError or OSError where they can't be believed. probes: the
    same for what was measured inside its network. sheet: the images that a cell's networks made; None where there are
    none.
    condensed: the content of summary.json, where the folder keeps only that file; then no run has a history.
    """

    name: str
    baseline: str
    targets: tuple[Target, ...]
    cells: tuple[Cell, ...]
    study: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    primary: str = DEFAULT_PRIMARY
    margin: Margin | None = None
    looks: tuple[int, ...] = ()
    earlier: tuple[EarlierLook, ...] = ()
    metrics: tuple[str, ...] = ()
    task: TaskFacts = IMAGE_CLASSIFICATION
    checks: Mapping[str, str] = field(default_factory=dict)
    samples: LoadSamples = field(default=no_samples, compare=False)
    probes: LoadProbes = field(default=no_probes, compare=False)
    sheet: LoadSheet = field(default=no_sheet, compare=False)
    condensed: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """Every metric that the study asks for, the recall of each class by its name."""
        runs = (run for cell in self.cells for run in cell.records)
        class_names = next((run.class_names for run in runs if run.class_names), ())
        return self.task.shown_metrics(self.metrics, self._asked, class_names)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the metrics are of: the training probe, validation, test, further test sets, the gaps asked for."""
        return self.task.shown_parts(self.metrics, self._asked)

    @property
    def _asked(self) -> list[str]:
        targets = [target.metric for target in self.targets]
        return [self.primary, *targets, *([self.margin.metric] if self.margin else [])]

    @property
    def columns(self) -> tuple[str, ...]:
        """These metrics on every part."""
        return columns_of(self.shown_metrics, self.parts)
