"""The driver of jobs, on executors that are made up. Oracle: what each of them was made to do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_cluster import simulate

from bnbench.executors.base import ExecutorError, Executors
from bnbench.executors.drive import Done, Driver, Driving, Event, Handed, Lost
from bnbench.executors.job import Job, JobResult, Paused, RunId

CELLS: dict[str, Any] = {label: {"choice": {}} for label in "abcdefgh"}


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnbench.executors.drive.TICK", 0.01)


def a_job(*labels: str, slots: int = 1) -> Job:
    runs = tuple(RunId(label, 0, "0" * 12) for label in labels)
    return Job("-".join(labels), "study", runs, CELLS, {}, "/nowhere", {}, {}, slots=slots)


@dataclass
class Scripted(Executors):
    """A future for each job, with what the script says of its n-th try: None for done. A broken pool fails them all."""

    script: Callable[[Job, int], BaseException | JobResult | None]
    count: int = 2
    shared_fate: bool = False
    together: bool = False
    most: int = 0
    tries: dict[str, int] = field(default_factory=dict)
    flying: list[tuple[Job, Future[bytes]]] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    company: list[set[str]] = field(default_factory=list)

    @property
    def workers(self) -> int:
        return self.count

    def submit(self, function: object, payload: bytes, place: int = 0) -> Future[bytes]:
        job, future = Job.from_bytes(payload), Future[bytes]()
        self.flying.append((job, future))
        self.most = max(self.most, len(self.flying))
        self.company.append({name.key for name, _ in self.flying})
        return future

    def close(self, cancel: bool) -> None:
        self.closed.append(cancel)
        self.flying.clear()

    def preempted(self, error: BaseException) -> bool:
        return isinstance(error, InterruptedError)

    def work(self) -> None:
        """End the first job that is under way."""
        if not self.flying:
            return
        job, future = self.flying.pop(0)
        self.tries[job.key] = self.tries.get(job.key, 0) + 1
        what = self.script(job, self.tries[job.key])
        if isinstance(what, BrokenExecutor) and self.shared_fate:
            others, self.flying = self.flying, []
            for _, other in others:
                other.set_exception(what)
        if isinstance(what, BaseException):
            future.set_exception(what)
        else:
            future.set_result((what or JobResult(job.key, done=job.runs)).to_bytes())


def driven(
    executors: Scripted, jobs: list[Job], stop: Callable[[], str] = lambda: "", retries: int = 2
) -> list[Event]:
    done: set[RunId] = set()

    def working() -> str:
        executors.work()
        return stop()

    driving = Driving(
        lambda _: b"",
        left=lambda job: [r for r in job.runs if r not in done],
        stop=working,
        retries=retries,
        grace=0.1,
    )
    driver, events = Driver(lambda: executors, driving), []
    for event in driver.drive(jobs):
        events.append(event)
        if isinstance(event, Done):
            done |= set(event.result.done)
    return events


def ends(events: list[Event]) -> tuple[list[str], list[str]]:
    """Labels of the runs that are done, and of those that are given up."""
    done = [run.label for event in events if isinstance(event, Done) for run in event.result.done]
    return sorted(done), sorted(
        run.label for event in events if isinstance(event, Lost) for run in event.job.runs
    )


def test_no_more_jobs_are_in_flight_than_there_are_workers() -> None:
    executors = Scripted(lambda job, tries: None, count=3)
    assert ends(driven(executors, [a_job(label) for label in "abcdefgh"])) == (list("abcdefgh"), [])
    assert executors.most == 3


def test_a_job_that_takes_all_threads_is_alone_on_its_machine() -> None:
    executors = Scripted(lambda job, tries: None, count=2)
    driven(executors, [a_job("a"), a_job("b", slots=2), a_job("c")])
    assert {frozenset(one) for one in executors.company if "b" in one} == {frozenset("b")}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_lost_worker_costs_as_many_tries_as_asked_for(retries: int) -> None:
    executors = Scripted(lambda job, tries: ConnectionError("gone") if job.key == "b" else None)
    events = driven(executors, [a_job(label) for label in "abc"], retries=retries)
    assert ends(events) == (["a", "c"], ["b"])
    assert executors.tries["b"] == retries + 1
    (lost,) = (event for event in events if isinstance(event, Lost))
    assert "ConnectionError: gone" in lost.reason


def test_of_runs_that_were_lost_together_the_guilty_one_alone_is_given_up() -> None:
    """A packed job, and jobs beside it in a pool that breaks as a whole."""

    def script(job: Job, tries: int) -> BaseException | None:
        return BrokenExecutor("terminated") if any(run.label == "c" for run in job.runs) else None

    executors = Scripted(script, shared_fate=True, count=3)
    events = driven(executors, [a_job("a", "b", "c", "d"), a_job("e"), a_job("f"), a_job("g")], retries=1)
    assert ends(events) == (list("abdefg"), ["c"])
    assert True in executors.closed  # a broken pool is opened again


def test_a_preempted_job_is_done_later_and_counts_no_try() -> None:
    executors = Scripted(lambda job, tries: InterruptedError("preempted") if tries < 6 else None)
    assert ends(driven(executors, [a_job("a")], retries=0)) == (["a"], [])


def test_a_paused_run_goes_on_later_and_counts_no_try() -> None:
    def script(job: Job, tries: int) -> JobResult | None:
        first, *rest = job.runs
        paused = tuple(Paused(run, 7, "SIGTERM") for run in rest)
        return JobResult(job.key, done=(first,), paused=paused)

    events = driven(Scripted(script), [a_job("a", "b", "c")], retries=0)
    assert ends(events) == (["a", "b", "c"], [])
    assert [len(event.job.runs) for event in events if isinstance(event, Handed)] == [3, 2, 1]


def test_results_that_do_not_arrive_are_asked_for_again() -> None:
    executors = Scripted(lambda job, tries: JobResult(job.key, done=job.runs[: tries * 9 - 8]))
    assert ends(driven(executors, [a_job("a", "b")]))[0] == ["a", "b"]


def test_a_refusal_ends_it_and_gives_up_what_is_under_way() -> None:
    executors = Scripted(lambda job, tries: JobResult(job.key, refused="other versions: torch 1.0"))
    with pytest.raises(ExecutorError, match=r"other versions: torch 1\.0"):
        driven(executors, [a_job("a"), a_job("b")])
    assert executors.closed == [True]


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'bnbench'"), AttributeError("bnbench.api has no do_job")]
)
def test_a_worker_without_bnbench_ends_it_with_the_fix(error: BaseException) -> None:
    with pytest.raises(ExecutorError, match="a worker can't load bnbench") as raised:
        driven(Scripted(lambda job, tries: error), [a_job("a")])
    assert "PYTHONPATH" in str(raised.value)


def test_with_a_reason_to_stop_no_job_leaves_and_those_under_way_come_back() -> None:
    executors = Scripted(lambda job, tries: None, count=3)
    reasons = iter(["", "", "SIGTERM"])
    events = driven(executors, [a_job(label) for label in "abcdefgh"], stop=lambda: next(reasons, "SIGTERM"))
    handed = [event.job.key for event in events if isinstance(event, Handed)]
    assert 3 <= len(handed) < 8
    assert executors.closed == [True]  # one that never comes back is given up


def test_an_executor_that_takes_no_jobs_is_an_error() -> None:
    class Closed(Scripted):
        def submit(self, function: object, payload: bytes, place: int = 0) -> Future[bytes]:
            raise BrokenExecutor("no worker starts")

    with pytest.raises(ExecutorError, match="no worker starts"):
        driven(Closed(lambda job, tries: None), [a_job("a")])


def test_a_thousand_runs_outlive_a_hundred_workers_of_which_many_are_lost() -> None:
    """The simulation of docs/machines.md, in small."""
    outcome = simulate(1_000, 100, lost_a_minute=0.03, retries=4)
    assert (outcome.done, outcome.twice, outcome.given_up) == (1_000, 0, 0)
    assert outcome.losses > 10
