"""Comparable seconds: same device, threads and engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bnbench.study.records import RunRecord


def shares_time(run: RunRecord) -> bool:
    """Whether a run's seconds are its equal share of the seconds of a stack of replicas."""
    return _replicas(run.environment) > 1


def why_not_comparable(runs: Iterable[RunRecord], others: Iterable[RunRecord]) -> str:
    """Why the seconds of the runs say nothing beside those of the others; "" where they can be compared.

    Seconds depend on the device, its model, the number of threads, the engine, on how many replicas
    shared a step, and on the machine: both runs of a seed must be of one. Runs that crashed
    have no seconds; of runs that do not say where they ran, nothing is
    held against them.
    """
    runs, others = list(runs), list(others)
    places, other_places = _places(runs), _places(others)
    for key in ("device", "device_name", "num_threads", "engine"):
        values, other_values = _values(places, key), _values(other_places, key)
        if len(values | other_values) > 1:
            return _reason(key, sorted(values), sorted(other_values))
    if apart := _apart(runs, others):
        return apart
    values, other_values = _values(places, "replicas"), _values(other_places, "replicas")
    return "in stacks of other sizes" if values and other_values and values != other_values else ""


def engine_of(run: RunRecord) -> str:
    """The engine that trained it; "sequential" where the run does not say."""
    return str(run.environment.get("engine", "sequential"))


#: So many machines are named; the rest is counted.
_NAMED = 4


def how_trained(runs: Iterable[RunRecord]) -> tuple[str, ...]:
    """A line for every way in which runs were trained: engine, device, threads, stacks, and how many runs."""
    runs = list(runs)
    ways = Counter(
        _way(run.environment) for run in runs if run.outcome != "crashed" and "engine" in run.environment
    )
    lines = [f"{_plural(count, 'run')} trained by {way}." for way, count in ways.items()]
    return (*lines, *_machines(runs))


def _machines(runs: Sequence[RunRecord]) -> Iterator[str]:
    """A line on where the runs were trained, if that was on more than one machine."""
    machines = Counter(_machine(run) for run in runs if run.outcome != "crashed" and _machine(run))
    if len(machines) < 2:
        return
    seeds: dict[int, set[str]] = {}
    for run in runs:
        seeds.setdefault(run.seed, set()).add(_machine(run))
    whole = all(len(places) == 1 for places in seeds.values())
    most = ", ".join(f"{name} ({_plural(count, 'run')})" for name, count in machines.most_common(_NAMED))
    more = f" and {len(machines) - _NAMED} more" if len(machines) > _NAMED else ""
    pairs = (
        "; the runs of a seed are all of one machine" if whole else "; some seeds have runs of more than one"
    )
    yield f"Trained on {len(machines)} machines: {most}{more}{pairs}."


def _machine(run: RunRecord) -> str:
    """ "" where the run does not say."""
    return str(run.environment.get("machine", ""))


def _apart(runs: Sequence[RunRecord], others: Sequence[RunRecord]) -> str:
    """Which machines the runs of a seed come from, where they are not one; "" else."""
    machines = {run.seed: _machine(run) for run in others if run.outcome != "crashed"}
    for run in runs:
        here, there = _machine(run), machines.get(run.seed, "")
        if run.outcome != "crashed" and here and there and here != there:
            return f"of seed {run.seed} on another machine ({here}, not {there})"
    return ""


def _replicas(environment: Mapping[str, Any]) -> int:
    """How many seeds trained together; 1 where a damaged file does not say."""
    number = environment.get("replicas", 1)
    return number if type(number) is int else 1


def _way(environment: Mapping[str, Any]) -> str:
    replicas = _replicas(environment)
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
