"""Workers of Ray: a cluster of two nodes, and one that is started here. Oracle: what the calls return, and /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnbench.executors import ray_guard
from bnbench.executors.base import ExecutorError, Executors
from bnbench.executors.words import open_executor
from tests.executors.worker_functions import do, where
from tests.ray_cluster import RayNodes

pytestmark = [
    pytest.mark.executors,
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.xdist_group("ray"),
]


@pytest.fixture
def joined(two_nodes: RayNodes) -> Iterator[Executors]:
    with open_executor("ray:auto", None) as executors:
        yield executors


def test_jobs_of_one_place_go_to_one_node_and_a_lost_worker_is_an_error_of_its_job_alone(
    joined: Executors,
) -> None:
    assert (joined.workers, joined.machines, joined.owned) == (2, 2, False)
    calls = [joined.submit(where, b"", place) for place in (0, 1) * 4]
    nodes = [call.result(60) for call in calls]
    assert len(set(nodes[::2])) == len(set(nodes[1::2])) == 1
    assert nodes[0] != nodes[1]
    lost, kept = joined.submit(do, b"die", 0), joined.submit(do, b"stays", 1)
    with pytest.raises(Exception, match="worker died"):
        lost.result(60)
    assert kept.result(60).startswith(b"stays")
    assert joined.submit(do, b"later", 0).result(60).startswith(b"later")


def test_a_client_elsewhere_has_the_same_workers_and_ends_nothing_but_its_session(
    two_nodes: RayNodes,
) -> None:
    handlers, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
    with open_executor(two_nodes.client, 1) as executors:
        assert (executors.workers, executors.machines) == (1, 2)
        first = executors.submit(do, b"by client").result(60)
    with open_executor("ray:auto", None) as executors:
        second = executors.submit(do, b"again").result(60)
    assert first.startswith(b"by client")
    assert second.startswith(b"again")
    assert signal.getsignal(signal.SIGTERM) == handlers
    assert {name: value for name, value in os.environ.items() if environment.get(name) != value} == {}


def test_jobs_of_a_lost_node_go_to_the_other(two_nodes: RayNodes) -> None:
    with open_executor("ray:auto", None) as executors:
        nodes = {executors.submit(where, b"", place).result(60) for place in (0, 1)}
        two_nodes.lose()
        left = {executors.submit(where, b"", place).result(60) for place in (0, 1)}
    assert len(nodes) == 2
    assert len(left) == 1
    assert left < nodes


_DRIVER = """
import os, signal, sys
from tests.executors.sockets import listening
from bnbench.executors import ray_guard
from bnbench.executors.words import open_executor
from tests.executors.worker_functions import do
executors = open_executor("ray", 1)
first = executors.submit(do, b"x").result(60)
executors.submit(do, b"stop")
folder = executors.folder
print(folder, *listening([os.getpid(), *ray_guard.left(folder)]), flush=True)
os.kill(os.getpid(), int(sys.argv[1]))
executors.close(cancel=True)
print(first.decode(), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, 0], ids=["killed", "closed"])
def test_a_cluster_of_ours_listens_to_this_machine_alone_and_ends_with_us(
    number: int, found_by_workers: None, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    environment = {**os.environ, "HOME": str(tmp_path)}
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(int(number))], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    folder, *addresses = driver.stdout.readline().split()
    said, _ = driver.communicate(timeout=60)
    assert set(addresses) == {"127.0.0.1"}
    assert driver.returncode == (-signal.SIGKILL if number else 0)
    assert said.startswith("" if number else "x in process")
    end = time.monotonic() + 20
    while (list(ray_guard.left(folder)) or Path(folder).exists()) and time.monotonic() < end:
        time.sleep(0.1)
    assert list(ray_guard.left(folder)) == []
    assert not Path(folder).exists()
    assert list(tmp_path.iterdir()) == []  # nothing in HOME


def test_an_address_that_nobody_listens_to_is_named_with_what_starts_it() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ExecutorError, match=r"(?s)ray://127.0.0.1:9.*refused.*ray start --head"):
        open_executor("ray://127.0.0.1:9", None)
