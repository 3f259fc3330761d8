"""A study by every executor that was tried, with kills. Oracle: the same study with --jobs 2, bit for bit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bnbench.executors import ray_guard
from tests.executors import parsl_factory
from tests.ray_cluster import RayNodes
from tests.same_results import assert_same

pytestmark = [pytest.mark.executors, pytest.mark.xdist_group("clusters")]

_STUDY = """
name: tiny
dataset: digits
max_train_samples: 256
max_eval_samples: 64
model: {name: mlp, hidden: [16]}
optimizer: {name: sgd, lr: 0.1}
batch_size: 32
epochs: 100
evaluate_every: 80
seeds: 2
variants: [none, batch]
"""


#: By the name of an executor that starts workers on this machine, what it needs.
_OF_THIS_MACHINE = {"loky": "loky", "dask": "distributed", "parsl": "parsl"}
#: In the environment of a command and of all that it starts.
_MARK = "BNBENCH_TEST_COMMAND"


@dataclass(frozen=True)
class Cluster:
    """word: of --executor. workers: the processes that train for it at the moment."""

    word: str
    workers: Callable[[], list[int]]


@pytest.fixture(params=["loky", "dask", "parsl", "ray", "local", "slurm"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    if request.param in _OF_THIS_MACHINE:
        pytest.importorskip(_OF_THIS_MACHINE[request.param])
        request.getfixturevalue("found_by_workers")
        monkeypatch.setenv(_MARK, str(tmp_path))
        word = f"{parsl_factory.__file__}:workers" if request.param == "parsl" else request.param
        return Cluster(word, lambda: _marked(str(tmp_path)))
    if request.param == "ray":
        nodes: RayNodes = request.getfixturevalue("two_nodes")
        return Cluster("ray:auto", lambda: [one for one in ray_guard.left(nodes.folder) if _trains(one)])
    pytest.importorskip("submitit")
    request.getfixturevalue("slurm_cluster" if request.param == "slurm" else "found_by_workers")
    (tmp_path / "cluster.yaml").write_text(f"cluster: {request.param}\npoll_seconds: 0.3\nmax_jobs: 2\n")
    return Cluster(f"slurm:{tmp_path}/cluster.yaml", lambda: _begun(tmp_path / "slurm-jobs"))


def _marked(mark: str) -> list[int]:
    """What a command has started, the busiest first; the command itself leads a session of its own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                is_command = b"--save-every" in (folder / "cmdline").read_bytes()
                if fields[0] != "Z" and not is_command:
                    found.append((-int(fields[11]), int(folder.name)))
    return [process for _, process in sorted(found)]


def _trains(process: int) -> bool:
    """Whether it is a worker of Ray that is at a job, by its title."""
    with contextlib.suppress(OSError):
        return (Path(f"/proc/{process}/cmdline")).read_bytes().startswith(b"ray::do_job")
    return False


def _begun(folder: Path) -> list[int]:
    found = [int(path.read_text().split()[1]) for path in folder.glob("*/*.begun")]
    return [process for process in found if Path(f"/proc/{process}").exists()]


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """bnbench compare, with states ten times a second."""
    study = folder.parent / "study.yaml"
    study.write_text(_STUDY)
    command = ["-m", "bnbench", "compare", str(study), "--output", str(folder), "--save-every", "0.1", *words]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed. Raises AssertionError where it failed."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def until_it_trains(process: subprocess.Popen[str], folder: Path, cluster: Cluster) -> int:
    """Wait for a state on the disk; the number of a process that trains."""
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if list(folder.glob(".states/*/*/step-*.safetensors")) and (workers := cluster.workers()):
            return workers[0]
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.fixture(scope="module")
def by_jobs(found_by_workers: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of --jobs 2."""
    folder = tmp_path_factory.mktemp("jobs") / "results"
    finish(start(folder, "--jobs", "2"))
    return folder


def test_a_killed_worker_costs_no_bit(cluster: Cluster, by_jobs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    process = start(folder, "--executor", cluster.word)
    os.kill(until_it_trains(process, folder, cluster), signal.SIGKILL)
    said = finish(process)
    assert "a worker was lost" in said
    assert_same(folder, by_jobs)


def test_a_killed_driver_costs_no_bit(cluster: Cluster, by_jobs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    process = start(folder, "--executor", cluster.word)
    until_it_trains(process, folder, cluster)
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()  # not read to its end: what parsl started holds it, and stays
    finish(start(folder, "--executor", cluster.word))  # or the jobs in the queue have done it all by now
    assert_same(folder, by_jobs)
    if cluster.word.startswith(parsl_factory.__file__):  # what parsl started does not look at its driver
        for left in cluster.workers():
            os.kill(left, signal.SIGKILL)
    end = time.monotonic() + 30  # what a killed driver has left behind ends by itself
    while cluster.workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert cluster.workers() == []
