"""`--time-limit` and signals: states are saved, tables of what is there follow, exit code 5, the same command goes on.

Oracles: a clock that moves by itself, an undisturbed folder compared bit for bit, and the exit codes of real processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import bnbench
from bnbench.base import pausing as module
from bnbench.base.errors import BnbenchError
from bnbench.base.pausing import CTRL_C, grace_is_over, pausing
from bnbench.base.stopping import go_on, stop_asked
from bnbench.base.time_limit import left_for_the_report, read_time, time_text
from bnbench.base.user_code import received, signals_handled
from bnbench.cli.exit_code import exit_code
from bnbench.engine.cell import Cell
from bnbench.engine.choose import EngineChoice
from bnbench.engine.state.keeping import Keeping
from bnbench.engine.time_left import TimeLeft
from bnbench.reports.page import html
from bnbench.study.events import Event, RunEnded, RunStarted, Stepped
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord
from bnbench.study.schema import Settings
from tests.in_process import runner_of
from tests.same_results import assert_same

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 64
steps: 400
evaluate_every: 100
engine: sequential
seeds: 2
variants:
  none:  {norm: none}
  batch: {norm: batch}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    return runner_of(STUDY, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("10m", 600), ("10min", 600), ("1h30m", 5400), ("2:30:00", 9000), ("1:30", 90), ("45", 45),
        ("1.5", 1.5), (" 2h ", 7200), ("1d", 86400), ("1h 5m 2.5s", 3902.5), ("1e3", 1000), ("10M", 600),
    ],
)  # fmt: skip
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert read_time(text) == seconds


@pytest.mark.parametrize("text", ["0", "-5", "0s", "0:00:00"])
def test_a_time_leaves_some(text: str) -> None:
    with pytest.raises(ValueError, match="leaves no time to train"):
        read_time(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
def test_a_number_without_an_end_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        read_time(text)


@pytest.mark.parametrize(
    "text", ["soon", "", "10 minutes", "5m-", "1:2:3:4", "m", "٣m x", "1_0", "0x10", "h"]
)
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write 90s, 10m"):
        read_time(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(600, "10m"), (5400, "1h30m"), (0.5, "0.5s"), (14, "14s"), (3661, "1h1m1s")]
)
def test_a_time_is_written_as_it_is_read(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
    assert read_time(text) == seconds


@pytest.mark.parametrize(("limit", "left"), [(2, 1), (10, 5), (60, 6), (200, 20), (600, 30), (36000, 30)])
def test_time_is_left_for_the_report(limit: float, left: float) -> None:
    assert left_for_the_report(limit) == left


@pytest.mark.parametrize("value", ["0", "-5", "nan", "soon", ""])
@pytest.mark.parametrize("command", ["compare", "train", "look"])
def test_a_bad_limit_is_a_usage_error(value: str, command: str, run: Callable[..., Result]) -> None:
    result = run(command, "s.yaml", f"--time-limit={value}")
    assert result.exit_code == 2
    assert "--time-limit" in result.stderr
    assert "10m" in result.stderr
    assert not Path("results").exists()


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "10m", True])
def test_a_bad_limit_in_python(limit: Any) -> None:
    with pytest.raises(BnbenchError, match=r"time_limit: .* is not a number of seconds above 0"):
        bnbench.Running(time_limit=limit)


def test_on_lock_is_one_of_two_words(run: Callable[..., Result]) -> None:
    assert run("compare", "s.yaml", "--on-lock", "steal").exit_code == 2
    with pytest.raises(BnbenchError, match="on_lock"):
        bnbench.Running(on_lock="steal")  # type: ignore[arg-type]


# What fits


VALUES: dict[str, Any] = {"batch_size": 64}
SETTINGS = Settings.model_construct(**VALUES)


def job(label: str, seeds: int = 1, steps: int = 1000) -> Cell:
    runs = tuple(RunSpec(label, {}, seed, "0123456789ab", SETTINGS) for seed in range(seeds))
    return Cell(runs, EngineChoice("sequential", 1), steps, 1000)


def ended(run: RunSpec) -> RunEnded:
    return RunEnded(
        run, RunRecord(run.variant, {}, seed=run.seed, cell=run.cell, norm="batch", outcome="finished")
    )


class Steps:
    """States at these steps, by seed."""

    def __init__(self, **steps: int) -> None:
        self._steps = {int(name[1:]): step for name, step in steps.items()}

    def steps(self, run: RunSpec) -> tuple[int, ...]:
        return (self._steps[run.seed],) if run.seed in self._steps else ()


class Clock:
    now = 0.0


def left(deadline: float, states: Any = None, jobs: list[Any] | None = None) -> tuple[TimeLeft, Clock]:
    clock = Clock()
    keeping = Keeping(states, deadline=deadline)
    return TimeLeft(keeping, [] if jobs is None else jobs, lambda: clock.now), clock


def test_nothing_measured_lets_a_job_start_and_nothing_else_does() -> None:
    time_left, clock = left(100.0)
    first, second = job("a"), job("b")
    assert time_left.fits(first)
    time_left.start(first)
    assert time_left.fits(second)  # its worker would be idle
    events: list[tuple[float, Event]] = [
        (0, RunStarted(first.runs[0], 1000, 1)),
        (40, Stepped(first.runs[0], 500)),
    ]
    for now, event in events:
        clock.now = now
        time_left.on(event)
    # half of it took 40 s, so another one takes 80, and a fifth to spare
    clock.now = 3.9
    assert time_left.fits(second)
    clock.now = 4.1
    assert not time_left.fits(second)
    assert time_left.fits(job("b", steps=900))


def test_the_runs_of_a_variant_say_more_than_all() -> None:
    time_left, clock = left(100.0)
    quick, slow = job("quick"), job("slow")
    for one, began, end in ((quick, 0.0, 1.0), (slow, 1.0, 41.0)):
        clock.now = began
        time_left.start(one)
        clock.now = end
        time_left.on(ended(one.runs[0]))
    clock.now = 90.0
    assert time_left.fits(job("quick"))
    assert not time_left.fits(job("slow"))
    assert not time_left.fits(job("other"))  # 20.5 s on average


def test_a_state_shortens_what_is_left() -> None:
    time_left, clock = left(100.0, Steps(_1=900))
    measured = job("a", steps=1000)
    time_left.start(measured)
    clock.now = 80.0
    time_left.on(ended(measured.runs[0]))
    whole, state = (job("a").part((RunSpec("a", {}, seed, "0123456789ab", SETTINGS),)) for seed in (2, 1))
    assert not time_left.fits(whole)
    assert time_left.fits(state)  # a tenth of 80 s, and a fifth to spare


def test_a_run_that_goes_on_is_measured_from_its_state() -> None:
    time_left, clock = left(1000.0, Steps(_0=500))
    one = job("a")
    time_left.start(one)
    time_left.on(RunStarted(one.runs[0], 1000, 1.0, step=500))
    clock.now = 10.0
    time_left.on(ended(one.runs[0]))
    clock.now = 1000 - 1.2 * 10 - 0.1
    assert time_left.fits(job("b"))  # it goes on from there, too
    clock.now += 0.2
    assert not time_left.fits(job("b"))


def test_studies_of_a_command_share_what_was_measured() -> None:
    jobs: list[Any] = []
    first, clock = left(100.0, jobs=jobs)
    one = job("a")
    first.start(one)
    clock.now = 60.0
    first.on(ended(one.runs[0]))
    second, clock = left(100.0, jobs=jobs)
    clock.now = 60.0
    assert not second.fits(job("a"))


def test_after_the_deadline_nothing_starts() -> None:
    time_left, clock = left(10.0)
    clock.now = 10.0
    assert time_left.is_over
    assert not time_left.fits(job("a"))
    forever = TimeLeft(Keeping(), [])
    assert not forever.is_over
    assert forever.fits(job("a"))


def test_the_order_of_exit_codes() -> None:
    assert exit_code([], unfinished=True) == 5
    assert exit_code([], unfinished=True, interrupted=True) == 130
    assert exit_code([], unfinished=True, unreadable=True) == 1
    assert exit_code([]) == 1


# Whole commands, by a clock that moves a millisecond whenever somebody looks


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    now = [1000.0]

    def monotonic() -> float:
        now[0] += 0.001
        return now[0]

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", monotonic)
        patch.setattr(TimeLeft, "gives_up", None)  # the system's timer goes by another clock
        yield


@pytest.mark.slow
def test_repeated_commands_finish_the_study_with_the_results_of_one(
    run: Callable[..., Result], moving: None
) -> None:
    """The first run alone does not fit, and is gone on with."""
    assert run("compare", "s.yaml", "-q", "-o", "whole").exit_code == 0
    codes, saids = [], []
    for _ in range(40):
        result = run("compare", "s.yaml", "-q", "-o", "parts", "--time-limit", "2")
        codes.append(result.exit_code)
        saids.append(result.stderr.strip())
        if result.exit_code != 5:
            break
        assert not list(Path("parts").rglob("*.claim"))
    assert codes[-1] == 0, saids
    assert codes.count(5) == len(codes) - 1 >= 3
    assert (
        saids[0]
        == "Time limit of 2s: 0 of 4 runs are done, 1 is paused at a kept state. The same command goes on."
    )
    assert_same(Path("whole"), Path("parts"))


def test_what_is_there_is_shown_and_read(run: Callable[..., Result], moving: None) -> None:
    """Tables, the reason among the limits, `report` and Python say what is left."""
    for limit in range(2, 20):
        result = run("compare", "s.yaml", "-o", "parts", "--time-limit", str(limit))
        assert result.exit_code == 5
        if "test accuracy" in result.stdout:
            break
    assert f"Time limit of {limit}s: " in result.stderr
    assert f"Time limit of {limit}s: " in result.stdout
    shown = run("report", "parts")
    assert shown.exit_code == 0
    comparison = bnbench.load("parts")
    there = {(row["variant"], row["seed"]) for row in comparison.runs if row["outcome"] == "finished"}
    missing = {(row["variant"], row["seed"]) for row in comparison.unfinished}
    assert there
    assert missing
    assert there | missing == {(name, seed) for name in ("none", "batch") for seed in (0, 1)}
    paused = [row for row in comparison.unfinished if row["step"]]
    if paused:
        assert "1 run is paused at a kept state" in shown.stdout
        assert 0 < paused[0]["step"] < 400


def test_python_has_the_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moving: None) -> None:
    monkeypatch.setattr(html, "to_html", lambda *arguments: "")
    study = tmp_path / "s.yaml"
    study.write_text(STUDY)

    def call(limit: float | None) -> bnbench.Comparison:
        running = bnbench.Running(time_limit=limit)
        return bnbench.compare(study, output=tmp_path / "out", running=running)

    with pytest.raises(BnbenchError, match="Time limit of 2s: 0 of 4 runs are done, 1 is paused"):
        call(2)
    comparison = call(None)
    assert comparison.unfinished == []


# Signals


@pytest.fixture
def quick_grace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "GRACE", 0.05)
    monkeypatch.setattr(module, "GRACE_OF_CTRL_C", 0.05)
    yield
    go_on()


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGHUP, "SIGHUP"),
        (signal.SIGUSR1, "SIGUSR1"),
        (signal.SIGINT, CTRL_C),
    ],
)
def test_the_first_signal_asks_and_what_does_not_pause_is_ended(
    number: signal.Signals, name: str, quick_grace: None
) -> None:
    before = signal.getsignal(number), signal.getsignal(signal.SIGALRM)
    with signals_handled():
        with pytest.raises(KeyboardInterrupt), pausing():  # noqa: PT012
            signal.raise_signal(number)
            assert stop_asked() == name
            for _ in range(500):
                time.sleep(0.01)
        assert grace_is_over()
    assert (signal.getsignal(number), signal.getsignal(signal.SIGALRM)) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_one_ends_at_once(number: signal.Signals) -> None:
    with signals_handled(), pytest.raises(KeyboardInterrupt), pausing():  # noqa: PT012
        signal.raise_signal(number)
        signal.raise_signal(number)
    go_on()


def test_a_warning_before_sigterm_is_no_second_signal() -> None:
    """As SLURM sends them: SIGUSR1 some time before the end, then SIGTERM."""
    with signals_handled(), pausing():
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop_asked() == "SIGUSR1"
        assert received() == ()
    go_on()


def test_outside_of_a_command_no_handler_is_installed() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP)]
    with pausing():
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP)] == before


def test_ignored_signals_stay_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_handled(), pausing():
            signal.raise_signal(signal.SIGHUP)
            assert stop_asked() == ""
    finally:
        signal.signal(signal.SIGHUP, before)


LONG = ["compare", "s.yaml", "steps=200000", "evaluate_every=100000", "--save-every", "0.5", "-o", "out"]


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A command that trains for minutes; returns once it has kept a state."""
    (folder / "s.yaml").write_text(STUDY)
    process = subprocess.Popen(
        [sys.executable, "-m", "bnbench", *LONG, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("out/.states/*/*/*.safetensors")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def last_step(folder: Path) -> int:
    return max(
        int(path.name.split(".")[0].removeprefix("step-")) for path in folder.rglob("step-*.safetensors")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 5, "Stopped by SIGTERM: 0 of 4 runs are done, 1 is paused at a kept state."),
        (signal.SIGUSR1, 5, "Stopped by SIGUSR1: 0 of 4 runs are done, 1 is paused at a kept state."),
        (signal.SIGINT, 130, "Interrupted. No run had finished; the states of paused ones are kept"),
    ],
)
def test_a_signal_saves_and_pauses(number: signal.Signals, code: int, said: str, tmp_path: Path) -> None:
    """To the whole group, as a terminal or a job's end does. The next command goes on at the step of the signal."""
    process = started(tmp_path, "--jobs", "1")
    before = last_step(tmp_path)
    time.sleep(0.2)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert said in output
    assert "Traceback" not in output
    assert last_step(tmp_path) > before
    assert not (tmp_path / "out" / ".claims").exists()
