"""How often a prediction interval holds the published result: simulated papers and replications.

    python tests/benchmarks/prediction_coverage.py

Each trial draws n runs of our own and a published mean of k runs from the same distributions, and asks whether the
published result lies in the 95 % prediction interval. The figures are in docs/findings.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bnbench.analysis.methods.prediction import predicted_sum

TRIALS = 20_000
#: Draws of one side: (generator, shape) -> values.
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Case:
    """What is drawn. spread_b: of B, beside 1 of A; None for a single quantity. rho: between our paired runs."""

    name: str
    runs: int
    spread_b: float | None = None
    rho: float = 0.0
    heavy: bool = False


CASES = (
    Case("one run", 1),
    Case("mean of 5 runs", 5),
    Case("A - B of one run each, equal spreads", 1, 1.0),
    Case("A - B of one run each, spreads 1 and 4", 1, 4.0),
    Case("A - B of 5 runs each, spreads 1 and 4", 5, 4.0),
    Case("A - B of one run each, our seeds correlated 0.8", 1, 1.0, rho=0.8),
    Case("one run, exponential instead of normal", 1, heavy=True),
)


def coverage(case: Case, n: int, trials: int = TRIALS, seed: int = 0) -> float:
    """Share of trials whose published result lies in the interval from n own runs."""
    generator = np.random.default_rng([seed, n])
    hits = 0
    for ours, published in _trials(case, n, trials, generator):
        prediction = predicted_sum(ours, [1, -1][: len(ours)], case.runs)
        assert prediction is not None
        low, high = prediction.interval()
        hits += low <= published <= high
    return hits / trials


def _trials(
    case: Case, n: int, trials: int, generator: np.random.Generator
) -> Iterator[tuple[list[list[float]], float]]:
    spreads = [1.0] if case.spread_b is None else [1.0, case.spread_b]
    draw = generator.exponential if case.heavy else generator.normal
    shared = draw(size=(trials, n))
    own = [draw(size=(trials, n)) for _ in spreads]
    sides = [
        spread * (math.sqrt(case.rho) * shared + math.sqrt(1 - case.rho) * side)
        if case.rho
        else spread * side
        for spread, side in zip(spreads, own, strict=True)
    ]
    printed = [spread * draw(size=(trials, case.runs)).mean(axis=1) for spread in spreads]
    for trial in range(trials):
        published = printed[0][trial] - (printed[1][trial] if len(printed) > 1 else 0.0)
        yield [side[trial].tolist() for side in sides], float(published)


def main() -> None:
    """Print the table."""
    sizes = (3, 5, 10)
    print(f"{'published':52}{''.join(f'n = {n}'.rjust(9) for n in sizes)}")
    for case in CASES:
        print(f"{case.name:52}{''.join(f'{100 * coverage(case, n):8.1f}%' for n in sizes)}")


if __name__ == "__main__":
    main()
