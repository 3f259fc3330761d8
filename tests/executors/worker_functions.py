"""What workers call in tests: they are found by their names, on every worker."""

from __future__ import annotations

import os
import time

from bnbench.base.stopping import stop_asked


def do(payload: bytes) -> bytes:
    """Echoes the payload with the worker's process; or what the payload asks for."""
    word = payload.partition(b" ")[0]
    if word == b"die":
        os.kill(os.getpid(), 9)
    if word == b"raise":
        raise SystemExit(3)
    if word == b"stop":  # until it is asked to
        end = time.monotonic() + 60
        while not stop_asked() and time.monotonic() < end:
            time.sleep(0.02)
        return stop_asked().encode()
    if word == b"deaf":  # to every wish
        time.sleep(60)
    return payload + b" in process %d" % os.getpid()


def where(payload: bytes) -> bytes:
    """The node of Ray that it runs on."""
    import ray

    time.sleep(0.05)
    return str(ray.get_runtime_context().get_node_id()).encode()
