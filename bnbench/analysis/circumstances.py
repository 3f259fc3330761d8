"""Under which circumstances runs were trained: versions, device, processor, threads. They can change the last bits.

They are not part of a run's identity, so runs of different circumstances can stand in one table, with a caution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bnbench.study.labels import cell_label
from bnbench.study.records import RunRecord

#: What of a run's environment follows from its settings, or changes no number.
_NOT_COMPARED = (
    "num_threads", "engine", "engine_reason", "replicas", "resumed", "session", "ranks_backend", "machine",
)  # fmt: skip
#: What the environment of a run that one process trained does not state.
_ONE_PROCESS = {"ranks": 1}
_REFRESH = "`--refresh changed` trains again those that differ from today's."
#: So many differences are named; the rest is counted.
_NAMED = 4


def mixed_circumstances(runs: Iterable[RunRecord]) -> tuple[str, ...]:
    """A sentence where the runs were not all trained under the same circumstances; else nothing."""
    runs = [run for run in runs if run.environment and run.outcome != "crashed"]
    parts = [
        f"{_counted(key, len(values))}: "
        + ", ".join(f"{value} ({runs_text(group)})" for value, group in values.items())
        for key, values in _differing(runs)
    ]
    return (
        (f"{_head('the runs were not all trained under the same circumstances', parts)} {_REFRESH}",)
        if parts
        else ()
    )


def other_circumstances(runs: Iterable[tuple[RunRecord, Mapping[str, Any]]]) -> tuple[str, ...]:
    """A sentence where some runs were trained under other circumstances than today's (beside each); else nothing."""
    changed = [
        (run, texts)
        for run, today in runs
        if run.outcome != "crashed" and (texts := differences(run.environment, today))
    ]
    parts = list(dict.fromkeys(text for _, texts in changed for text in texts))
    if not parts:
        return ()
    which = runs_text([run for run, _ in changed])
    return (f"{_head(f'trained under other circumstances than today: {which}', parts)} {_REFRESH}",)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is known of both and differs: "torch 2.8.0 then, 2.14.1 now"."""
    texts = []
    on_cpu = then.get("device") == now.get("device") == "cpu"  # its model is the processor's
    for key, before in {**_ONE_PROCESS, **then}.items():
        if on_cpu and key == "device_name" and "processor" in then:
            continue
        if key not in now or key in _NOT_COMPARED[1:] or before == now[key]:
            continue
        if isinstance(before, Mapping) and isinstance(now[key], Mapping):
            texts += differences(before, now[key])
        else:
            texts.append(f"{word_of(key)} {before} then, {now[key]} now")
    return texts


def _head(statement: str, parts: Sequence[str]) -> str:
    more = f"; and {len(parts) - _NAMED} more differences" if len(parts) > _NAMED else ""
    named = "; ".join(parts[:_NAMED])
    return f"{statement} ({named}{more}): for that reason alone their numbers may differ, not only their seconds."


def _differing(runs: Sequence[RunRecord]) -> Iterator[tuple[str, dict[str, list[RunRecord]]]]:
    """Every key with more than one value, and the runs of each value. Only runs in Keras name Keras's version."""
    keys = dict.fromkeys(key for run in runs for key in _flat(run.environment))
    if all(run.environment.get("device") == "cpu" for run in runs) and "processor" in keys:
        keys.pop("device_name", None)
    if len({run.environment["processor"] for run in runs if "processor" in run.environment}) > 1:
        keys.pop("processor_flags", None)  # of another processor they are others
    for key in keys:
        values: dict[str, list[RunRecord]] = {}
        for run in runs:
            environment = _flat(run.environment)
            if key in environment:
                values.setdefault(str(environment[key]), []).append(run)
        if len(values) > 1:
            yield key, values
    threads = {key: group for key, group in _threads(runs).items() if len({value for value, _ in group}) > 1}
    if threads:
        by_value: dict[str, list[RunRecord]] = {}
        for group in threads.values():
            for value, run in group:
                by_value.setdefault(value, []).append(run)
        yield "num_threads", by_value


def _threads(runs: Iterable[RunRecord]) -> dict[tuple[str, str], list[tuple[str, RunRecord]]]:
    """By cell: how many threads a run has follows from its settings, and then from the machine."""
    by_cell: dict[tuple[str, str], list[tuple[str, RunRecord]]] = {}
    for run in runs:
        if "num_threads" in run.environment:
            by_cell.setdefault((run.label, run.cell), []).append((str(run.environment["num_threads"]), run))
    return by_cell


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {**_ONE_PROCESS}
    for key, value in environment.items():
        if key in _NOT_COMPARED:
            continue
        if isinstance(value, Mapping):
            values |= value
        else:
            values[key] = value
    return values


def _counted(key: str, count: int) -> str:
    return f"{count} kinds of processor" if key == "processor" else word_of(key)


def word_of(key: str) -> str:
    """The name of a part of the circumstances, as sentences have it."""
    words = {
        "device_name": "device model",
        "num_threads": "threads",
        "processor_flags": "hash of the processor's flags",
        "ranks": "processes of a run",
    }
    return words.get(key, key)


def runs_text(runs: Sequence[RunRecord]) -> str:
    """For example "none seeds 0-4; batch seed 0"; of many variants their number."""
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(cell_label(run.variant, run.setting), []).append(run.seed)
    if len(seeds) > _NAMED:
        return f"{len(runs)} runs"
    return "; ".join(f"{label} {ranges(values)}" for label, values in seeds.items())


def ranges(seeds: Sequence[int]) -> str:
    """For example "seed 3", "seeds 0-4, 7"."""
    parts: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seed]
        else:
            parts.append([seed])
    text = ", ".join("-".join(map(str, part)) for part in parts)
    return f"seed {text}" if len(set(seeds)) == 1 else f"seeds {text}"
