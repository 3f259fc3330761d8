"""Validation of the files in a results folder. An edit by hand that does not fit is reported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bnbench.base.errors import UnknownNameError
from bnbench.base.files import key_text
from bnbench.base.metrics import GAPS, RECALL, are_shares, metric_named, metric_of, parted
from bnbench.base.task_facts import gap_asked
from bnbench.study import DEFAULT_PRIMARY, name_fault
from bnbench.study.records import RunRecord

#: No number that bnbench measures is larger: the square of a float32, in the unit of a regression's targets.
LARGEST = 1e140
#: Far above the steps, samples and seconds of any run.
MANY = 10**15


def _known_metric(name: str) -> str:
    try:
        metric_of(name)
    except UnknownNameError as error:
        raise ValueError(str(error)) from None
    return name


def _known_name(name: str) -> str:
    metric = parted(name)[1] if gap_asked(name) else name
    if name not in (RECALL, *GAPS) and metric_named(metric) is None:
        raise ValueError(f'unknown metric "{name}"')
    return name


def _folder_name(name: str) -> str:
    """By the same rule as in a study."""
    if wrong := name_fault(name):
        raise ValueError(wrong)
    return name


_Metric = Annotated[str, AfterValidator(_known_metric)]
_Name = Annotated[str, AfterValidator(_folder_name)]
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


class PlannedCell(BaseModel):
    """The planned runs of a variant at a setting. facts: its identity, without the facts that all cells share."""

    model_config = _STRICT
    variant: _Name
    setting: dict[str, Any]
    cell: _Name
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    facts: dict[str, Any] = {}


class PlannedTarget(BaseModel):
    """value: None where it is the baseline's, which is not known before the runs are."""

    model_config = _STRICT
    metric: _Metric
    value: float | None
    match_baseline: bool = False


class PlannedMargin(BaseModel):
    """A difference that counts as none."""

    model_config = _STRICT
    metric: _Metric
    value: Annotated[float, Field(gt=0)]


class PlannedLook(BaseModel):
    """A result that the folder showed earlier, under another design."""

    model_config = _STRICT
    seeds: Annotated[int, Field(ge=1)]
    metrics: list[Annotated[str, AfterValidator(_known_name)]] = []
    looks: list[Annotated[int, Field(ge=1)]] = []
    primary: _Metric = DEFAULT_PRIMARY
    margin: float | None = None
    baseline: str = ""
    family: list[str] = []


class Plan(BaseModel):
    """plan.json. Raises ValidationError where it can't be one."""

    model_config = _STRICT
    name: str
    baseline: str
    targets: list[PlannedTarget]
    cells: Annotated[list[PlannedCell], Field(min_length=1)]
    primary: _Metric = DEFAULT_PRIMARY
    margin: PlannedMargin | None = None
    task: dict[str, Any] | None = None
    metrics: list[Annotated[str, AfterValidator(_known_name)]] = []
    facts: dict[str, Any] = {}
    looks: list[Annotated[int, Field(ge=1)]] = []
    earlier: list[PlannedLook] = []
    checks: dict[str, str] = {}
    added: list[str] = []

    @model_validator(mode="after")
    def _checks_of_its_variants(self) -> Plan:
        """Every check and the variant that it checks are in the plan, and the latter is not itself a check."""
        names = {cell.variant for cell in self.cells}
        for name, other in self.checks.items():
            if name not in names or other not in names or other in self.checks or name == self.baseline:
                raise ValueError(f"{name} can't be a check of {other}")
        return self

    @model_validator(mode="after")
    def _looks_at_its_seeds(self) -> Plan:
        """The last look is at all seeds that are planned."""
        if self.looks and (
            self.looks != sorted(set(self.looks))
            or any(len(cell.seeds) != self.looks[-1] for cell in self.cells)
        ):
            raise ValueError(f"the looks {self.looks} are not at growing parts of the planned seeds")
        return self

    @model_validator(mode="after")
    def _nothing_twice(self) -> Plan:
        """A run that counts twice would make the seeds look more than they are."""
        if again := _repeated((cell.variant, str(cell.setting)) for cell in self.cells):
            raise ValueError(f"the variant {again[0]} is there twice")
        for cell in self.cells:
            if (again := _repeated(cell.seeds)) is not None:
                raise ValueError(f"seed {again} of {cell.variant} is there twice")
        return self


def _repeated(values: Iterable[Any]) -> Any:
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def check_run(run: RunRecord, variant: str, setting: Mapping[str, Any], seed: int) -> None:
    """Raises ValueError where the record belongs to another folder, or holds impossible values."""
    if (run.variant, key_text(run.setting), run.seed) != (variant, key_text(setting), seed):
        raise ValueError(f"run.json belongs to {run.label}, seed {run.seed}")
    for name in ("steps", "planned_steps", "steps_per_epoch", "num_parameters", "train_seconds"):
        _check_amount(name, getattr(run, name))
    _check_amount("trained_parameters", run.trained_parameters or 0)
    for split, count in run.num_samples.items():
        _check_amount(f"num_samples of {split}", count)
    ways = (*run.inference.values(), *run.inference_best.values())
    if any(set(way) != set(run.final) for way in ways):
        raise ValueError("a way of inference has other metrics than the run")
    for values in (run.final, run.best, *ways, *(row.metrics for row in run.history)):
        _check_metrics(values)
    if run.outcome == "finished" and not run.final:
        raise ValueError("it finished, but has no final numbers")
    _check_history(run)
    if run.outcome == "finished" and run.step_losses and len(run.step_losses) != run.steps:
        raise ValueError(f"steps.csv has {len(run.step_losses)} of {run.steps} steps")


def _check_amount(name: str, value: float) -> None:
    if not 0 <= value <= MANY:
        raise ValueError(f"{name} is not between 0 and {MANY:.0e}")


def _check_metrics(values: Mapping[str, float]) -> None:
    for (column, value), is_share in zip(values.items(), are_shares(tuple(values)), strict=True):
        if 0 <= value <= 1:
            continue
        if math.isfinite(value) and abs(value) > LARGEST:
            raise ValueError(f"{column} is {value:g}, more than any metric can be")
        if is_share and not math.isnan(value):
            raise ValueError(f"{column} is {value:g}, not a share from 0 to 1")


def _check_history(run: RunRecord) -> None:
    """In order, with every metric that the run has in the end, and up to its last step."""
    measured = {name for name in run.final if parted(name)[0] in ("train", "val")}
    for row in run.history:
        if missing := sorted(measured - set(row.metrics)):
            raise ValueError(f"history.csv has no {missing[0]}")
        for name in ("step", "epoch", "train_seconds"):
            _check_amount(f"a {name} in history.csv", getattr(row, name))
    for before, after in pairwise(run.history):
        if (
            after.step <= before.step
            or after.epoch < before.epoch
            or after.train_seconds < before.train_seconds
        ):
            raise ValueError(f"history.csv is out of order at step {after.step}")
    last = run.history[-1].step if run.history else None
    if run.outcome == "finished" and last != run.steps:
        raise ValueError(f"history.csv ends at step {last}, the run at {run.steps}")
