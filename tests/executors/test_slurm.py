"""Jobs of a real SLURM, and of submitit's local processes. Oracle: what the calls return, squeue, and the folders."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnbench.base.owner import this_process
from bnbench.executors.base import ExecutorError, Executors
from bnbench.executors.words import open_executor
from tests.executors.worker_functions import do

pytestmark = [
    pytest.mark.executors,
    pytest.mark.filterwarnings("default"),  # submitit's own
    pytest.mark.xdist_group("slurm"),
]
Opened = Callable[..., Executors]


@pytest.fixture
def open_slurm(tmp_path: Path) -> Opened:
    """Opens the executor of a file with these lines."""
    pytest.importorskip("submitit")

    def open_(*lines: str, jobs: int | None = None) -> Executors:
        (tmp_path / "cluster.yaml").write_text("\n".join(("poll_seconds: 0.3", *lines)))
        return open_executor(f"slurm:{tmp_path}/cluster.yaml", jobs)

    return open_


def queue() -> str:
    """The numbers of the jobs in the queue of the real SLURM."""
    return subprocess.run(["squeue", "-h", "-o", "%i %P %T"], capture_output=True, text=True).stdout


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for it. Raises AssertionError."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_a_worker_that_dies_is_an_error_of_its_job_alone_and_nothing_is_left_but_its_log(
    cluster: str, request: pytest.FixtureRequest, open_slurm: Opened, tmp_path: Path
) -> None:
    request.getfixturevalue("slurm_cluster" if cluster == "slurm" else "found_by_workers")
    with open_slurm(f"cluster: {cluster}", jobs=2) as executors:
        calls = [executors.submit(do, word) for word in (b"one", b"die", b"raise", b"two")]
        assert calls[0].result(60).startswith(b"one in process")
        assert calls[3].result(60).startswith(b"two in process")
        with pytest.raises(RuntimeError, match=r"its job \S+ ended, .*its log is /\S+") as lost:
            calls[1].result(60)
        with pytest.raises(RuntimeError, match="SystemExit: 3"):
            calls[2].result(60)
        assert not any(map(executors.preempted, (lost.value,)))
    (session,) = (tmp_path / "slurm-jobs").iterdir()
    assert [path.name for path in session.iterdir()] == ["logs"]
    with open_slurm(f"cluster: {cluster}") as executors:
        assert executors.submit(do, b"well").result(60).startswith(b"well")
    assert [path.name for path in (tmp_path / "slurm-jobs").iterdir()] == [session.name]


def test_a_preempted_job_gets_its_warning(slurm_cluster: None, open_slurm: Opened, tmp_path: Path) -> None:
    with open_slurm("partition: usual") as executors:
        call = executors.submit(do, b"stop")
        until(lambda: list(tmp_path.glob("slurm-jobs/*/*.begun")))
        subprocess.run(["sbatch", "-Q", "-p", "urgent", "-n", "2", "-o", "/dev/null", "--wrap", "true"])
        assert call.result(60) == b"SIGTERM"
        until(lambda: not queue())


def test_what_is_cancelled_is_ours_alone(slurm_cluster: None, open_slurm: Opened, tmp_path: Path) -> None:
    words = ["sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 60"]
    other = subprocess.run(words, capture_output=True, text=True).stdout.strip()
    executors = open_slurm("partition: usual")
    calls = [executors.submit(do, b"stop %d" % number) for number in range(3)]
    until(lambda: len(queue().splitlines()) > 1)
    executors.close(cancel=True)
    until(lambda: [line.split()[0] for line in queue().splitlines()] == [other])
    assert not any(call.done() for call in calls)
    assert not (tmp_path / "slurm-jobs").exists()
    subprocess.run(["scancel", other])


def test_a_local_worker_that_does_not_listen_is_killed(
    found_by_workers: None, open_slurm: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnbench.executors.slurm_queue._LOCAL_GRACE", 0.5)
    executors = open_slurm("cluster: local", jobs=1)
    executors.submit(do, b"deaf")
    until(lambda: list(tmp_path.glob("slurm-jobs/*/*.begun")))
    (begun,) = tmp_path.glob("slurm-jobs/*/*.begun")
    worker = int(begun.read_text().split()[1])
    executors.close(cancel=True)
    until(lambda: not Path(f"/proc/{worker}/fd").exists() or not Path(f"/proc/{worker}/cmdline").read_bytes())


def test_jobs_of_a_driver_that_was_killed_leave_the_queue_before_a_new_one_begins(
    slurm_cluster: None, open_slurm: Opened, tmp_path: Path
) -> None:
    words = ["sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 60"]
    job, other = (subprocess.run(words, capture_output=True, text=True).stdout.strip() for _ in range(2))
    gone = {**vars(this_process()), "start": "1"}  # its number has another process now
    dead, alive = (tmp_path / "slurm-jobs" / f"session-{name}" for name in ("dead", "alive"))
    for session, owner, submitted in ((dead, gone, [job]), (alive, vars(this_process()), [other])):
        session.mkdir(parents=True)
        (session / "driver.json").write_text(json.dumps(owner))
        (session / "submitted.json").write_text(json.dumps(submitted))
    with open_slurm("partition: usual"):
        assert [line.split()[0] for line in queue().splitlines()] == [other]
        assert not dead.exists()
        assert alive.exists()
    subprocess.run(["scancel", other])


def test_what_sbatch_says_is_passed_on(slurm_cluster: None, open_slurm: Opened, capfd: Any) -> None:
    with open_slurm("partition: nonsense") as executors:
        call = executors.submit(do, b"never")
        with pytest.raises(ExecutorError, match="invalid partition specified: nonsense"):
            call.result(60)
    assert capfd.readouterr() == ("", "")


def test_a_silent_slurm_is_named(open_slurm: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(
        ExecutorError, match=r"(?s)does not answer: Unable to contact slurm controller.*sinfo"
    ):
        open_slurm("partition: usual")
    (tmp_path / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorError, match="sbatch is not on this machine"):
        open_slurm("partition: usual")
    assert not (tmp_path / "slurm-jobs").exists() or not list((tmp_path / "slurm-jobs").iterdir())
