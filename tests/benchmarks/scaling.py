"""Seconds of training over the number of seeds, the width, the batch size and the epochs, by two engines; and memory.

    python tests/benchmarks/scaling.py [--steps 100] [--output scaling]

On made-up data of MNIST's shape, on one thread. Prints tables; writes OUTPUT.json and OUTPUT.svg.
The smallest of three interleaved repeats is told: on a busy machine even that says little. Memory is the peak
of a process of its own that trains so many seeds, all at once (stacked) or one after the other (sequential).
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bnbench.api.plugins import known_names
from bnbench.data import Sizes
from bnbench.data.prepared import Prepared
from bnbench.engine.choose import Engine, EngineChoice
from bnbench.engine.loop import Training
from bnbench.study import Settings, load_study
from bnbench.study.plan import RunSpec
from tests.prepared import IMAGES

#: What is varied, one at a time, around the first of each.
SEEDS, HIDDEN, BATCH, EPOCHS = (5, 1, 2, 15, 30, 64), (64, 128, 256, 512, 1024), (32, 8, 128, 512), (1, 2, 5)
AXES = ("seeds", "hidden", "batch", "epochs")
#: The steps of an epoch of workload A.
EPOCH = 1688
ENGINES: tuple[Engine, ...] = ("sequential", "stacked")
REPEATS = 3


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="steps an epoch")
    parser.add_argument("--output", type=Path, default=Path("scaling"))
    options = parser.parse_args()
    rows, peaks = measure(options.steps), memory()
    _print(rows, (*AXES, *ENGINES))
    few, many = (_base_row(rows, seeds)["stacked"] for seeds in (SEEDS[0], max(SEEDS)))
    marginal = (many - few) / (max(SEEDS) - SEEDS[0]) / options.steps * EPOCH
    print(f"one more seed of workload A: {marginal:.3f} s an epoch of {EPOCH} steps, on one core")
    _print(peaks, ("seeds", *ENGINES))
    told = {"seconds": rows, "marginal_seed_seconds_an_epoch": marginal, "peak_mib": peaks}
    options.output.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    plot(rows, peaks, options.output.with_suffix(".svg"))


def _print(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    print("".join(f"{column:>12}" for column in columns))
    for row in rows:
        print("".join(f"{row[c]:>12.3f}" if c in ENGINES else f"{row[c]:>12}" for c in columns))


def _base_row(rows: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    base = {"seeds": seeds, "hidden": HIDDEN[0], "batch": BATCH[0], "epochs": EPOCHS[0]}
    return next(row for row in rows if base.items() <= row.items())


def measure(steps: int) -> list[dict[str, Any]]:
    """Seconds of both engines, for all seeds together."""
    base = (SEEDS[0], HIDDEN[0], BATCH[0], EPOCHS[0])
    settings = {base}
    for axis, values in enumerate((SEEDS, HIDDEN, BATCH, EPOCHS)):
        settings |= {(*base[:axis], value, *base[axis + 1 :]) for value in values}
    rows = []
    for seeds, hidden, batch, epochs in sorted(settings):
        study, data = study_of(hidden, batch, epochs), made_up(batch * steps)
        best = dict.fromkeys(ENGINES, float("inf"))
        for _, engine in itertools.product(range(REPEATS), ENGINES):
            best[engine] = min(best[engine], seconds(study, data, seeds, engine))
        rows.append(
            {"seeds": seeds, "hidden": hidden, "batch": batch, "epochs": epochs, "steps": steps, **best}
        )
    return rows


def study_of(hidden: int, batch: int, epochs: int) -> Settings:
    """MLP with batch norm and Adam."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scaling.yaml"
        path.write_text(
            f"dataset: mnist\nmodel: {{name: mlp, hidden: [{hidden}]}}\nnorm: batch\n"
            f"optimizer: {{name: adam, lr: 1e-3}}\nbatch_size: {batch}\nepochs: {epochs}\n"
        )
        (settings,) = load_study(path, [], known_names().vocabulary).variants.values()
    return settings


def made_up(count: int) -> Prepared:
    """Noise of MNIST's shape."""
    draw = torch.Generator().manual_seed(0)
    images, labels = (
        torch.randn(count, 1, 28, 28, generator=draw),
        torch.randint(10, (count,), generator=draw),
    )
    part = (images, labels)
    few = (images[:100], labels[:100])
    names = tuple(map(str, range(10)))
    return Prepared(
        *part,
        *few,
        *few,
        *few,
        names,
        IMAGES,
        Sizes((1, 28, 28), len(names)),
        "",
        torch.zeros(()),
        torch.ones(()),
        (),
    )


def seconds(settings: Settings, data: Prepared, seeds: int, engine: Engine) -> float:
    """Of all steps of all seeds, without evaluation."""
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in range(seeds)]
    groups = [runs] if engine == "stacked" else [[run] for run in runs]
    total = 0.0
    for group in groups:
        training = Training(group, data, None, torch.device("cpu"), EngineChoice(engine, 1))
        start = time.perf_counter()
        for step, (images, labels) in enumerate(training.batches()):
            training.train_step(step, images, labels)
        total += time.perf_counter() - start
    return total


def memory() -> list[dict[str, Any]]:
    """Peak MiB of processes that train some seeds for some steps, PyTorch itself and the data included."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for seeds in sorted(SEEDS):
        row: dict[str, Any] = {"seeds": seeds}
        for engine in ENGINES:
            with context.Pool(1) as pool:
                row[engine] = pool.apply(peak, (seeds, engine))
        rows.append(row)
    return rows


def peak(seeds: int, engine: Engine) -> float:
    """MiB, in this process."""
    seconds(study_of(HIDDEN[0], BATCH[0], 1), made_up(BATCH[0] * 50), seeds, engine)
    # not getrusage: its peak is handed down from the process that started this one
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) / 1024


def plot(rows: list[dict[str, Any]], peaks: list[dict[str, Any]], path: Path) -> None:
    """Seconds over each axis, and MiB over seeds; all axes logarithmic."""
    import altair as alt

    base = dict(zip(AXES, (SEEDS[0], HIDDEN[0], BATCH[0], EPOCHS[0]), strict=True))
    panels = []
    for axis in AXES:
        others = {name: value for name, value in base.items() if name != axis}
        panels.append(_panel(alt, [row for row in rows if others.items() <= row.items()], axis, "seconds"))
    panels.append(_panel(alt, peaks, "seeds", "peak MiB"))
    alt.hconcat(*panels).save(str(path))


def _panel(alt: Any, rows: list[dict[str, Any]], axis: str, what: str) -> Any:
    values = [{axis: row[axis], "engine": engine, what: row[engine]} for row in rows for engine in ENGINES]
    ticks = sorted(row[axis] for row in rows)
    return (
        alt.Chart(alt.Data(values=values), width=190, height=190)
        .mark_line(point=True)
        .encode(
            x=alt.X(f"{axis}:Q", scale=alt.Scale(type="log"), axis=alt.Axis(values=ticks)),
            y=alt.Y(f"{what}:Q", scale=alt.Scale(type="log")),
            color=alt.Color("engine:N", scale=alt.Scale(range=["#666666", "#0072b2"])),
        )
    )


if __name__ == "__main__":
    main()
