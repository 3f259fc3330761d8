"""A summary as flat rows: one for each run, comparison or evaluation, as summary.csv and data frames hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.convergence import Reached
from bnbench.analysis.difference import Difference
from bnbench.base.files import strict
from bnbench.base.metrics import value_of
from bnbench.study.evaluation import is_line
from bnbench.study.records import MISSING, RunRecord


def rows(summary: Summary) -> list[dict[str, Any]]:
    """One flat row a run; planned runs that are not there have the outcome "missing"."""
    all_rows = []
    for variant in summary.variants:
        runs = {run.seed: (run, index) for index, run in enumerate(variant.runs)}
        for seed in variant.seeds:
            run, index = runs.get(seed, (None, None))
            row = {"variant": variant.variant, **_setting(variant), "norm": variant.norm, "seed": seed}
            all_rows.append({**row, **_run_columns(run, summary.columns), **_target_columns(variant, index)})
    return [strict(row) for row in all_rows]


def comparison_rows(comparisons: Iterable[Difference]) -> list[dict[str, Any]]:
    """One flat row a comparison; the differences of single seeds are left to summary.json."""
    return [strict(dict(_flat(comparison))) for comparison in comparisons]


def _flat(comparison: Difference) -> Iterator[tuple[str, Any]]:
    for name, value in vars(comparison).items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        elif name != "values":
            yield name, value


def history_rows(summary: Summary) -> list[dict[str, Any]]:
    """One flat row for every evaluation of every run."""
    return [
        strict(
            {
                "variant": variant.variant,
                **_setting(variant),
                "seed": run.seed,
                "step": row.step,
                "epoch": row.epoch,
                "train_seconds": row.train_seconds,
                "batch_loss": row.batch_loss,
                **row.metrics,
            }
        )
        for variant in summary.variants
        for run in variant.runs
        for row in run.history
    ]


def _setting(variant: VariantSummary) -> dict[str, Any]:
    return {f"setting.{key}": value for key, value in variant.setting.items()}


def trained_of(counted: VariantSummary | RunRecord | None) -> dict[str, int]:
    """How many parameters learn, where not all of them do."""
    trained = counted.trained_parameters if counted else None
    return {} if trained is None else {"trained_parameters": trained}


def _run_columns(run: RunRecord | None, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "outcome": run.outcome if run else MISSING,
        "error": first_line(run.error) if run else "",
        "steps": run.steps if run else None,
        "planned_steps": run.planned_steps if run else None,
        "epochs": epochs_of(run) if run else None,
        "seconds": run.train_seconds if run and not is_line(run.variant) else None,
        "parameters": run.num_parameters or None if run else None,
        **trained_of(run),
        "best_step": run.best_step if run else None,
        **{f"final_{metric}": value_of(run.final, metric) if run else None for metric in columns},
        **{f"best_{metric}": value_of(run.best, metric) if run else None for metric in columns},
    }


def _target_columns(variant: VariantSummary, index: int | None) -> dict[str, Any]:
    return dict(_each_target(variant, index))


def _each_target(variant: VariantSummary, index: int | None) -> Iterator[tuple[str, Any]]:
    """target, steps_to_target, ... of the first target; the second's end in _2, and so on."""
    for place, target in enumerate(variant.targets, start=1):
        suffix = "" if place == 1 else f"_{place}"
        yield f"target{suffix}", f"{target.target.metric}={target.target.value:g}"
        time = None if index is None else target.reached[index]
        yield from ((f"{name}{suffix}", value) for name, value in times_of(time).items())


def epochs_of(run: RunRecord) -> float | None:
    """How many epochs a run trained."""
    return run.steps / run.steps_per_epoch if run.steps_per_epoch else None


def first_line(text: str | None) -> str:
    """The first line of a message; "" where there is none."""
    return (text or "").strip().partition("\n")[0]


def times_of(time: Reached | None) -> dict[str, float | None]:
    """When a run reached a target, on every clock; None where it did not."""
    return {
        "steps_to_target": time.step if time else None,
        "epochs_to_target": time.epoch if time else None,
        "samples_to_target": time.samples if time else None,
        "seconds_to_target": time.seconds if time else None,
    }
