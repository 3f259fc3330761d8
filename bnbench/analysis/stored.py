"""A summary as summary.json has it, where the runs that it came from are not there (see `results/condensed.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bnbench.analysis.agreement import Agreement
from bnbench.analysis.cells import spread_of, summarize_cell
from bnbench.analysis.claims import Claim, read_claims
from bnbench.analysis.contents import Summary
from bnbench.analysis.convergence import Reached, TargetSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.inside.stored import stored_inside
from bnbench.analysis.interactions import Interaction
from bnbench.analysis.noise import NoiseFloor
from bnbench.analysis.ranges import UsableRange
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.speed import AreaComparison, SpeedComparison
from bnbench.analysis.stops import Stop
from bnbench.analysis.sweeps import BestSetting
from bnbench.base.errors import ResultsError
from bnbench.base.files import to_number
from bnbench.results import Cell, StudyResults
from bnbench.results.condensed import LEFT_OUT
from bnbench.study import DEFAULT_VARY, Target

_LISTS: dict[str, Any] = {
    "speeds": SpeedComparison,
    "areas": AreaComparison,
    "rates": TrainedRate,
    "best_rates": TrainedRate,
    "noise": NoiseFloor,
    "usable_ranges": UsableRange,
    "stops": Stop,
}


def stored_summary(results: StudyResults) -> Summary:
    """The summary, without what needs the runs' histories. Raises ResultsError where it can't be read.

    The metrics may be more than summary.json shows: every run has all of its final numbers.
    """
    values = results.condensed or {}
    try:
        return _read(results, values)
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        text = str(error).partition("\n")[0]
        raise ResultsError(
            f"summary.json of {results.name}: damaged, or of another version of bnbench: "
            f"{type(error).__name__}: {text}.",
            fix="`bnbench report` where its runs are writes it again.",
        ) from None


def _read(results: StudyResults, values: Mapping[str, Any]) -> Summary:
    reference = next((c.records for c in results.cells if c.variant == results.baseline and c.records), ())
    variants = [
        replace(
            summarize_cell(cell, (), reference, results.columns),
            targets=tuple(_targets(cell, item, results.targets)),
        )
        for cell, item in zip(results.cells, values["variants"], strict=True)
    ]
    lists: dict[str, Any] = {
        name: _all(kind, [_with_targets(item) for item in values.get(name, ())])
        for name, kind in _LISTS.items()
    }
    return Summary(
        name=results.name,
        baseline=results.baseline,
        targets=results.targets,
        variants=tuple(variants),
        comparisons=_all(Difference, _comparisons(values["comparisons"])),
        best_settings=tuple(_best(item, results.cells) for item in values.get("best_settings", ())),
        warnings=(*results.warnings, *values.get("warnings", ()), LEFT_OUT),
        primary=results.primary,
        margin=results.margin,
        checks=results.checks,
        agreements=_all(Agreement, _nested(values.get("agreements", ()))),
        same_results=tuple(map(tuple, values.get("same_results", ()))),
        interactions=_all(Interaction, _nested(values.get("interactions", ()))),
        metrics=results.shown_metrics,
        claims=_all(Claim, list(read_claims(values.get("claims", ())))),
        parts=results.parts,
        looks=results.looks,
        limits=tuple(values.get("cautions", ())),
        vary=tuple(values.get("vary", DEFAULT_VARY)),
        study=results.study,
        task=results.task,
        inside=stored_inside(values.get("inside")),
        **lists,
    )


def _all(kind: Any, values: Sequence[Any]) -> tuple[Any, ...]:
    validated: tuple[Any, ...] = TypeAdapter(tuple[kind, ...]).validate_python(values)
    return validated


def _comparisons(values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_comparison(item) for item in values]


def _comparison(item: Mapping[str, Any]) -> dict[str, Any]:
    pairs = [(pair["seed"], to_number(pair["difference"])) for pair in item["values"]]
    return {**item, "values": pairs}


def _nested(values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "comparison": _comparison(item["comparison"])} for item in values]


def _with_targets(item: Mapping[str, Any]) -> dict[str, Any]:
    target = item.get("target")
    if not isinstance(target, Mapping):
        return dict(item)
    return {**item, "target": {**target, "value": to_number(target["value"])}}


def _best(item: Mapping[str, Any], cells: Sequence[Cell]) -> BestSetting:
    cell = next(c for c in cells if (c.variant, dict(c.setting)) == (item["variant"], item["setting"]))
    return BestSetting(
        variant=item["variant"],
        setting=item["setting"],
        val_loss=spread_of(cell, "val_loss", "final"),
        comparisons=_all(Difference, _comparisons(item["comparisons"])),
        choosing=tuple(item["choosing_seeds"]),
        comparing=tuple(item["comparing_seeds"]),
    )


def _targets(cell: Cell, variant: Mapping[str, Any], targets: Sequence[Target]) -> Iterator[TargetSummary]:
    for index, (target, item) in enumerate(zip(targets, variant["targets"], strict=True)):
        times = [run["targets"][index] for run in variant["runs"]]
        yield TargetSummary(
            target=target,
            reached=tuple(map(_reached, times)),
            median_steps=item["median_steps"],
            median_epochs=item["median_epochs"],
            median_samples=item["median_samples"],
            median_seconds=item["median_seconds"],
            budget=item["budget_steps"],
            evaluated_every=item["evaluated_every_steps"],
            areas=tuple(to_number(time["area"]) for time in times),
        )


def _reached(time: Mapping[str, Any]) -> Reached | None:
    if time["steps_to_target"] is None:
        return None
    return Reached(
        step=time["steps_to_target"],
        epoch=time["epochs_to_target"],
        seconds=time["seconds_to_target"],
        samples=time["samples_to_target"],
    )
