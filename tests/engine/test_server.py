"""The process that workers are forked from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
from multiprocessing import get_context, util
from bnbench.engine.workers import server

server._PRELOAD[:] = []
for _ in range(2):
    server.start_server()
    worker = get_context("forkserver").Process(target=os._exit, args=(7,))
    worker.start()
    worker.join()
    print(worker.exitcode, os.listdir(os.environ["TMPDIR"]))
folder = util.get_temp_dir()
print(os.path.isdir(folder), flush=True)
os.rmdir(folder)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets without a name: Linux")
def test_a_kill_leaves_no_file_of_the_server(tmp_path: Path) -> None:
    """Workers start all the same, and what else wants a temporary folder has one."""
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout.splitlines() == ["7 []", "7 []", "True"]
    assert not list(tmp_path.iterdir())
