"""How a difference would come out on new test samples from the same source, and not only with new seeds.

Every run of a study answers the same test samples, so more seeds make a difference surer for these
samples alone. D_ij, the difference of the two variants on sample j with seed i, has a part of the
seed, a part of the sample, and the rest (crossed random effects):

    var(mean) = s2_seed / n + s2_sample / N
    s2_seed   = var_i(mean_j D)                             which holds a share of the rest, as it must
    s2_sample = var_j(mean_i D) - mean_j(var_i D) / n       at least 0

The interval is mean ± t · √var(mean), with Satterthwaite's degrees of freedom (1946). It is never
narrower than the one for new seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import ALPHA, t_quantile
from bnbench.analysis.methods.sequential import weight_of
from bnbench.results import Cell, StudyResults
from bnbench.study.evaluation import is_line
from bnbench.study.records import TestSamples


def values_of(samples: TestSamples, metric: str) -> Any:
    """The numbers of the test samples, (N,), whose mean is that metric; None where it is no such mean."""
    name = metric.removeprefix("test_")
    if name == metric:
        return None
    return {"accuracy": samples.right, "loss": samples.loss, **samples.further}.get(name)


class NewSamples:
    """Adds the interval for new samples to the comparisons of one study.

    warnings: which answers could not be read, and why; complete once all comparisons are seen.
    """

    def __init__(self, results: StudyResults) -> None:
        self._load, self._cells = results.samples, {cell.label: cell for cell in results.cells}
        self._looks = results.looks
        self._kept: dict[str, Mapping[int, Any]] = {}
        self.warnings: list[str] = []

    def added(self, comparisons: Iterable[Difference]) -> Iterator[Difference]:
        """The same comparisons, those of means over test samples after the last step with it where it is known."""
        for difference in comparisons:
            differences = self._differences(difference)
            if differences is None or difference.ci_low is None or difference.ci_high is None:
                yield difference
                continue
            alpha = ALPHA * weight_of(difference.n, self._looks)  # at a look of `seeds: auto`, its share
            low, high = new_samples_interval(differences, difference.grain or 0.0, alpha)
            yield replace(
                difference,
                new_low=min(low, difference.ci_low),
                new_high=max(high, difference.ci_high),
                num_samples=differences.shape[1],
            )

    def _differences(self, difference: Difference) -> Any:
        """(seeds, samples) float64; None where an answer is missing, or the samples are not the same."""
        if (
            difference.at != "final"
            or not difference.metric.startswith("test_")
            or difference.lost
            or difference.n < 2
            or is_line(difference.variant)  # of these only the numbers are kept
        ):
            return None
        seeds = [seed for seed, _ in difference.values]
        sides = [self._of(label) for label in (difference.label, difference.baseline_label)]
        lacking = [
            (label, seed)
            for label, side in zip((difference.label, difference.baseline_label), sides, strict=True)
            for seed in seeds
            if seed not in side
        ]
        if lacking:
            if any(sides):
                self._warn(*lacking[0], "are not there")
            return None
        runs = [side[seed] for side in sides for seed in seeds]
        values = [values_of(run, difference.metric) for run in runs]
        if len({(run.labels, len(run.loss)) for run in runs}) > 1 or any(each is None for each in values):
            return None
        import numpy as np

        first, second = np.stack(values[: len(seeds)]), np.stack(values[len(seeds) :])
        differences = first.astype(np.float64) - second
        return differences if differences.shape[1] > 1 and np.isfinite(differences).all() else None

    def _of(self, label: str) -> Mapping[int, Any]:
        """The answers of a cell's runs by seed; of the last cells that were asked for, so that few are in memory."""
        if label not in self._kept:
            cell = self._cells[label]
            while len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
            self._kept[label] = dict(self._read(cell))
        self._kept[label] = self._kept.pop(label)  # the latest last
        return self._kept[label]

    def _read(self, cell: Cell) -> Iterator[tuple[int, Any]]:
        for run in cell.records:
            try:
                samples = self._load(cell, run)
            except (ValueError, OSError) as error:
                self._warn(cell.label, run.seed, f"can't be read: {error}")
                continue
            if samples is not None:
                yield run.seed, samples

    def _warn(self, label: str, seed: int, reason: str) -> None:
        start = f"{label}, seed {seed}: no interval for new samples, as its answers on the test samples "
        if not any(warning.startswith(start) for warning in self.warnings):
            self.warnings.append(f"{start}{reason}.")


def new_samples_interval(differences: Any, grain: float = 0.0, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval at 1 - alpha of the mean of (seeds, samples) differences, for new seeds and samples. Both at least 2."""
    seeds, samples = differences.shape
    of_seeds = max(float(differences.mean(1).var(ddof=1)), grain**2 / 6) / seeds
    within = float(differences.var(0, ddof=1).mean()) / seeds
    of_samples = max(0.0, float(differences.mean(0).var(ddof=1)) - within) / samples
    mean, variance = float(differences.mean()), of_seeds + of_samples
    if not variance:
        return mean, mean
    shares = (of_seeds / variance, of_samples / variance)
    freedom = 1 / (shares[0] ** 2 / (seeds - 1) + shares[1] ** 2 / (samples - 1))
    half = t_quantile(freedom, 1 - alpha / 2) * math.sqrt(variance)
    return mean - half, mean + half
