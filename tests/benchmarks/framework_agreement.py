"""How far PyTorch and Keras are apart on the same runs, step by step, in a folder of configs/frameworks.yaml.

usage: python tests/benchmarks/framework_agreement.py RESULTS_FOLDER [VARIANT OTHER [STEPS]]

Prints for each seed the largest relative difference of the training loss over the first STEPS (default 100)
steps, and exits with 1 where one exceeds 1e-4.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bnbench.results import ResultsFolder

TOLERANCE = 1e-4
PAIRS = (("torch_batch_keras", "keras"), ("torch_none", "keras_none"))


def main(folder: str, variant: str = "", other: str = "", steps: str = "100") -> int:
    """One line a seed of each pair."""
    cells = {cell.label: cell for cell in ResultsFolder(Path(folder)).load().cells}
    worst = 0.0
    for name, twin in [(variant, other)] if variant else PAIRS:
        for ours, theirs in zip(cells[name].records, cells[twin].records, strict=True):
            assert ours.seed == theirs.seed
            gaps = [abs(a - b) / abs(a) for a, b in zip(ours.step_losses, theirs.step_losses, strict=True)]
            largest = max(gaps[: int(steps)])
            worst = max(worst, largest)
            print(
                f"{name}, {twin}, seed {ours.seed}: {largest:.1e} in the first {steps} steps, "
                f"{max(gaps):.1e} in all {len(gaps)}"
            )
    print(f"largest: {worst:.1e}: {'agree' if worst <= TOLERANCE else 'DISAGREE'} (tolerance {TOLERANCE:g})")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4, 5):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
