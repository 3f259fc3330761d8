"""Seconds of training over the number of seeds, the width, the batch size and the epochs, by two engines.

    python tests/benchmarks/scaling.py [--steps 100] [--output scaling]

On made-up data of MNIST's shape, in this process, on one thread. Prints a table; writes OUTPUT.json and OUTPUT.html.
The smallest of three interleaved repeats is told: on a busy machine even that says little.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bnbench.config import Settings, load_study
from bnbench.data.batches import Prepared
from bnbench.engine.choose import Choice, Engine
from bnbench.engine.train import Training
from bnbench.plan import RunSpec
from bnbench.workflow import known_names

#: What is varied, one at a time, around the first of each.
SEEDS, HIDDEN, BATCH, EPOCHS = (5, 1, 2, 15, 64), (64, 256, 1024), (32, 128, 512), (1, 5)
ENGINES: tuple[Engine, ...] = ("sequential", "stacked")
REPEATS = 3


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="steps an epoch")
    parser.add_argument("--output", type=Path, default=Path("scaling"))
    options = parser.parse_args()
    rows = measure(options.steps)
    print(
        f"{'seeds':>6} {'hidden':>6} {'batch':>6} {'epochs':>6} {'sequential s':>13} {'stacked s':>10} {'ratio':>6}"
    )
    for row in rows:
        ratio = row["sequential"] / row["stacked"]
        print(
            f"{row['seeds']:>6} {row['hidden']:>6} {row['batch']:>6} {row['epochs']:>6} "
            f"{row['sequential']:>13.3f} {row['stacked']:>10.3f} {ratio:>6.2f}"
        )
    options.output.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(rows, options.output.with_suffix(".html"))


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
    return Prepared(*part, *few, *few, *few, 10, (1, 28, 28), "", torch.zeros(1), torch.ones(1), ())


def seconds(settings: Settings, data: Prepared, seeds: int, engine: Engine) -> float:
    """Of all steps of all seeds, without evaluation."""
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in range(seeds)]
    groups = [runs] if engine == "stacked" else [[run] for run in runs]
    total = 0.0
    for group in groups:
        training = Training(group, data, "none", torch.device("cpu"), Choice(engine, 1))
        start = time.perf_counter()
        for step, (images, labels) in enumerate(training.batches()):
            training.train_step(step, images, labels)
        total += time.perf_counter() - start
    return total


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds over seeds, both axes logarithmic."""
    import altair as alt

    base = (HIDDEN[0], BATCH[0], EPOCHS[0])
    values = [
        {"seeds": row["seeds"], "engine": engine, "seconds": row[engine]}
        for row in rows
        if (row["hidden"], row["batch"], row["epochs"]) == base
        for engine in ENGINES
    ]
    chart = alt.Chart(alt.Data(values=values)).mark_line(point=True)
    chart.encode(
        x=alt.X("seeds:Q", scale=alt.Scale(type="log")),
        y=alt.Y("seconds:Q", scale=alt.Scale(type="log")),
        color="engine:N",
    ).save(str(path), inline=True)


if __name__ == "__main__":
    main()
