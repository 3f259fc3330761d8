"""Claims on runs: one owner each, whatever starts, dies or stands still.

Oracles: what the processes themselves say they took, the operating system's list of processes, and a clock that the
tests move.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bnbench.base import owner as owners
from bnbench.base.files import take_away, write_first
from bnbench.base.owner import Owner, owner_of, this_process
from bnbench.results.claims import CLAIMS, Claims, are_training
from bnbench.study.plan import RunSpec
from bnbench.study.schema import Settings

SETTINGS: Settings = Settings.model_construct(**{})  # no claim looks at them


Clock = Callable[[float], None]


def run_of(seed: int) -> RunSpec:
    return RunSpec("batch", {}, seed, "0123456789ab", SETTINGS)


RUNS = [run_of(seed) for seed in range(6)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the monotonic clock that claims look at."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def elsewhere(word: str = "ab" * 8) -> Owner:
    """A process on another machine."""
    return replace(this_process(), host="node7", machine="other", word=word)


def test_of_two_processes_one_gets_a_run(tmp_path: Path) -> None:
    first, second = Claims(tmp_path), Claims(tmp_path)
    with first.present(), second.present():
        assert first.take(RUNS[:4]) == tuple(RUNS[:4])
        assert second.take(RUNS[2:]) == tuple(RUNS[4:])
        assert {key: one.owner for key, one in second.of_others(RUNS).items()} == {
            run.key: first.owner for run in RUNS[:4]
        }
        first.release(RUNS[:1])
        assert second.take(RUNS[:2]) == (RUNS[0],)
        assert [len(one.claims) for one in first.others()] == [3]
    assert not (tmp_path / CLAIMS).exists()


def test_a_claim_of_ones_own_is_taken_again(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with claims.present():
        assert claims.take(RUNS) == claims.take(RUNS) == tuple(RUNS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 2**22 + 1},  # beyond the largest pid of Linux
        {"start": "1"},  # the pid is another process's by now
        {"boot": "an earlier one"},
    ],
)
def test_what_a_dead_process_of_this_machine_claimed_is_free_at_once(
    change: dict[str, object], tmp_path: Path
) -> None:
    dead = Claims(tmp_path, owner=replace(this_process(), **change))  # type: ignore[arg-type]
    dead.renew()
    dead.take(RUNS[:3])
    claims = Claims(tmp_path)
    assert claims.others() == [] == are_training(tmp_path)
    with claims.present():
        assert claims.take(RUNS) == tuple(RUNS)
        assert len(list((tmp_path / CLAIMS).glob("*.owner"))) == 1
    assert not (tmp_path / CLAIMS).exists()


def test_a_process_in_another_container_is_not_asked_for_by_its_pid(tmp_path: Path) -> None:
    other = Claims(tmp_path, owner=replace(this_process(), space="pid:[1]", pid=2**22 + 1))
    other.renew()
    other.take(RUNS)
    claims = Claims(tmp_path)
    with claims.present():
        assert claims.take(RUNS) == ()


def test_elsewhere_a_beat_counts_by_the_observers_own_clock(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other machine's clock may say anything: its files' times are of next year, and go back."""
    other, claims = Claims(tmp_path, owner=elsewhere()), Claims(tmp_path)
    monkeypatch.setattr(time, "time", lambda: -1e9)
    other.renew()
    other.take(RUNS[:3])
    with claims.present():
        for seconds in (0.0, 59.0, 59.0):  # it beats in between
            clock(seconds)
            other.renew()
            for file in (tmp_path / CLAIMS).iterdir():
                os.utime(file, (4e9 - seconds, 4e9 - seconds))
            assert claims.take(RUNS[:3]) == ()
        clock(59.9)
        assert claims.take(RUNS[:3]) == ()
        assert claims.others()[0].silent == pytest.approx(59.9)
        clock(0.2)
        assert claims.others() == []
        assert claims.take(RUNS[:3]) == tuple(RUNS[:3])


def test_a_stopped_process_of_this_machine_is_waited_for_for_a_minute(tmp_path: Path, clock: Clock) -> None:
    """It lives (this very process does), but does not beat: Ctrl-Z must not hold up everyone else for good."""
    stopped, claims = Claims(tmp_path), Claims(tmp_path)
    stopped.renew()
    stopped.take(RUNS[:3])
    with claims.present():
        assert claims.take(RUNS[:3]) == ()
        clock(59.0)
        assert claims.take(RUNS[:3]) == ()
        clock(1.5)
        assert claims.take(RUNS[:3]) == tuple(RUNS[:3])
        stopped.renew()  # it goes on
        assert stopped.take(RUNS[:3]) == ()
        stopped.release(RUNS[:3])
        assert claims.take(RUNS[:3]) == tuple(RUNS[:3])


def test_a_first_look_says_nothing_about_another_machine(tmp_path: Path, clock: Clock) -> None:
    """Its file may be a year old: a reader can't tell, and a second process waits a minute."""
    Claims(tmp_path, owner=elsewhere()).renew()
    os.utime(tmp_path / CLAIMS / f"{elsewhere().word}.owner", (1, 1))
    assert len(Claims(tmp_path).others()) == 1


