"""What `check` says of memory against what processes take: the peak of the resident memory of each, by Linux.

    python tests/benchmarks/memory.py            # all cases, each in a process of its own
    python tests/benchmarks/memory.py mlp gan    # some of them

A case is a study whose first cell is trained as a command trains it: a stack or one run in a worker process where
that is what the schedule would choose, else one run in this process. Printed: the estimate of the job beside the data,
with the data; the peak (VmHWM); their ratio. `private` is the part of the peak that other processes do not share.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_DIGITS: dict[str, Any] = {"dataset": "digits", "seeds": 1}
_MLP: dict[str, Any] = {"name": "mlp", "hidden": [64]}
_ADAM: dict[str, Any] = {"name": "adam", "lr": 1e-3}
#: Studies, each with steps enough for its peak.
CASES: dict[str, dict[str, Any]] = {
    "mlp": {"dataset": "digits", "model": _MLP, "batch_size": 64},
    "wide mlp": {**_DIGITS, "model": {"name": "mlp", "hidden": [2000, 2000]}, "batch_size": 4, "seeds": 4},
    "small cnn": {**_DIGITS, "model": {"name": "cnn", "channels": [4, 4]}, "batch_size": 8},
    "cnn": {**_DIGITS, "model": {"name": "cnn", "channels": [64, 64]}, "batch_size": 1000},
    "resnet18": {**_DIGITS, "model": {"name": "torchvision", "arch": "resnet18"}, "batch_size": 64},
    "transformer": {
        "dataset": {"name": "stdlib_text", "window": 32},
        "model": {"name": "transformer", "depth": 2, "width": 64, "heads": 2},
        "optimizer": _ADAM,
        "batch_size": 32,
        "seeds": 1,
    },
    "gan": {
        **_DIGITS,
        "task": "gan",
        "model": {"name": "dcgan", "width": 16},
        "optimizer": _ADAM,
        "batch_size": 64,
    },
    "keras": {**_DIGITS, "model": _MLP, "framework": "keras"},
}
STUDY = {
    "name": "memory",
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "steps": 12,
    "seeds": 5,
    "variants": ["batch"],
}


def measure(name: str) -> dict[str, float]:
    """The estimate and the peak of one case, in this process and its workers."""
    import torch

    from bnbench.api.plugins import known_names
    from bnbench.api.several import load_studies
    from bnbench.engine.execute import Trainer
    from bnbench.engine.footprint import data_bytes
    from bnbench.engine.library import Library, data_key
    from bnbench.engine.process import training_process
    from bnbench.engine.rehearsal.rehearse import rehearse
    from bnbench.engine.workers import pool
    from bnbench.engine.workers.room import Estimates
    from bnbench.study.plan import make_plan

    device, peaks = torch.device("cpu"), Peaks()
    with training_process(for_good=True), tempfile.TemporaryDirectory() as folder:
        names = known_names([], [])
        (study,) = load_studies([{**STUDY, **CASES[name]}], names)
        library = Library(Path(folder), device)
        runs = make_plan(study, lambda settings: "memory")
        cell = rehearse(runs, library, device).cells["batch"]
        data = library.prepared(runs[0].settings)
        estimate, held = Estimates(device).job(cell, data.sizes), data_bytes([data])
        in_worker = cell.choice.threads == 1 and cell.choice.engine != "keras"
        if in_worker:
            peaks.watch(pool)
            key = data_key(runs[0].settings.for_seed(runs[0].seed))
            for _ in pool.run_in_workers([cell], {key: data}, 1, pool.WorkerLife(device)):
                pass
        else:
            for _ in Trainer(library, device).train(cell.runs, cell.choice):
                pass
            peaks.note("self")
    return {
        "estimate": estimate + held,
        "peak": peaks.peak,
        "private": peaks.private,
        "worker": float(in_worker),
    }


class Peaks:
    """The largest VmHWM that was seen of processes, and of their private memory."""

    def __init__(self) -> None:
        self.peak = self.private = 0.0

    def watch(self, pool: Any) -> None:
        """Look at every worker that starts, every few milliseconds, until it is gone."""
        started = pool._started

        def watched(*arguments: Any) -> Any:
            worker = started(*arguments)
            threading.Thread(target=self._look, args=(worker.process.pid,), daemon=True).start()
            return worker

        pool._started = watched

    def _look(self, pid: int) -> None:
        while Path(f"/proc/{pid}").exists():
            self.note(str(pid))
            time.sleep(0.02)

    def note(self, pid: str) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        sizes = {
            line.split(":")[0]: 1024 * float(line.split()[1]) for line in status.splitlines() if " kB" in line
        }
        self.peak = max(self.peak, sizes.get("VmHWM", 0.0))
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            own = sum(1024 * float(line.split()[1]) for line in rollup if line.startswith("Private_"))
            self.private = max(self.private, own)


def main() -> None:
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    print(f"{'case':12} {'estimate MB':>12} {'peak MB':>9} {'estimate/peak':>14} {'private MB':>11}  where")
    for name in sys.argv[1:] or CASES:
        done = subprocess.run([sys.executable, __file__, "--case", name], capture_output=True, text=True)
        if done.returncode:
            print(f"{name:12} {done.stderr.strip().splitlines()[-1]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        where = "worker" if found["worker"] else "this process"
        print(
            f"{name:12} {found['estimate'] / 1e6:12,.0f} {found['peak'] / 1e6:9,.0f}"
            f" {found['estimate'] / found['peak']:14.2f} {found['private'] / 1e6:11,.0f}  {where}"
        )


if __name__ == "__main__":
    main()
