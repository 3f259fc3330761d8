"""A Ray cluster of two nodes on this machine, for tests: bound to 127.0.0.1, with a secret and ports of its own.

`RAY_TMPDIR=FOLDER python tests/ray_cluster.py` starts one, prints its addresses, ends the second node when it reads a
line, and all of it at the end of standard input, with the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_STORE = 80 * 2**20
#: What the cluster has, and every driver that joins it.
_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 is this machine's address
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # Ray's client server fails now and then where gRPC forks
}


@dataclass(frozen=True)
class RayNodes:
    """folder: of its files. address, client: for drivers on this machine, and elsewhere. environment: of drivers."""

    folder: str
    address: str
    client: str
    environment: dict[str, str]
    process: subprocess.Popen[str]

    def lose(self) -> None:
        """End the second node."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("lose\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


def why_not() -> str:
    """Why no Ray can be started here; "" where it can."""
    absent = [name for name in ("ray", "grpc") if find_spec(name) is None]
    return "Ray is not installed (pip install '.[ray]')" if absent else ""


@contextlib.contextmanager
def ray_nodes() -> Iterator[RayNodes]:
    """Two nodes with one CPU each. On leaving, they end."""
    folder = tempfile.mkdtemp(prefix="raytest-", dir="/tmp")
    environment = {**_ENVIRONMENT, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with (Path(folder) / "stderr").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **environment, "RAY_TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"Ray did not start: {(Path(folder) / 'stderr').read_text()[-3000:]}")
        found = json.loads(line)
        joining = {**environment, "RAY_ADDRESS": found["address"]}
        yield RayNodes(folder, found["address"], f"ray://127.0.0.1:{found['port']}", joining, process)
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _main() -> None:
    from ray.cluster_utils import Cluster

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": _STORE}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**node, "include_dashboard": False, "ray_client_server_port": port},
    )
    try:
        second = cluster.add_node(**node)
        print(json.dumps({"address": cluster.address, "port": port}), flush=True)
        for _ in sys.stdin:
            cluster.remove_node(second)
            print("lost", flush=True)
    finally:
        cluster.shutdown()
        shutil.rmtree(
            os.environ["RAY_TMPDIR"], ignore_errors=True
        )  # also where nobody waits for this process


if __name__ == "__main__":
    _main()
