"""How the runs of a study are trained: where, in which processes, for how long. No number of a run depends on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from bnbench.base.errors import BnbenchError, unknown_name

#: Seconds between two states of a run, from which it goes on after a kill.
SAVE_EVERY = 30.0
#: Whether runs go on from the states that are there.
Resume = Literal["auto", "never"]
#: The executor that is this machine's own processes.
LOCAL = "local"
#: What a second process does on a results folder: train other runs, or wait.
OnLock = Literal["join", "wait"]
#: How often a job whose worker was lost is tried again.
RETRIES = 2
#: As many parts as a study may have seeds.
MOST_SHARDS = 10_000


@dataclass(frozen=True)
class Running:
    """How runs are trained. Nothing of it is a part of their identity. Raises BnbenchError with all that is wrong.

    save_every: seconds between two states of a run, 0 for a state after every step. resume: "auto" goes on from a kept
    state, "never" begins again. on_lock: what a second process does on a results folder that another one is at: "join"
    trains other runs, "wait" waits for it. time_limit: seconds for the whole command, None for no limit. executor: what
    trains, see `bnbench.executors`. retries: of a job whose worker was lost. shard: (k, n) trains the k-th of n parts
    alone.
    """

    save_every: float = SAVE_EVERY
    resume: Resume = "auto"
    on_lock: OnLock = "join"
    time_limit: float | None = None
    executor: str = LOCAL
    retries: int = RETRIES
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        wrong = [f"{name}: {text}" for name, text in faults(asdict(self))]
        if wrong:
            raise BnbenchError("\n".join(wrong))


def faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with the values of these fields of `Running`: the field, and a sentence with the fix."""
    if "save_every" in values and not _is_number(values["save_every"], 0):
        given = values["save_every"]
        yield "save_every", f"{given!r} is not a number of seconds, 0 or more (0: a state after every step)."
    if "resume" in values and values["resume"] not in get_args(Resume):
        yield "resume", unknown_name("choice", str(values["resume"]), get_args(Resume))
    if "executor" in values and not isinstance(values["executor"], str):
        yield "executor", f"{values['executor']!r} is not a word, such as local or loky."
    retries = values.get("retries", 0)
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        yield "retries", f"{retries!r} is not a number of times, 0 or more."
    if "on_lock" in values and values["on_lock"] not in get_args(OnLock):
        yield "on_lock", unknown_name("choice", str(values["on_lock"]), get_args(OnLock))
    limit = values.get("time_limit")
    if limit is not None and not (_is_number(limit, 0) and limit > 0):
        yield "time_limit", f"{limit!r} is not a number of seconds above 0."
    if values.get("shard") is not None and (problem := _shard_fault(values["shard"])):
        yield "shard", problem


def _shard_fault(given: Any) -> str:
    """What is wrong with a part of so many; "" where nothing is."""
    numbers = given if isinstance(given, tuple | list) else ()
    if len(numbers) != 2 or not all(type(number) is int for number in numbers):
        return f"{given!r} is not a part of so many, such as (2, 8): the second of eight."
    number, count = numbers
    if not 1 <= count <= MOST_SHARDS:
        return f"{number}/{count}: a study has 1 to {MOST_SHARDS:,} parts, such as 2/8: the second of eight."
    if not 1 <= number <= count:
        return f"{number}/{count}: the parts are numbered from 1/{count} to {count}/{count}."
    return ""


def _is_number(given: object, low: float) -> bool:
    """Whether it is a finite number of at least that; True and False are none."""
    kind = isinstance(given, int | float) and not isinstance(given, bool)
    return kind and math.isfinite(given) and given >= low  # type: ignore[arg-type, operator]
