"""Are the final accuracies of two engines distinguishable? By the tool's own statistics, seed by seed.

    python tests/benchmarks/engines.py --data-dir DATA [--study mnist_mlp] [--seeds 20] [--epochs 2] [STUDY OPTIONS...]

Trains every variant of the study by `engine=stacked` and by `engine=sequential`, and compares the two as variants are
compared: paired by seed, 95 % interval, Holm's correction over the variants. Exit code 1 where any differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from processes import run

from bnbench.analysis.family import corrected
from bnbench.analysis.paired import compare
from bnbench.results import Cell, ResultsFolder

ENGINES = ("sequential", "stacked")


def main() -> int:
    """Train, compare, print a line a variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--study", default="mnist_mlp")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="key=value, for the study")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells = {engine: trained(engine, options, Path(folder) / engine) for engine in ENGINES}
    compared = corrected(
        compare(replace(ours, variant=f"{ours.variant}, stacked"), theirs, metric, "final", None)
        for metric in ("test_accuracy", "test_loss")
        for theirs, ours in zip(*cells.values(), strict=True)
    )
    for found in compared:
        print(
            f"{found.label} - sequential, {found.metric}: {found.difference:+.5f} [{found.ci_low:+.5f}, "
            f"{found.ci_high:+.5f}], {found.n} seeds, p (Holm) {found.p_holm}: {found.verdict}"
        )
    return int(any(found.verdict in ("better", "worse") for found in compared))


def trained(engine: str, options: argparse.Namespace, folder: Path) -> list[Cell]:
    """The study's cells, by that engine."""
    words = [f"engine={engine}", f"seeds={options.seeds}", f"epochs={options.epochs}", *options.overrides]
    where = ["--data-dir", str(options.data_dir), "--output", str(folder), "--quiet"]
    run(["-m", "bnbench", "compare", options.study, *words, *where])
    cells = ResultsFolder(folder).load().cells
    told = {record.environment["engine"] for cell in cells for record in cell.records}
    assert told == {engine}, told
    return list(cells)


if __name__ == "__main__":
    sys.exit(main())
