"""How the runs of a study are trained: where, in which processes, for how long. No number of a run depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Seconds between two states of a run, from which it goes on after a kill.
SAVE_EVERY = 30.0
#: How often a job whose worker was lost is tried again.
RETRIES = 2


@dataclass(frozen=True)
class Running:
    """How runs are trained. Nothing of it is a part of their identity.

    save_every: seconds between two states of a run. resume: "auto" goes on from a kept state, "never" begins again.
    on_lock: what a second process does on a results folder that another one is at: "join" trains other runs, "wait"
    waits for it. time_limit: seconds for the whole command, None for no limit. executor: what trains, see
    `bnbench.executors`. retries: of a job whose worker was lost. shard: (k, n) trains the k-th of n parts alone.
    """

    save_every: float = SAVE_EVERY
    resume: Literal["auto", "never"] = "auto"
    on_lock: Literal["join", "wait"] = "join"
    time_limit: float | None = None
    executor: str = "local"
    retries: int = RETRIES
    shard: tuple[int, int] | None = None
