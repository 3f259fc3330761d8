"""What a study wants to know: its targets, the metric of its verdict, and the margin that counts as no difference.

None of it changes a run, so it can be changed later and the runs stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from bnbench.base.errors import Mistake, UnknownNameError, nearest, unknown_name
from bnbench.base.metrics import GAPS, RECALL, Metric, columns_of, parted
from bnbench.base.task_facts import TaskFacts, gap_asked
from bnbench.study.schema import MATCH_BASELINE, Margin, Target
from bnbench.study.yaml_source import Path_, Source

#: The parts that are measured during training.
EARLY = ("train", "val")


class Goals:
    """Checks these keys of one source against what its task measures; adds to its mistakes and warnings."""

    def __init__(self, source: Source, task: TaskFacts, mistakes: list[Mistake], warnings: list[str]) -> None:
        self.source, self.task, self.mistakes, self.warnings = source, task, mistakes, warnings

    def targets(self, given: Any) -> tuple[Target, ...]:
        """One target or several; each on a metric of the training or the validation part."""
        if given is None:
            return ()
        targets: list[Target] = []
        for index, item in enumerate(given if isinstance(given, list) else [given]):
            path = ("target", str(index)) if isinstance(given, list) else ("target",)
            targets += self._target(item, path)
        return tuple(targets)

    def primary(self, given: Any) -> str:
        """The metric that the verdict is about."""
        if given is None or not self._metric(str(given), ("primary",)):
            return self.task.default_primary
        return str(given)

    def margin(self, given: Any) -> Margin | None:
        """How large a difference counts as none; a positive number in the unit of its metric."""
        if given is None:
            return None
        path = ("margin",)
        if not isinstance(given, dict) or set(given) != {"metric", "value"}:
            self._wrong(
                path,
                f"margin: {given!r} is not of the form {{metric: {self.task.default_primary}, value: 0.002}}.",
            )
            return None
        metric = self._metric(str(given["metric"]), (*path, "metric"))
        value = self._number(given["value"], (*path, "value"), "margin.value")
        if metric is None or value is None:
            return None
        if value <= 0 or (metric.percent and value >= 1):
            wanted = "between 0 and 1: 0.002 is 0.2 percentage points" if metric.percent else "above 0"
            self._wrong(
                (*path, "value"), f"margin.value: {given['value']!r} is wrong: it should be {wanted}."
            )
            return None
        return Margin(str(given["metric"]), value)

    def metrics(self, given: Any) -> tuple[str, ...]:
        """The metrics in the tables next to the task's own: their names, without a split."""
        if given is None:
            return ()
        names = given if isinstance(given, list) else [given]
        known = [*self.task.names, *([RECALL, f"{RECALL}:CLASS"] if self.task.per_class else []), *GAPS]
        for name in names:
            if name not in known and not (isinstance(name, str) and self._known(name)):
                self._wrong(("metrics",), f"metrics: {unknown_name('metric', str(name), known)}")
        return tuple(dict.fromkeys(map(str, names)))

    def _known(self, name: str) -> bool:
        """Whether it is a metric, or the gap of one."""
        return self.task.metric_named(parted(name)[1] if gap_asked(name) else name) is not None

    def _wrong(self, path: Path_, message: str) -> None:
        self.mistakes.append(Mistake(self.source.place(path), message))

    def _metric(self, name: str, path: Path_) -> Metric | None:
        try:
            return self.task.metric_of(name)
        except UnknownNameError as error:
            split = "test" if path[0] == "primary" else "val"
            fix = f" Fix: {split}_{name}." if self.task.metric_named(name) else ""
            self._wrong(
                path, f'unknown metric "{name}": a metric begins with its part.{fix}' if fix else str(error)
            )
            return None

    def _number(self, value: Any, path: Path_, key: str, hint: str = "") -> float | None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            self._wrong(path, f"{key}: {value!r} is not a number{hint}.")
            return None
        return float(value)

    def _target(self, item: Any, path: Path_) -> Iterator[Target]:
        if not isinstance(item, dict) or set(item) != {"metric", "value"}:
            self._wrong(
                path, f"target: {item!r} is not of the form {{metric: val_{self.task.primary}, value: 0.97}}."
            )
            return
        name = str(item["metric"])
        matches = item["value"] == MATCH_BASELINE
        guess = nearest(item["value"], [MATCH_BASELINE]) if isinstance(item["value"], str) else None
        hint = f'. Did you mean "{guess}"' if guess else ""
        value = math.nan if matches else self._number(item["value"], (*path, "value"), "target.value", hint)
        if value is None:
            return
        metric = self._metric(name, (*path, "metric"))
        if metric is None:
            return
        part, of = parted(name)
        if part in ("gap", *self.task.test_sets):
            fix = f"val_gap_{of} (validation minus train)" if part == "gap" else f"val_{of}"
            self._wrong(
                (*path, "metric"),
                f"target: {name} can't be a target: a test set is looked at once, at the end. Fix: metric: {fix}.",
            )
        elif part == "test":
            known = ", ".join(columns_of(self.task.names, EARLY))
            self._wrong(
                (*path, "metric"),
                f"target: {name} can't be a target: the test set is looked at once, at the end. Use one of {known}.",
            )
        if part in GAPS and part != "gap":
            self.warnings.append(
                f"{self.source.place((*path, 'metric'))}: target {name}: a network that has learnt nothing has no "
                "gap, so that a run may reach it at step 0."
            )
        if self._can_be_reached(metric, name, value, (*path, "value")):
            yield Target(name, value, matches)

    def _can_be_reached(self, metric: Metric, name: str, value: float, path: Path_) -> bool:
        """A share is at most 1, no value is below the lowest; NaN stands for the value that the baseline reaches."""
        if metric.percent and value > 1:
            self._wrong(
                path,
                f"target.value: no run can reach {name} {value:g}, a share, at most 1. Fix: {value / 100:g}.",
            )
        elif metric.better == "lower" and metric.lowest is not None and value < metric.lowest:
            subject = "a loss is" if metric.name == "loss" else "it is"
            self._wrong(
                path,
                f"target.value: no run can reach {name} {value:g}: {subject} never below {metric.lowest:g}.",
            )
        else:
            return True
        return False
