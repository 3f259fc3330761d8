"""Comparable seconds: same device, threads and engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bnbench.study.records import RunRecord


def shares_time(run: RunRecord) -> bool:
    """Whether a run's seconds are its equal share of the seconds of a stack of replicas."""
    return int(run.environment.get("replicas", 1)) > 1


def why_not_comparable(runs: Iterable[RunRecord], others: Iterable[RunRecord]) -> str:
    """Why the seconds of the runs say nothing beside those of the others; "" where they can be compared.

    Seconds depend on the device, its model, the number of threads, the engine, and on how many replicas
    shared a step. Runs that crashed have no seconds; of runs that do not say where they ran, nothing is
    held against them.
    """
    places, other_places = _places(runs), _places(others)
    for key in ("device", "device_name", "num_threads", "engine"):
        values, other_values = _values(places, key), _values(other_places, key)
        if len(values | other_values) > 1:
            return _reason(key, sorted(values), sorted(other_values))
    values, other_values = _values(places, "replicas"), _values(other_places, "replicas")
    return "in stacks of other sizes" if values and other_values and values != other_values else ""


def engine_of(run: RunRecord) -> str:
    """The engine that trained it; "sequential" where the run does not say."""
    return str(run.environment.get("engine", "sequential"))


def how_trained(runs: Iterable[RunRecord]) -> tuple[str, ...]:
    """A line for every way in which runs were trained: engine, device, threads, stacks, and how many runs."""
    ways = Counter(
        _way(run.environment) for run in runs if run.outcome != "crashed" and "engine" in run.environment
    )
    return tuple(f"{_plural(count, 'run')} trained by {way}." for way, count in ways.items())


def _way(environment: Mapping[str, Any]) -> str:
    replicas = int(environment.get("replicas", 1))
    reason = environment.get("engine_reason")
    parts = [
        f"the {environment['engine']} engine on {environment.get('device', 'an unknown device')}",
        *([_plural(environment["num_threads"], "thread")] if "num_threads" in environment else []),
        *([f"{replicas} seeds together"] if replicas > 1 else []),
    ]
    return ", ".join(parts) + (f" ({reason})" if reason else "")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _places(runs: Iterable[RunRecord]) -> list[dict[str, object]]:
    return [
        {**run.environment, "engine": engine_of(run)}
        for run in runs
        if run.outcome != "crashed" and run.environment
    ]


def _values(places: Iterable[dict[str, object]], key: str) -> set[str]:
    return {str(place[key]) for place in places if key in place}


def _reason(key: str, values: list[str], other_values: list[str]) -> str:
    """For example "on cuda, not cpu", "2 threads, not 1", "on another cpu model"."""
    if key == "device_name":
        return "on another model" if len(values) == 1 else "on several models"
    these, others = " and ".join(values), " or ".join(other_values)
    phrases = {"num_threads": f"{these} threads", "engine": f"by the {these} engine"}
    text = phrases.get(key, f"on {these}")
    return text if values == other_values or len(values) > 1 else f"{text}, not {others}"
