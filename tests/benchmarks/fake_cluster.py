"""10,000 runs on 1,000 workers of which 1 % are lost a minute: what the driver costs. By simulation.

The real driver (`bnbench.executors.drive`) hands real jobs to a cluster whose clock is simulated: a job of one run
takes about a minute, a lost worker fails its job and comes back a minute later. Whenever the driver waits, the
simulated clock goes on to the next event; what the driver computes meanwhile is its own processor time.

    python tests/benchmarks/fake_cluster.py [RUNS] [WORKERS]
"""

from __future__ import annotations

import heapq
import itertools
import random
import resource
import sys
import time
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from bnbench.executors.base import Executors
from bnbench.executors.drive import Done, Driver, Driving, Lost, Retried
from bnbench.executors.job import Job, JobResult, RunId, content_key

#: Seconds that a run takes, on average; it varies by a half.
RUN_SECONDS = 60.0
#: Seconds until a lost worker is back.
BACK_AFTER = 60.0


class Outcome(NamedTuple):
    """runs: ends of each. memory_mb: the largest resident memory of the process. makespan: simulated seconds."""

    done: int
    twice: int
    given_up: int
    losses: int
    makespan: float
    driver_seconds: float
    memory_mb: float

    @property
    def share(self) -> float:
        """The driver's processor time, as a share of the time that the jobs take."""
        return self.driver_seconds / self.makespan

    def __str__(self) -> str:
        return (
            f"{self.done} runs done, {self.twice} twice, {self.given_up} given up; {self.losses} workers lost; "
            f"{self.makespan / 60:.1f} minutes simulated; driver: {self.driver_seconds:.2f} s of processor "
            f"({100 * self.share:.2f} %), {self.memory_mb:.0f} MB"
        )


class FakeCluster(Executors):
    """Workers on a simulated clock. lost_a_minute: the share of them that is lost in a minute."""

    machines = 100
    owned = False

    def __init__(self, workers: int, lost_a_minute: float, seed: int = 0) -> None:
        self._free, self._rate, self._random = workers, lost_a_minute / 60, random.Random(seed)
        self._workers, self.now, self.losses, self.busy = workers, 0.0, 0, 0.0
        self._order = itertools.count()
        self._queue: list[tuple[bytes, Future[bytes]]] = []
        self._events: list[tuple[float, int, str, Any]] = []

    @property
    def workers(self) -> int:
        return self._workers

    def submit(self, function: Any, payload: bytes, place: int = 0) -> Future[bytes]:
        future: Future[bytes] = Future()
        future.set_running_or_notify_cancel()
        self._queue.append((payload, future))
        return future

    def close(self, cancel: bool) -> None:
        self._queue.clear()

    def advance(self) -> bool:
        """On to the next event; False where nothing is under way."""
        while self._free and self._queue:
            payload, future = self._queue.pop(0)
            self._free -= 1
            seconds = RUN_SECONDS * self._random.uniform(0.5, 1.5)
            lost = self._random.expovariate(self._rate) if self._rate else float("inf")
            kind = "lost" if lost < seconds else "done"
            self._at(min(lost, seconds), kind, (payload, future))
        if not self._events:
            return False
        self.now, _, kind, what = heapq.heappop(self._events)
        if kind == "back":
            self._free += 1
            return True
        payload, future = what
        if kind == "lost":
            self.losses += 1
            self._at(BACK_AFTER, "back", None)
            future.set_exception(ConnectionResetError("the worker is gone"))
        else:
            self._free += 1
            future.set_result(_result(payload))
        return True

    def _at(self, after: float, kind: str, what: Any) -> None:
        heapq.heappush(self._events, (self.now + after, next(self._order), kind, what))


def _result(payload: bytes) -> bytes:
    job = Job.from_bytes(payload)
    return JobResult(job.key, done=job.runs, machine={"name": "fake"}).to_bytes()


class _Inbox(SimpleQueue[Any]):
    """Where the driver waits: the simulated clock goes on meanwhile, and its cost is not the driver's."""

    def __init__(self) -> None:
        self.cluster: FakeCluster | None = None
        self.simulating = 0.0

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        start = time.thread_time()
        assert self.cluster
        while self.empty() and self.cluster.advance():
            pass
        self.simulating += time.thread_time() - start
        if self.empty():
            raise Empty
        return super().get()


def make_jobs(runs: int) -> list[Job]:
    """Jobs of one run each, with settings of the size of real ones."""
    settings = {f"setting_{index}": {"name": "some name", "options": {"value": index}} for index in range(25)}
    cells = {
        f"variant-{index}": {
            "settings": settings,
            "provenance": {"data": "0" * 32},
            "choice": {"engine": "stacked"},
        }
        for index in range(10)
    }
    names, jobs = list(cells), []
    for number in range(runs):
        label = names[number % len(names)]
        run = RunId(label, number // len(names), f"{number % len(names):012x}")
        jobs.append(
            Job(
                content_key("study", [run], cells),
                "study",
                (run,),
                cells,
                {},
                "/shared",
                {},
                {},
                RUN_SECONDS,
                run.seed,
            )
        )
    return jobs


def simulate(runs: int, workers: int, lost_a_minute: float, retries: int = 2) -> Outcome:
    """What becomes of that many runs, and what the driver costs."""
    cluster, inbox = FakeCluster(workers, lost_a_minute), _Inbox()
    inbox.cluster = cluster
    open_runs: set[RunId] = set()
    driving = Driving(len, left=lambda job: [run for run in job.runs if run in open_runs], retries=retries)  # type: ignore[arg-type]
    start = time.thread_time()
    jobs = make_jobs(runs)
    open_runs |= {run for job in jobs for run in job.runs}
    driver = Driver(lambda: cluster, driving, inbox)
    done = twice = given_up = retried = 0
    for event in driver.drive(jobs):
        if isinstance(event, Done):
            for run in event.result.done:
                done, twice = done + (run in open_runs), twice + (run not in open_runs)
                open_runs.discard(run)
        elif isinstance(event, Lost):
            given_up += len(event.job.runs)
        retried += isinstance(event, Retried)
    seconds = time.thread_time() - start - inbox.simulating
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Outcome(done, twice, given_up, cluster.losses, cluster.now, seconds, memory)


if __name__ == "__main__":
    counts = [int(word) for word in sys.argv[1:]] or [10_000, 1_000]
    print(simulate(*counts, lost_a_minute=0.01))
