"""Does the comparison cry wolf? A against A, many times, through the code that judges real studies.

    python tests/benchmarks/false_verdicts.py                simulated studies: minutes on one core
    python tests/benchmarks/false_verdicts.py --quick        a few of them, for a test
    python tests/benchmarks/false_verdicts.py --real 40      real studies: digits, a small MLP, the real engine

Both sides are drawn from one distribution, so every "better" or "worse" is false, and an interval
that misses 0 (or a ratio's that misses 1) has failed.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import tempfile
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bnbench.analysis.comparison import compare, corrected
from bnbench.analysis.intervals import paired_interval
from bnbench.analysis.rates import mcnemar_p, wilson
from bnbench.analysis.resampling import MIN_BOOTSTRAP, bootstrap_t, sign_flip_p
from bnbench.analysis.speed import restricted_difference, speed_up
from bnbench.plan import RunRecord
from bnbench.results import Cell

METRIC = "test_accuracy"
SEEDS = (3, 5, 10, 20)
#: How much of a run's deviation the two sides of a pair share.
RHO = 0.3
VARIANTS = 3

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(random: np.random.Generator, n: int) -> np.ndarray:
    """Two sides of n pairs, (2, n), correlated by RHO."""
    shared = random.normal(size=n)
    return math.sqrt(RHO) * shared + math.sqrt(1 - RHO) * random.normal(size=(2, n))


def lognormal(random: np.random.Generator, n: int) -> np.ndarray:
    """Skewed: exp of the normal pairs."""
    return np.exp(normal(random, n))


def bimodal(random: np.random.Generator, n: int) -> np.ndarray:
    """Trains with probability 0.8 (0.95 ± 0.01), else stays near chance (0.10 ± 0.01)."""
    works = random.random(size=(2, n)) < 0.8
    return np.where(works, 0.95, 0.10) + 0.01 * random.normal(size=(2, n))


def one_sided(random: np.random.Generator, n: int) -> np.ndarray:
    """Skewed differences of mean 0: a lognormal less its mean against a constant. Never A against A."""
    return np.stack([random.lognormal(0, 1, n) - math.exp(0.5), np.zeros(n)])


DRAWS: dict[str, Draw] = {
    "normal": normal,
    "lognormal": lognormal,
    "bimodal": bimodal,
    "one-sided": one_sided,
}


class Tally:
    """Counts of "happened" out of "could have"."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, name: str, happened: bool) -> None:
        self.counts[name][0] += happened
        self.counts[name][1] += 1

    def text(self, name: str) -> str:
        k, n = self.counts[name]
        return f"{100 * k / n:.1f}" if n else "–"


def cell(name: str, values: np.ndarray, metric: str = METRIC) -> Cell:
    """A cell whose runs ended at these values."""
    seeds = tuple(range(len(values)))
    runs = tuple(
        RunRecord(name, {}, seed, name, name, "finished", final={metric: float(value)})
        for seed, value in zip(seeds, values, strict=True)
    )
    return Cell(name, {}, name, seeds, runs)


def covers(interval: tuple[float | None, float | None], truth: float) -> bool:
    low, high = interval
    return low is not None and high is not None and low <= truth <= high


def differences(draw: Draw, n: int, studies: int, random: np.random.Generator) -> Tally:
    """Verdicts and intervals of the final difference."""
    tally = Tally()
    for _ in range(studies):
        ours, theirs = draw(random, n)
        found = compare(cell("a", ours), cell("b", theirs), METRIC, "final")
        deltas = [value for _, value in found.values]
        tally.add("false verdicts", found.verdict in ("better", "worse"))
        tally.add("shown", covers((found.ci_low, found.ci_high), 0))
        tally.add("t", covers(paired_interval(deltas), 0))
        tally.add("Welch", covers((found.welch_low, found.welch_high), 0))
        bootstrap = bootstrap_t(deltas) if n >= MIN_BOOTSTRAP else None
        if bootstrap:
            tally.add("bootstrap", covers(bootstrap[:2], 0))
        flip = sign_flip_p(deltas)
        if flip is not None:
            tally.add("sign flip", flip <= 0.05)
    return tally


def families(draw: Draw, n: int, studies: int, random: np.random.Generator) -> Tally:
    """Three variants that are all the baseline: any false verdict, with and without Holm."""
    tally = Tally()
    for _ in range(studies):
        # one shared part a seed, as the baseline's numbers are in every comparison
        sides = [draw(random, n) for _ in range(VARIANTS)]
        baseline = cell("b", sides[0][1])
        found = corrected(
            compare(cell(f"a{index}", side[0]), baseline, METRIC, "final") for index, side in enumerate(sides)
        )
        tally.add("with Holm", any(c.verdict in ("better", "worse") for c in found))
        tally.add("without", any(c.uncorrected in ("better", "worse") for c in found))
    return tally


def times(random: np.random.Generator, n: int, reach: float) -> np.ndarray:
    """Steps to a target on a grid of 10, lognormal; with probability 1 - reach never (infinite)."""
    steps = np.ceil(20 * np.exp(0.4 * normal(random, n))) * 10
    return np.where(random.random(size=(2, n)) < reach, steps, np.inf)


