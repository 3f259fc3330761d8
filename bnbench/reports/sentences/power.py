"""The smallest detectable effect of an undecided study, and the number of seeds that would decide it."""

from __future__ import annotations

import itertools

from bnbench.analysis.difference import Difference
from bnbench.analysis.methods.intervals import ALPHA, scatter
from bnbench.analysis.methods.power import seeds_needed
from bnbench.analysis.sweeps import MIN_PARTED, part_seeds
from bnbench.reports.numbers import largest_difference
from bnbench.reports.sentences.effect import brief, change_text, points


def power_sentence(difference: Difference, command: str = "", *, parted: bool = False) -> str:
    """The smallest detectable effect with these seeds, and a plan for a difference of the measured size.

    command: what was run, to be pasted with more seeds. parted: whether further seeds choose the settings of a sweep.

    >>> power_sentence(difference, "bnbench compare my_study.yaml")
    " With 5 seeds only differences of about 3.2 points or more are found reliably (80% power); for a true difference
    of +1.4 points plan about 13 seeds: `bnbench compare my_study.yaml seeds=13`."
    """
    n = difference.n
    if not difference.detectable:
        return ""
    if difference.detectable > largest_difference(difference):
        reach = f" With {n} seeds of this scatter no difference is found reliably (80% power)"
    else:
        size = points(brief(difference, difference.detectable, "-"), difference)
        reach = f" With {n} seeds only differences of about {size} or more are found reliably (80% power)"
    return f"{reach}{_plan(difference, command, parted)}."


def _plan(difference: Difference, command: str, parted: bool) -> str:
    seeds = _seeds_for(difference)
    if seeds is None:
        return ""
    if parted:
        seeds = next(
            n for n in itertools.count(max(seeds, MIN_PARTED)) if len(part_seeds(range(n))[1]) >= seeds
        )
    option = f": `{command} seeds={seeds}`" if command else f" (`seeds={seeds}`)"
    return f"; for a true difference of {change_text(difference)} plan about {seeds:,} seeds{option}"


def _seeds_for(difference: Difference) -> int | None:
    """None where the measured difference is zero, or so small that no plan reaches it."""
    values = [value for _, value in difference.values]
    if not difference.difference or not any(change in change_text(difference) for change in "123456789"):
        return None
    seeds = seeds_needed(
        difference.difference, scatter(values, difference.grain or 0.0), ALPHA / difference.family
    )
    return seeds if seeds is not None and seeds > difference.n else None
