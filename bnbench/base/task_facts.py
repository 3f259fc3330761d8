"""Facts about a task, known without running it: its metrics, its losses, its meaning of stuck at chance.

Free of torch, as what plans, keeps and reports is; the tasks themselves stand in `bnbench.tasks`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnbench.base.errors import UnknownNameError
from bnbench.base.metrics import (
    CLASSIFICATION,
    GAPS,
    METRICS,
    MOST_CLASSES,
    RECALL,
    SPLITS,
    Metric,
    columns_of,
    declare,
    gap_in,
    metric_named,
    metric_of,
    parted,
    same_meaning,
)

#: Facts that older results folders do not have; a folder without them reads as one where they are empty.
_LATER = ("normalizations", "test_sets", "unit", "tokens", "per_position")
#: Facts that choose what trains: a results folder does not hold them.
_OF_TRAINING = ("models", "dataset", "kinds", "two_networks")


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task without running it.

    metrics: what is measured on every part. One is called "loss": lower is better, the best weights are those with
        the lowest on the validation part, and a run ends as "worse than at the start" by it.
    shown: the metrics in tables and curves where a study asks for none; None: all of them.
    primary: the metric of the verdict where a study declares none, without its part (it is measured on test).
    losses: the training objectives that fit, by name; the first is the one of a study that names none.
    augmentations: those that leave its targets right although they are made for other tasks.
    per_class: whether the recall of every class is measured too, as `recall:CLASS`.
    chance: what "stuck at chance" means, as half a sentence.
    normalizations: the ways to normalise its inputs that fit (`normalize` in a study); the first is the one of a study
        that names none. (): all, and "standard" where a study names none.
    unit: what a sample is, in the plural, where it is no plain sample: "windows of a text".
    tokens: inputs are tokens, which nothing normalises.
    test_sets: the names of a study's further test sets, which are parts of their own.
    models: those that fit, by name; the first is the one of a study that names none. (): a study names its model.
    dataset: the one of a study that names this task and no data set; "": a study names its data set.
    kinds: tasks that this name stands for, too, where the data set holds what they are for (`DatasetFacts.holds`).
    two_networks: two networks train against each other, each with an optimizer of its own.
    per_position: a sample has a class at every position, so that it is of no class itself.
    """

    metrics: tuple[Metric, ...]
    losses: tuple[str, ...]
    primary: str = "loss"
    shown: tuple[str, ...] | None = None
    augmentations: tuple[str, ...] = ()
    per_class: bool = False
    chance: str = "the primary metric improved by less than 1% of its start"
    normalizations: tuple[str, ...] = ()
    unit: str = ""
    tokens: bool = False
    test_sets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    dataset: str = ""
    kinds: tuple[str, ...] = ()
    two_networks: bool = False
    per_position: bool = False

    def __post_init__(self) -> None:
        names = [metric.name for metric in self.metrics]
        if wrong := self._fault(names):
            raise ValueError(wrong)

    def _fault(self, names: Sequence[str]) -> str:
        if again := sorted({name for name in names if names.count(name) > 1}):
            return f"the metric {again[0]} is there twice"
        loss = next((metric for metric in self.metrics if metric.name == "loss"), None)
        if loss is None or loss.better != "lower":
            return 'a task has a metric "loss", of which lower is better: the best weights are chosen by it'
        if bad := next((name for name in names if not name.isidentifier() or name == RECALL), None):
            return f'a metric can\'t be called "{bad}"; use letters, digits and _'
        if bad := next((name for name in names if name.startswith("gap_")), None):
            return f'a metric can\'t be called "{bad}": "gap_" begins the difference of two parts'
        if lacking := [name for name in (self.primary, *(self.shown or ())) if name not in names]:
            return f'"{lacking[0]}" is not one of its metrics: {", ".join(names)}'
        return "" if self.losses else "losses names at least one training objective"

    @property
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """The metrics in the tables where a study asks for none."""
        return self.names if self.shown is None else self.shown

    @property
    def default_primary(self) -> str:
        """The metric of the verdict, with its part."""
        return f"test_{self.primary}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every metric on every part, with an example for the metrics of one class."""
        names = [*self.names, *([f"{RECALL}:CLASS"] if self.per_class else [])]
        return columns_of(names, (*self.parts, *GAPS))

    @property
    def parts(self) -> tuple[str, ...]:
        """What is measured: the training probe, validation, test, and the study's further test sets."""
        return (*SPLITS, *self.test_sets)

    def metric_of(self, column: str) -> Metric:
        """The metric of a column such as "val_accuracy". Raises UnknownNameError with those that the task has."""
        part, name = parted(column)
        metric = self.metric_named(name) if part in (*self.parts, *GAPS) else None
        if metric is None:
            raise UnknownNameError("metric", column, self.columns)
        return gap_in(metric) if part in GAPS else metric

    def metric_named(self, name: str) -> Metric | None:
        """The metric "accuracy", or "recall:cat"; None where the task has none of that name."""
        metric = metric_named(name)
        has = name in self.names or (self.per_class and metric is not None and metric.class_name is not None)
        return metric if has else None

    def shown_metrics(
        self, asked: Iterable[str], columns: Iterable[str], class_names: Sequence[str]
    ) -> tuple[str, ...]:
        """The metrics in a study's tables: the default ones, the requested ones, and the metrics of these columns.

        asked: "recall" stands for the recall of every class, "gap" for the gap of every metric that is shown.
        """
        each = [f"{RECALL}:{name}" for name in class_names] if len(class_names) <= MOST_CLASSES else []
        asked = [parted(item)[1] if gap_asked(item) else item for item in asked if item not in GAPS]
        wanted = [name for item in asked for name in (each if item == RECALL else [item])]
        of_columns = (metric_of(column).name for column in columns)
        return tuple(dict.fromkeys((*self.default_metrics, *wanted, *of_columns)))

    def shown_parts(self, asked: Iterable[str], columns: Iterable[str]) -> tuple[str, ...]:
        """The parts in a study's tables: those that are measured, and the gaps that it asks for.

        asked: "gap" or "gap_loss" asks for the gaps, as does a column of one.
        """
        gaps = {gap_asked(item) for item in asked} | {parted(column)[0] for column in columns}
        return (*self.parts, *(gap for gap in GAPS if gap in gaps))

    def plain(self) -> dict[str, Any]:
        """As values that a file can hold; `task_facts` reads them. Without the later facts there is no key for them."""
        metrics = [
            {"name": metric.name, "better": metric.better, "percent": metric.percent, "lowest": metric.lowest}
            for metric in self.metrics
        ]
        values = {**dataclasses.asdict(self), "metrics": metrics}
        kept = {key: value for key, value in values.items() if key not in _LATER or value}
        return {key: value for key, value in kept.items() if key not in _OF_TRAINING}


