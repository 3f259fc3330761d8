"""A summary as plain values, for summary.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bnbench.analysis.claims import claim_rows
from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.convergence import TargetSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.inside.stored import inside_values
from bnbench.analysis.pairs import PHASES, Spread
from bnbench.analysis.rows import epochs_of, times_of, trained_of
from bnbench.analysis.sweeps import BestSetting
from bnbench.analysis.workloads import Standing, Workloads
from bnbench.base.files import strict
from bnbench.base.metrics import GAPS, SPLITS, columns_of, parted, value_of
from bnbench.results import SCHEMA_VERSION
from bnbench.study import Target
from bnbench.study.evaluation import is_line
from bnbench.study.records import RunRecord


def as_json(summary: Summary) -> dict[str, Any]:
    """What summary.json holds. Every number that is not finite is None."""
    targets = [_target_value(target) for target in summary.targets]
    values = {
        "schema_version": SCHEMA_VERSION,
        "name": summary.name,
        "baseline": summary.baseline,
        "target": targets[0] if targets else None,
        "targets": targets,
        "variants": [_variant(variant, summary) for variant in summary.variants],
        "comparisons": [_comparison(comparison) for comparison in summary.comparisons],
        "best_settings": [_best_setting(best) for best in summary.best_settings],
        "primary": summary.primary,
        "vary": summary.vary,
        "margin": asdict(summary.margin) if summary.margin else None,
        "metrics": summary.metrics,
        **({} if summary.parts == SPLITS else {"parts": summary.parts}),
        "task": summary.task.plain(),
        "speeds": [_flat_target(vars(speed)) for speed in summary.speeds],
        "areas": [vars(area) for area in summary.areas],
        "rates": [vars(rate) for rate in summary.rates],
        "best_rates": [vars(rate) for rate in summary.best_rates],
        "checks": summary.checks,
        "agreements": [
            {**vars(agreement), "comparison": _comparison(agreement.comparison)}
            for agreement in summary.agreements
        ],
        "same_results": summary.same_results,
        "noise": [vars(floor) for floor in summary.noise],
        "usable_ranges": [asdict(usable_range) for usable_range in summary.usable_ranges],
        "interactions": [
            {**vars(interaction), "comparison": _comparison(interaction.comparison)}
            for interaction in summary.interactions
        ],
        "claims": claim_rows(summary.claims),
        **({"inside": inside_values(summary.inside)} if summary.inside.asked else {}),
        "gates": [vars(gate) for gate in summary.gates],
        "looks": summary.looks,
        "stops": [vars(stop) for stop in summary.stops],
        "cautions": summary.cautions,
        "warnings": summary.warnings,
    }
    json_values: dict[str, Any] = strict(values)
    return json_values


def _best_setting(best: BestSetting) -> dict[str, Any]:
    return {
        "variant": best.variant,
        "setting": best.setting,
        "val_loss": _spread(best.val_loss),
        "choosing_seeds": best.choosing,
        "comparing_seeds": best.comparing,
        "comparisons": [_comparison(comparison) for comparison in best.comparisons],
    }


def workloads_as_json(workloads: Workloads) -> dict[str, Any]:
    """What workloads.json holds. A time or tau that is infinite, the target being missed, is None."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "workloads": workloads.names,
        "variants": [
            {
                "name": name,
                "verdicts": workloads.verdicts(name),
                "workloads": [_standing(standing) for standing in workloads.of(name)],
                "speed_ups": [
                    {**vars(mean), "left_out": dict(mean.left_out)}
                    for mean in workloads.means
                    if mean.variant == name
                ],
            }
            for name in workloads.variants
        ],
        "profiles": [vars(profile) for profile in workloads.profiles],
        "notes": workloads.notes,
        "cautions": workloads.cautions,
    }
    json_values: dict[str, Any] = strict(values)
    return json_values


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        **vars(standing),
        "comparison": _comparison(standing.comparison) if standing.comparison else None,
        "speeds": {clock: vars(speed) for clock, speed in standing.speeds.items()},
    }


def _variant(variant: VariantSummary, summary: Summary) -> dict[str, Any]:
    usual = columns_of(summary.task.default_metrics, summary.task.parts)
    gaps = [column for column in summary.columns if parted(column)[0] in GAPS]
    return {
        "name": variant.variant,
        "setting": variant.setting,
        "label": variant.label,
        "norm": variant.norm,
        "parameters": variant.num_parameters,
        **trained_of(variant),
        "steps_per_epoch": variant.steps_per_epoch,
        "layers": variant.layers,
        "seeds": variant.seeds,
        "outcomes": variant.outcomes,
        "runs": [_run(run, variant.targets, index, (usual, gaps)) for index, run in enumerate(variant.runs)],
        **{at: {metric: _spread(variant.spreads[at, metric]) for metric in summary.columns} for at in PHASES},
        "seconds_per_step": _spread(variant.seconds_per_step),
        "seconds_refused": variant.seconds_refused or None,
        "targets": [_target(target) for target in variant.targets],
    }


def _run(
    run: RunRecord,
    targets: tuple[TargetSummary, ...],
    index: int,
    columns: tuple[Sequence[str], Sequence[str]],
) -> dict[str, Any]:
    """columns: those of every study of its task, also of a run without numbers; and the gaps, which are computed."""
    times = [target.reached[index] for target in targets]
    areas = [target.areas[index] for target in targets]
    return {
        "seed": run.seed,
        "outcome": run.outcome,
        "error": run.error,
        "steps": run.steps,
        "planned_steps": run.planned_steps,
        "epochs": epochs_of(run),
        "seconds": None if is_line(run.variant) else run.train_seconds,
        "final": _numbers(run.final, *columns),
        "best": _numbers(run.best, *columns),
        "best_step": run.best_step,
        "steps_to_target": times[0].step if times and times[0] else None,
        "targets": [
            {**_target_value(target.target), "area": area, **times_of(time)}
            for target, time, area in zip(targets, times, areas, strict=True)
        ],
        "notes": run.notes,
        "cautions": run.cautions,
        "environment": run.environment,
        "num_samples": run.num_samples,
        "class_names": run.class_names,
        "class_counts": run.class_counts,
    }


def _numbers(
    values: Mapping[str, float], usual: Sequence[str], gaps: Sequence[str]
) -> dict[str, float | None]:
    computed = {column: value_of(values, column) for column in gaps}
    return {**dict.fromkeys(usual), **values, **computed}


def _target(target: TargetSummary) -> dict[str, Any]:
    return {
        **_target_value(target.target),
        "reached": target.k,
        "runs": target.n,
        "median_steps": target.median_steps,
        "median_epochs": target.median_epochs,
        "median_samples": target.median_samples,
        "median_seconds": target.median_seconds,
        "budget_steps": target.budget,
        "evaluated_every_steps": target.evaluated_every,
        "area": _spread(Spread.of(target.areas)),
    }


def _target_value(target: Target) -> dict[str, Any]:
    """A metric and a value; "match_baseline" beside them where the value is the baseline's."""
    values = asdict(target)
    return values if target.match_baseline else {"metric": target.metric, "value": target.value}


def _flat_target(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "target": _target_value(values["target"])}


def _by_seed(values: Iterable[tuple[int, float]], name: str) -> list[dict[str, Any]]:
    return [{"seed": seed, name: value} for seed, value in values]


def _comparison(comparison: Difference) -> dict[str, Any]:
    return {**vars(comparison), "values": _by_seed(comparison.values, "difference")}


def _spread(spread: Spread) -> dict[str, Any]:
    return {"mean": spread.mean, "std": spread.std, "n": spread.n, "nonfinite": spread.num_nonfinite}
