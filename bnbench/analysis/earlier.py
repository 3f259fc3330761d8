"""Cautions about results that a folder showed before its study changed: a verdict at 5 % assumes a single look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bnbench.results import StudyResults
from bnbench.results.contents import EarlierLook

_FIX = "`seeds: auto` plans its looks before the first run; a new study with new seeds is a test of its own."
#: So many are named, and the rest are counted.
_MOST_NAMES = 3


def look_cautions(results: StudyResults) -> Iterator[str]:
    """One caution for each result that the folder showed under another design."""
    planned = max((len(cell.seeds) for cell in results.cells), default=0)
    for look in results.earlier:
        yield f"{_change(look, results, planned)} {_FIX}"


def _family_change(look: EarlierLook, results: StudyResults) -> str:
    """For example "rms joined the comparisons", "custom left the comparisons", or "" where no change matters.

    A fixed number of seeds may be asked about one more: Holm's correction counts it. Looks have spent their 5 %.
    """
    now = {
        cell.label
        for cell in results.cells
        if cell.variant != results.baseline and cell.variant not in results.checks
    }
    came, left = sorted(now - set(look.family)), sorted(set(look.family) - now)
    if left:
        return f"{_listed(left)} left the comparisons"
    return f"{_listed(came)} joined the comparisons" if came and look.looks else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _change(look: EarlierLook, results: StudyResults, planned: int) -> str:
    seen = f"a look at {look.seeds}"
    if look.primary != results.primary:
        return f"{results.primary} is judged after a look at {look.primary} ({look.seeds} seeds): not a 5 % test."
    margin = results.margin.value if results.margin else None
    if look.looks != results.looks and (look.looks or results.looks):
        planned_as = f"seeds: auto, up to {look.looks[-1]}" if look.looks else "a fixed number"
        return f"the present looks were planned after {seen} seeds ({planned_as}): not a 5 % test."
    if planned > look.seeds and not look.looks:
        return (
            f"{planned - look.seeds} more seeds after {seen}: not a 5 % test (who adds seeds until a difference is "
            "decided finds a false one in 8 to 16 % of studies)."
        )
    if planned < look.seeds and not look.looks:
        return f"{planned} seeds after {seen}: not a 5 % test."
    if margin != look.margin:
        return f"the margin was changed after {seen} seeds: not a 5 % test."
    if look.baseline not in ("", results.baseline):
        return (
            f"{results.baseline} is the baseline after {seen} seeds against {look.baseline}: not a 5 % test."
        )
    if look.family and (changed := _family_change(look, results)):
        return f"{changed} after {seen} seeds: not a 5 % test."
    return f"other seeds after {seen}: not a 5 % test."