def gap_asked(item: str) -> str:
    """The gap that an item of a study's `metrics` asks for: "gap" of "gap" and of "gap_loss"; "" of a metric."""
    part = item if item in GAPS else parted(item)[0]
    return part if part in GAPS else ""


#: What the first task is, and what a results folder that names none is of.
IMAGE_CLASSIFICATION = TaskFacts(
    metrics=CLASSIFICATION,
    losses=("cross_entropy", "double_softmax"),
    primary="accuracy",
    shown=("loss", "accuracy"),
    per_class=True,
    chance="validation accuracy within 2 standard errors of the largest class (where that is more than half: and the "
    "loss not 5% below that of the best constant guess)",
)


def any_task(tasks: Iterable[TaskFacts]) -> TaskFacts:
    """With the metrics of all of these: where a study's own task is not known."""
    tasks = list(tasks)
    metrics = {metric.name: metric for task in tasks for metric in task.metrics}
    return TaskFacts(
        tuple(metrics.values()), losses=("any",), per_class=any(task.per_class for task in tasks)
    )


def task_facts(values: Mapping[str, Any]) -> TaskFacts:
    """The task that `TaskFacts.plain` wrote; declares its metrics. Raises TypeError, ValueError or PluginError."""
    values = dict(values)
    metrics = tuple(Metric(**metric) for metric in values.pop("metrics"))
    known = tuple(
        METRICS[m.name] if m.name in METRICS and same_meaning(METRICS[m.name], m) else m for m in metrics
    )
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    facts = TaskFacts(metrics=known, **{**values, **lists})
    declare(facts.metrics)
    return facts