def test_a_take_over_that_comes_too_late_puts_the_new_claim_back(tmp_path: Path) -> None:
    """Two see a dead owner's claim; one has taken it over when the other one removes it."""
    dead = Claims(tmp_path, owner=replace(this_process(), start="1"))
    dead.renew()
    dead.take(RUNS[:1])
    first, late = Claims(tmp_path), Claims(tmp_path)
    with first.present(), late.present():
        assert first.take(RUNS[:1]) == (RUNS[0],)
        (name,) = (path.name for path in (tmp_path / CLAIMS).glob("*.claim"))
        late._take_over(name, dead.owner.word)
        assert late.take(RUNS[:1]) == ()
        assert first.take(RUNS[:1]) == (RUNS[0],)


def test_files_that_are_no_claims_are_no_obstacle(tmp_path: Path) -> None:
    """Cut short by a full disk, or by a power loss: nobody owns what nobody signed."""
    first = Claims(tmp_path)
    first.take(RUNS[:2])
    folder = tmp_path / CLAIMS
    for path, content in zip(sorted(folder.glob("*.claim")), (b"", b"\xff\xfe"), strict=True):
        path.write_bytes(content)
    (folder / "x.owner").write_text("{")
    (folder / "y.owner").write_text(json.dumps({"pid": "many"}))
    claims = Claims(tmp_path)
    with claims.present():
        assert claims.take(RUNS) == tuple(RUNS)
    assert not folder.exists()


def test_no_lock_of_the_file_system_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on network file systems: flock raises ENOLCK, and there are no links."""
    import fcntl

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def no_link(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(os, "link", no_link)
    test_of_two_processes_one_gets_a_run(tmp_path)


def test_a_folder_that_cant_be_written_is_one_message(tmp_path: Path) -> None:
    from bnbench.base.errors import ResultsError

    (tmp_path / CLAIMS).write_text("a file in the way")
    claims = Claims(tmp_path)
    with pytest.raises(ResultsError, match="can't be written"):
        claims.take(RUNS)


def test_the_first_of_two_writers_gets_the_name(tmp_path: Path) -> None:
    assert write_first(tmp_path / "name", "one")
    assert not write_first(tmp_path / "name", "two")
    assert (tmp_path / "name").read_text() == "one"
    aside = take_away(tmp_path / "name")
    assert aside is not None
    assert aside.read_text() == "one"
    assert take_away(tmp_path / "name") is None


def test_an_owner_is_read_as_it_was_written() -> None:
    owner = this_process()
    assert owner_of(json.loads(json.dumps(asdict(owner)))) == owner
    assert owner.is_dead is False
    assert this_process().word != owner.word


def test_a_killed_process_is_dead_before_its_parent_notices() -> None:
    """A zombie keeps its pid."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owner = replace(this_process(), pid=child.pid, start=owners._start_of(child.pid))
    assert owner.is_dead is False
    child.kill()
    while owners._stat(child.pid)[:1] != ["Z"]:
        time.sleep(0.01)
    assert owner.is_dead is True
    child.wait()
    assert owner.is_dead is True


_TAKER = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from results.test_claims import RunSpec, SETTINGS
from bnbench.results.claims import Claims
runs = [RunSpec("batch", {{}}, seed, "0123456789ab", SETTINGS) for seed in range({count})]
claims = Claims(Path({folder!r}))
print("ready", flush=True)
while not Path({go!r}).exists(): time.sleep(0.001)
with claims.present():
    for run in runs:
        if claims.take([run]):
            print(run.seed, flush=True)
            time.sleep(0.01)  # the others' turn
    print("done", flush=True)
    sys.stdin.read()
"""


def _taker(tmp_path: Path, count: int) -> subprocess.Popen[str]:
    code = _TAKER.format(
        tests=str(Path(__file__).parents[1]),
        folder=str(tmp_path / "results"),
        go=str(tmp_path / "go"),
        count=count,
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_eight_processes_at_once_share_the_runs_and_the_killed_ones_runs_are_free(tmp_path: Path) -> None:
    """Each run has one owner; after SIGKILL of three of them a ninth gets what these had, and nothing else."""
    takers = [_taker(tmp_path, 200) for _ in range(8)]
    assert [_line(process) for process in takers] == ["ready"] * 8
    (tmp_path / "go").touch()
    taken: dict[int, set[int]] = {process.pid: set() for process in takers}
    for process in takers:
        while (line := _line(process)) != "done":
            taken[process.pid].add(int(line))
    assert all(taken.values())
    killed = takers[:3]
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ninth = Claims(tmp_path / "results")
    with ninth.present():
        free = {run.seed for run in ninth.take([run_of(seed) for seed in range(200)])}
    for process in takers[3:]:
        process.communicate()
        assert process.returncode == 0
    assert sorted(seed for seeds in taken.values() for seed in seeds) == list(range(200))
    assert free == set().union(*(taken[process.pid] for process in killed))
    assert list((tmp_path / "results").iterdir()) == []


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
