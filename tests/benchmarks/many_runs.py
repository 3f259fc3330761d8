"""A results folder of 10,000 runs: how long `report` takes, and the rerun of the finished study; their memory.

    python tests/benchmarks/many_runs.py [--variants 20] [--seeds 500] [--settings 1] [--folder DIR]

One seed of the study is trained. The runs of the other seeds are copies of it whose losses are scaled by a factor
near 1 of their own, so that nothing is the same in two runs. The commands are timed as a user would: as processes,
their peak memory is what the kernel counts (children included).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bnbench.results.contents import Cell
from bnbench.results.files import CHECKPOINT, PLAN
from bnbench.results.run_files import run_files
from bnbench.results.run_reader import load_runs, load_samples, run_folder
from bnbench.study.records import Extras, HistoryRow, RunRecord, TestSamples

#: Normalizers of a small MLP; further variants are the first ones with another width.
NORMS = ("none", "batch", "layer", "rms", "group", "dyt", "renorm", "ghost", "power", "lp")


def study(variants: int, seeds: int, settings: int) -> dict[str, Any]:
    """As a dict: `variants` normalizers and widths, at `settings` learning rates."""
    rates = np.geomspace(0.01, 0.1, settings).round(6).tolist() if settings > 1 else []
    named = {
        f"{norm}_{8 + 2 * (number // len(NORMS))}": {
            "norm": {"name": "group", "groups": 2} if norm == "group" else norm,
            "model": {"name": "mlp", "hidden": [8 + 2 * (number // len(NORMS))]},
        }
        for number, norm in ((number, NORMS[number % len(NORMS)]) for number in range(variants))
    }
    return {
        "name": "many",
        "dataset": "digits",
        "max_train_samples": 256,
        "max_eval_samples": 64,
        "optimizer": {"name": "sgd", "lr": 0.05},
        "batch_size": 32,
        "epochs": 5,
        "seeds": seeds,
        "variants": named,
        **({"sweep": {"optimizer.lr": rates}} if rates else {}),
    }


def _scaled(numbers: Any, factor: float) -> dict[str, float]:
    return {name: value * factor if name.endswith("loss") else value for name, value in numbers.items()}


def another_seed(run: RunRecord, samples: TestSamples | None, seed: int) -> tuple[RunRecord, Extras]:
    """A run of another seed: its losses are scaled, its answers with them."""
    factor = 1 + 0.05 * np.random.default_rng([seed, int(run.cell, 16)]).standard_normal()
    history = tuple(
        HistoryRow(row.step, row.epoch, row.train_seconds, row.batch_loss, _scaled(row.metrics, factor))
        for row in run.history
    )
    record = replace(
        run,
        seed=seed,
        final=_scaled(run.final, factor),
        best=_scaled(run.best, factor),
        history=history,
        step_losses=tuple(loss * factor for loss in run.step_losses),
    )
    scaled = samples and replace(samples, loss=(samples.loss * factor).astype("float32"))
    return record, Extras(scaled)


def spread(folder: Path, seeds: int) -> int:
    """Copy the runs of seed 0 to the other seeds. Returns the number of runs that are there then."""
    plan = json.loads((folder / PLAN).read_text())
    count = 0
    for planned in plan["cells"]:
        cell = Cell(planned["variant"], planned["setting"], planned["cell"], (0,))
        (run,) = load_runs(folder, cell, [])
        samples = load_samples(folder, cell, run)
        weights = run_folder(folder, run.variant, run.cell, 0) / CHECKPOINT
        for seed in range(1, seeds):
            place = run_folder(folder, run.variant, run.cell, seed)
            place.mkdir()
            for name, content in run_files(*_without_weights(another_seed(run, samples, seed))).items():
                (place / name).write_bytes(content)
            os.link(weights, place / CHECKPOINT)
        count += seeds
    return count


def _without_weights(made: tuple[RunRecord, Extras]) -> tuple[RunRecord, None, Extras]:
    return made[0], None, made[1]


def timed(*words: str) -> tuple[float, float]:
    """Wall seconds and peak memory in GB of a command of bnbench. Raises CalledProcessError where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "bnbench", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), words)
    return seconds, usage.ru_maxrss / (1e6 if sys.platform == "linux" else 1e9)


def main() -> None:
    """Make the folder where it is not there yet, then time both commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--settings", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    parent = given.folder or Path(tempfile.mkdtemp())
    folder, file = parent / "results", parent / "study.json"
    if not folder.exists():
        parent.mkdir(parents=True, exist_ok=True)
        one = study(given.variants, 1, given.settings)
        file.write_text(json.dumps(one))
        timed("compare", str(file), "--output", str(folder), "--quiet")
        print(f"{spread(folder, given.seeds)} runs in {folder}", flush=True)
        file.write_text(json.dumps(study(given.variants, given.seeds, given.settings)))
    for words in (
        ("compare", str(file), "--output", str(folder), "--quiet"),
        ("compare", str(file), "--output", str(folder), "--quiet"),
        ("report", str(folder), "--quiet"),
        ("report", str(folder), "--quiet"),
    ):
        seconds, memory = timed(*words)
        print(f"{words[0]:8} {seconds:6.2f} s, peak {memory:.2f} GB", flush=True)
    print(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.1f} s of processor time in all")


if __name__ == "__main__":
    main()
