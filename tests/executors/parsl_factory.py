"""What docs/machines.md shows for parsl: two workers of this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any


def workers(jobs: int = 2) -> Any:
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    # parsl starts its own scripts by their names
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=jobs,
        heartbeat_period=1,
        heartbeat_threshold=4,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    folder = tempfile.mkdtemp(prefix="parsl-")
    return ParslPoolExecutor(Config([executor], run_dir=folder, strategy="none", initialize_logging=False))
