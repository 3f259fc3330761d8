"""How often is a claim confirmed that is not true, and how often is a true one? Through the code that judges `expect`.

    python tests/benchmarks/false_confirmations.py              minutes on one core
    python tests/benchmarks/false_confirmations.py --quick

Both variants are drawn from one distribution, or one is shifted by two standard deviations of the paired difference.
The rows are printed as a table in Markdown, in % of studies.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bnbench.analysis.expressions import measure
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.expressions import parse_expression
from bnbench.study.records import HistoryRow, Outcome, RunRecord

SAMPLES = 400
Draw = Callable[[np.random.Generator, int, float], StudyResults]


def study(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> StudyResults:
    """Two variants."""
    cells = [
        Cell(name, {}, "c", tuple(r.seed for r in runs), tuple(runs)) for name, runs in (("a", a), ("b", b))
    ]
    return StudyResults("demo", "b", (Target("val_loss", 0.5),), tuple(cells))


def run(name: str, seed: int, loss: float, accuracy: float = 0.9, outcome: Outcome = "finished") -> RunRecord:
    """One run of 400 test samples."""
    final = {"test_loss": loss, "test_accuracy": accuracy}
    return RunRecord(name, {}, seed, "c", name, outcome, final=final, num_samples={"test": SAMPLES})


def losses(generator: np.random.Generator, n: int, shift: float) -> StudyResults:
    """Normal, the pairs share half of their variance."""
    luck = generator.normal(size=n)
    own = generator.normal(size=(2, n))
    a, b = (5 + (luck + side) / math.sqrt(2) for side in own)
    return study(
        *([run(k, s, v) for s, v in enumerate(values)] for k, values in (("a", a - shift), ("b", b)))
    )


def ratios(generator: np.random.Generator, n: int, shift: float) -> StudyResults:
    """Lognormal, so that the logarithm of the ratio is normal."""
    a, b = generator.normal(size=(2, n)) / math.sqrt(2)
    return study(
        *(
            [run(k, s, math.exp(v)) for s, v in enumerate(values)]
            for k, values in (("a", a - shift), ("b", b))
        )
    )


def accuracies(generator: np.random.Generator, n: int, shift: float) -> StudyResults:
    """Counts of 400 samples at 97 %, few of them different."""
    chance = 0.03 - shift * math.sqrt(2 * 0.97 * 0.03 / SAMPLES)
    a, b = (1 - generator.binomial(SAMPLES, p, n) / SAMPLES for p in (max(chance, 0.0), 0.03))
    return study(*([run(k, s, 1.0, v) for s, v in enumerate(values)] for k, values in (("a", a), ("b", b))))


def times(generator: np.random.Generator, n: int, shift: float) -> StudyResults:
    """Steps to a target on a grid of 10, censored at 100; about a third never arrives."""

    def timed(name: str, seed: int, time: float) -> RunRecord:
        at = math.ceil(time / 10) * 10
        rows = [HistoryRow(s, s, s, None, {"val_loss": 0.4 if s >= at else 1.0}) for s in range(0, 101, 10)]
        return RunRecord(
            name, {}, seed, "c", name, "finished", history=tuple(rows), steps=100, planned_steps=100
        )

    a, b = 80 * np.exp(generator.normal(size=(2, n)) * 0.5)
    a = a * math.exp(-shift * 0.5 * math.sqrt(2))
    return study(*([timed(k, s, v) for s, v in enumerate(values)] for k, values in (("a", a), ("b", b))))


def shares(generator: np.random.Generator, n: int, shift: float) -> StudyResults:
    """Half of the seeds train, or with a shift nine in ten and one in ten."""
    chances = (0.9, 0.1) if shift else (0.5, 0.5)
    sides = [generator.random(n) < chance for chance in chances]
    return study(
        *(
            [
                run(k, s, 1.0, outcome="finished" if trained else "stuck_at_chance")
                for s, trained in enumerate(side)
            ]
            for k, side in zip("ab", sides, strict=True)
        )
    )


CLAIMS: dict[str, tuple[Draw, str]] = {
    "a.test_loss - b.test_loss < 0": (losses, "normal losses"),
    "a.test_loss / b.test_loss < 1": (ratios, "lognormal losses"),
    "a.test_accuracy - b.test_accuracy > 0": (accuracies, "accuracies of 400 samples at 97 %"),
    "b.steps_to_target / a.steps_to_target > 1": (times, "times, a third censored"),
    "a.trained - b.trained > 0": (shares, "seeds that train"),
}


def verdicts(text: str, draw: Draw, n: int, shift: float, studies: int) -> Counter[str]:
    """How often each verdict was reached."""
    generator, expression = np.random.default_rng([n, round(10 * shift)]), parse_expression(text)
    return Counter(measure(draw(generator, n, shift), expression).verdict for _ in range(studies))


def table(studies: int, seeds: Sequence[int] = (3, 5, 10, 20)) -> Iterator[str]:
    """A row for each claim: falsely confirmed without a difference, confirmed with one of two standard deviations."""
    yield "| claim | numbers | " + " | ".join(f"{n} seeds" for n in seeds) + " |"
    yield "| --- | --- |" + " ---: |" * len(seeds)
    for text, (draw, words) in CLAIMS.items():
        cells = []
        for n in seeds:
            false, true = (verdicts(text, draw, n, shift, studies)["confirmed"] for shift in (0.0, 2.0))
            cells.append(f"{100 * false / studies:.1f} ({100 * true / studies:.0f})")
        yield f"| `{text}` | {words} | {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--studies", type=int, default=2_000)
    given = parser.parse_args()
    for line in table(100 if given.quick else given.studies):
        print(line)
