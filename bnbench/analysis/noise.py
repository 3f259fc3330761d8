"""Two floors under every accuracy: the scatter over seeds, and the finite number of samples it is measured on.

So of any further metric that is a mean over test samples, such as the bits per character of a text's windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bnbench.analysis.pairs import Spread, number
from bnbench.base.metrics import CLASSIFICATION, RECALL, parted
from bnbench.results import Cell, StudyResults
from bnbench.study.labels import Labelled
from bnbench.study.records import RunRecord

#: The splits whose floors are reported.
SPLITS = ("test", "val")

#: None of them is a mean over samples, but for the loss and the accuracy.
_OF_CLASSES = frozenset(metric.name for metric in CLASSIFICATION)


@dataclass(frozen=True)
class NoiseFloor(Labelled):
    """The noise of an accuracy, or of another mean over samples, at the end of a variant's runs.

    seed_std: standard deviation (n-1) over seeds; more seeds make the mean better known.
    sampling_error: binomial standard error √(p(1-p)/num_samples) of a share measured on so many
    samples; of another mean, the standard error s/√num_samples over samples, in the mean of the seeds. All seeds share
    the samples, so more seeds do not make it smaller. None where the folder does not say how many there were.
    """

    metric: str
    mean: float | None
    seed_std: float | None
    n: int
    num_samples: int | None
    sampling_error: float | None


def noise_floors(cells: Iterable[Cell]) -> Iterator[NoiseFloor]:
    """The floors of every cell, on the test and the validation samples."""
    for cell in cells:
        runs = [run for run in cell.records if run.outcome != "crashed"]
        for split in SPLITS:
            yield _floor(cell, f"{split}_accuracy", runs, _num_samples(runs, split))


def floors_of_means(results: StudyResults) -> Iterator[NoiseFloor]:
    """The floors of the metrics that are means over test samples, but for the loss, of every cell."""
    for cell in results.cells:
        errors: dict[str, list[tuple[float, int]]] = {}
        runs = [run for run in cell.records if run.outcome != "crashed"]
        for run in filter(_has_further_means, runs):
            try:
                samples = results.samples(cell, run)
            except (ValueError, OSError):  # `NewSamples` says which can't be read
                continue
            for name, values in (samples.further if samples else {}).items():
                if len(values) > 1:
                    error = float(values.std(ddof=1, dtype="float64")) / math.sqrt(len(values))
                    errors.setdefault(f"test_{name}", []).append((error, len(values)))
        for metric, found in errors.items():
            sampling = sum(error for error, _ in found) / len(found)
            yield replace(_floor(cell, metric, runs, found[0][1]), sampling_error=sampling)


def _has_further_means(run: RunRecord) -> bool:
    """Whether its answers can hold more than right or wrong and the loss: most need not be read then."""
    names = [name for part, name in map(parted, run.final) if part == "test"]
    return any(not name.startswith(f"{RECALL}:") and name not in _OF_CLASSES for name in names)


def _floor(cell: Cell, metric: str, runs: list[RunRecord], num_samples: int | None) -> NoiseFloor:
    spread = Spread.of(number(run, metric, "final") for run in runs)
    return NoiseFloor(
        variant=cell.variant,
        setting=cell.setting,
        metric=metric,
        mean=spread.mean,
        seed_std=spread.std,
        n=spread.n,
        num_samples=num_samples,
        sampling_error=binomial_error(spread.mean, num_samples),
    )


def binomial_error(share: float | None, n: int | None) -> float | None:
    """√(p(1-p)/n); None where the share or n is not known.

    All right or all wrong is not certain: such a share counts as half a sample away from it.
    """
    if share is None or not n:
        return None
    p = min(max(share, 0.5 / n), 1 - 0.5 / n)
    return math.sqrt(p * (1 - p) / n)


def _num_samples(runs: Iterable[RunRecord], split: str) -> int | None:
    """None where the runs do not say, or do not agree."""
    known = {run.num_samples[split] for run in runs if split in run.num_samples}
    return known.pop() if len(known) == 1 else None
