"""How far two variants' training losses are apart, step by step and seed by seed.

usage: python tests/benchmarks/agreement.py RESULTS_FOLDER VARIANT OTHER [STEPS]

Prints the largest difference over the first STEPS (default 100) steps of each seed, and the first step
at which the difference exceeds 1e-5. Two implementations of one layer, started from the same weights and
fed the same batches, should agree to float32 rounding until a rounding error meets a kink.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bnbench.results import ResultsFolder

TOLERANCE = 1e-5


def main(folder: str, variant: str, other: str, steps: str = "100") -> int:
    """Print one line a seed; 1 where any seed differs by more than the tolerance."""
    cells = {cell.label: cell for cell in ResultsFolder(Path(folder)).load().cells}
    worst = 0.0
    for ours, theirs in zip(cells[variant].records, cells[other].records, strict=True):
        assert ours.seed == theirs.seed
        if not ours.step_losses or not theirs.step_losses:
            sys.exit(f"{folder} has no steps.csv: train with --output in another folder, or with --force.")
        gaps = [abs(a - b) for a, b in zip(ours.step_losses, theirs.step_losses, strict=True)]
        first = next((step for step, gap in enumerate(gaps, 1) if gap > TOLERANCE), None)
        largest = max(gaps[: int(steps)])
        worst = max(worst, largest)
        print(
            f"seed {ours.seed}: largest difference {largest:.1e} in the first {steps} steps; "
            f"above {TOLERANCE:g} for the first time at step {first} of {len(gaps)}"
        )
    print("agree" if worst <= TOLERANCE else "DISAGREE")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
