"""Do the two intervals of a difference keep their 95 %? One for new seeds, one for new test samples as well.

    python tests/benchmarks/new_samples.py            2,000 studies a row: a minute on one core
    python tests/benchmarks/new_samples.py --quick    100 a row, for a test

Each study draws its test samples from an endless source in which the true difference is known, trains n
seeds of both variants and asks both intervals for it. "accuracy": a sample is easy or borderline;
on a borderline one each variant has its own chance to be right, and a seed is better or worse as a
whole. "loss": skewed losses a sample, that a variant, a sample and a seed multiply.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from bnbench.analysis.methods.intervals import paired_interval
from bnbench.analysis.new_samples import new_samples_interval


def accuracy(random: np.random.Generator, seeds: int, samples: int, borderline: float = 0.1) -> np.ndarray:
    """(seeds, samples) differences of right answers; both variants are equally good on the source."""
    sides = []
    is_borderline = random.random(samples) < borderline
    for _ in range(2):
        chance = np.where(is_borderline, random.random(samples), 0.99)
        luck = random.normal(0, 0.05, (seeds, 1)) * is_borderline  # a seed's own skill, where there is room
        sides.append(random.random((seeds, samples)) < np.clip(chance + luck, 0, 1))
    return sides[0].astype(float) - sides[1]


def loss(random: np.random.Generator, seeds: int, samples: int) -> np.ndarray:
    """(seeds, samples) differences of lognormal losses; equal on the source."""
    hardness = random.normal(0, 1, samples)
    sides = [
        np.exp(
            -2 + hardness + random.normal(0, 0.3, samples) + random.normal(0, 0.1, (seeds, 1))
            + random.normal(0, 0.3, (seeds, samples))
        )
        for _ in range(2)
    ]  # fmt: skip
    return np.asarray(sides[0] - sides[1])


DRAWS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "accuracy, 10 % borderline": accuracy,
    "accuracy, 2 % borderline": lambda random, seeds, samples: accuracy(random, seeds, samples, 0.02),
    "loss": loss,
}


def coverage(
    draw: Callable[[np.random.Generator, int, int], np.ndarray],
    seeds: int,
    samples: int,
    studies: int,
    random: np.random.Generator,
    grain: float = 0.0,
) -> tuple[float, float]:
    """Share of studies whose interval holds the true difference, 0: for new seeds, and for new samples."""
    counts = np.zeros(2)
    for _ in range(studies):
        differences = draw(random, seeds, samples)
        first = paired_interval(differences.mean(1).tolist(), grain=grain)
        second = new_samples_interval(differences, grain)
        assert first[0] is not None
        assert first[1] is not None
        counts += [first[0] <= 0 <= first[1], min(second[0], first[0]) <= 0 <= max(second[1], first[1])]
    new_seeds, new_samples = counts / studies
    return float(new_seeds), float(new_samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    studies = 100 if parser.parse_args().quick else 2_000
    error = 100 * math.sqrt(0.95 * 0.05 / studies)
    print(
        f"Coverage of the true difference on the source, %, {studies} studies a row (s.e. {error:.1f} at 95)\n"
    )
    print(
        "| outcome | samples | seeds | for new seeds | for new samples |\n| --- | ---: | ---: | ---: | ---: |"
    )
    random = np.random.default_rng(1)
    for name, draw in DRAWS.items():
        for samples in (360, 2_000):
            for seeds in (3, 5, 10, 20):
                grain = 0.0 if name == "loss" else 1 / samples
                found = coverage(draw, seeds, samples, studies, random, grain)
                print(
                    f"| {name} | {samples:,} | {seeds} | {100 * found[0]:.1f} | {100 * found[1]:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
