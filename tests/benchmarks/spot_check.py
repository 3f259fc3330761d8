"""The package beside `many_studies.py`, study by study: the same verdicts, or no table is printed."""

from __future__ import annotations

import numpy as np
from interval_tables import METRIC, cell
from many_studies import OUTCOMES, Array, Outcomes, holm, look_by_look, p_values
from verdict_tables import LOOKS

from bnbench.analysis.family import corrected
from bnbench.analysis.methods.resampling import MIN_BOOTSTRAP
from bnbench.analysis.paired import compare
from bnbench.analysis.stops import follow
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin

_CODES = {"better": 1, "worse": -1, "same": 2, "undecided": 0}


def spot_check(random: np.random.Generator, studies: int) -> str:
    """Raises SystemExit where one of them is judged otherwise."""
    checked = agreed = 0
    for outcomes in OUTCOMES.values():
        for n, variants in ((3, 5), (10, 3), (20, 1)):
            for runs in outcomes.draw(random, (studies, variants + 1, n)):
                expected = holm(p_values(runs[None, 1:] - runs[None, :1], outcomes.grain))[0]
                ties = 1e-3 if n >= MIN_BOOTSTRAP else 1e-9  # resamples that are equal but for rounding
                agreed += np.allclose(_package(runs, outcomes), expected, rtol=1e-6, atol=ties)
                checked += 1
        for runs in outcomes.draw(random, (studies, 4, LOOKS[-1])):
            agreed += _same_looks(runs, outcomes, margin=outcomes.sd)
            checked += 1
    if agreed < checked:
        raise SystemExit(
            f"many_studies.py and the package judge {checked - agreed} of {checked} studies differently"
        )
    return f"Judged alike by the package and by many_studies.py: all {checked} studies of a sample."


def _cells(runs: Array, outcomes: Outcomes) -> list[Cell]:
    samples = round(1 / outcomes.grain) if outcomes.grain else None
    return [cell(f"v{index}", values, METRIC, samples) for index, values in enumerate(runs)]


def _package(runs: Array, outcomes: Outcomes) -> list[float]:
    """Holm's p of every comparison with the first variant."""
    baseline, *others = _cells(runs, outcomes)
    found = corrected(compare(other, baseline, METRIC, "final") for other in others)
    return [1.0 if c.p_holm is None else c.p_holm for c in found]


def _same_looks(runs: Array, outcomes: Outcomes, margin: float) -> bool:
    cells = tuple(_cells(runs, outcomes))
    wanted = Margin(METRIC, margin)
    course = follow(StudyResults("s", "v0", (), cells, primary=METRIC, margin=wanted, looks=LOOKS))
    expected = look_by_look(runs[None, 1:] - runs[None, :1], LOOKS, outcomes.grain, margin)
    verdicts = [_CODES[str(found.verdict)] for found in course.judged.values()]
    seeds = [stop.seeds for stop in course.stops[1:]]
    return verdicts == list(expected.decided[0]) and seeds == list(expected.seeds[0])