def speeds(n: int, studies: int, random: np.random.Generator, reach: float, budget: float = 600) -> Tally:
    """Intervals of the restricted mean difference and of the speed-up; shares that trained."""
    tally = Tally()
    for _ in range(studies):
        ours, theirs = times(random, n, reach)
        ours, theirs = (np.where(side > budget, np.inf, side) for side in (ours, theirs))
        saved = paired_interval(restricted_difference(ours.tolist(), theirs.tolist(), budget))
        tally.add("restricted mean", covers(saved, 0))
        both = np.isfinite(ours) & np.isfinite(theirs)
        if both.sum() >= 2:
            _, low, high = speed_up(ours[both].tolist(), theirs[both].tolist())
            tally.add("speed-up", covers((low, high), 1))
        trained = random.random(size=(2, n)) < reach
        tally.add("Wilson", covers(wilson(int(trained[0].sum()), n), reach))
        first, second = trained
        tally.add("McNemar", mcnemar_p(int((first & ~second).sum()), int((second & ~first).sum())) <= 0.05)
    return tally


def simulated(studies: int, only: str | None = None, seed: int = 0) -> Iterator[str]:
    """Three tables, in Markdown."""
    random = np.random.default_rng(seed)
    draws = {name: draw for name, draw in DRAWS.items() if only in (None, name)}
    columns = ["false verdicts", "shown", "t", "Welch", "bootstrap", "sign flip"]
    yield from _header(
        [
            "outcomes",
            "seeds",
            "false verdicts",
            "interval shown",
            "paired t",
            "Welch",
            "bootstrap-t",
            "flip p ≤ 5%",
        ]
    )
    for name, draw in draws.items():
        for n in SEEDS:
            tally = differences(draw, n, studies, random)
            yield _row([name, n, *map(tally.text, columns)])
    yield ""
    yield from _header(["outcomes", "seeds", "any of 3 false, with Holm", "without Holm"])
    for name, draw in draws.items():
        for n in SEEDS:
            tally = families(draw, n, studies, random)
            yield _row([name, n, tally.text("with Holm"), tally.text("without")])
    if only:
        return
    yield ""
    yield from _header(
        ["reach the target", "seeds", "restricted mean difference", "speed-up", "Wilson", "McNemar p ≤ 5%"]
    )
    for reach in (1.0, 0.8, 0.5):
        for n in SEEDS:
            tally = speeds(n, studies, random, reach)
            names = ("restricted mean", "speed-up", "Wilson", "McNemar")
            yield _row([f"{reach:.0%}", n, *map(tally.text, names)])


def _header(columns: list[str]) -> Iterator[str]:
    yield _row(columns)
    yield _row(["---"] + ["---:"] * (len(columns) - 1))


def _row(cells: list[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


STUDY = """
dataset: digits
model: {name: mlp, hidden: [16]}
norm: batch
optimizer: {name: sgd, lr: 0.05}
batch_size: 64
epochs: 1
"""


def real(studies: int, n: int) -> Iterator[str]:
    """One variant under two names with seeds of its own on each side: `studies` real studies of n seeds."""
    from bnbench.config import load_study
    from bnbench.engine.device import pick_device
    from bnbench.engine.execute import Library, execute
    from bnbench.plan import RunEnded, make_plan
    from bnbench.plugins import known_names

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "real.yaml"
        path.write_text(textwrap.dedent(STUDY))
        study = load_study(path, [f"seeds={2 * n * studies}"], known_names().vocabulary)
        device = pick_device("cpu")
        runs = make_plan(study, lambda settings: {})
        events = execute(runs, Library(Path(folder), device), device, debug=True)
        records = [event.record for event in events if isinstance(event, RunEnded)]
    names = ("test_accuracy", "test_loss")
    yield from _header(["metric", "studies", "false verdicts", "verdicts", "mean difference"])
    for metric in names:
        found = list(_halves(records, metric, n))
        verdicts = Counter(comparison.verdict for comparison in found)
        false = sum(verdicts[word] for word in ("better", "worse"))
        mean = statistics.fmean(comparison.difference or 0 for comparison in found)
        said = ", ".join(f"{count} {word}" for word, count in verdicts.items())
        yield _row([metric, len(found), f"{100 * false / len(found):.1f}", said, f"{mean:+.4f}"])


def _halves(records: list[RunRecord], metric: str, n: int):  # type: ignore[no-untyped-def]
    """Consecutive runs of 2n disjoint seeds: n for one name, n for the other, paired by place."""
    for start in range(0, len(records), 2 * n):
        values = [record.final[metric] for record in records[start : start + 2 * n]]
        sides = (np.array(values[:n]), np.array(values[n:]))
        ours, theirs = (cell(name, side, metric) for name, side in zip("ab", sides, strict=True))
        yield compare(ours, theirs, metric, "final")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="50 studies a row")
    parser.add_argument("--studies", type=int, default=2000, help="studies a row (default: %(default)s)")
    parser.add_argument("--only", choices=DRAWS, help="these outcomes alone")
    parser.add_argument("--real", type=int, metavar="N", help="N real studies instead")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of a real study (default: %(default)s)")
    options = parser.parse_args()
    studies = 50 if options.quick else options.studies
    lines = real(options.real, options.seeds) if options.real else simulated(studies, options.only)
    for line in lines:
        print(line, flush=True)
    print(f"\nStudies a row: {options.real or studies}; numbers in %. {' '.join(sys.argv)}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "torch"))
    print(f"Python {platform.python_version()}, {versions}, {platform.machine()}")


if __name__ == "__main__":
    main()
