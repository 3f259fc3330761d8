"""What the default probes cost: seconds of probes against seconds of training, run by run, in one process.

    python tests/benchmarks/probe_cost.py quickstart
    python tests/benchmarks/probe_cost.py mnist_mlp epochs=2
    python tests/benchmarks/probe_cost.py mnist_cnn max_train_samples=6400 epochs=1

Words behind the study are overrides, as for `bnbench compare`. Both clocks are the engine's: `train_seconds` and
`probe_seconds` of each run's run.json. The last column is the largest probes.csv of the variant.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import bnbench
from bnbench.results.reader import load_folder


def measure(study: str, overrides: list[str]) -> None:
    """Train the study with the default probes, and print a line a variant."""
    with tempfile.TemporaryDirectory() as folder:
        bnbench.compare(study, overrides=["probe=true", *overrides], jobs=1, output=folder)
        print(f"{study} {' '.join(overrides)}")
        print(
            f"{'variant':16}{'engine':12}{'runs':>5}{'steps':>8}{'looks':>7}{'training':>11}{'probes':>10}{'share':>8}{'KB':>7}"
        )
        for cell in load_folder(Path(folder)).cells:
            runs = cell.records
            training, probes = (
                sum(getattr(run, name) for run in runs) for name in ("train_seconds", "probe_seconds")
            )
            files = [*Path(folder).glob(f"runs/{cell.variant}-*/seed-*/probes.csv")]
            steps = {line.partition(",")[0] for line in files[0].read_text().splitlines()[1:]}
            largest = max(file.stat().st_size for file in files) / 1000
            print(
                f"{cell.label:16}{runs[0].environment['engine']:12}{len(runs):5}{runs[0].steps:8,}{len(steps):7}"
                f"{training:9.2f} s{probes:8.2f} s{probes / training:8.1%}{largest:7.0f}"
            )


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2:])
