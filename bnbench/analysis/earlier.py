"""What a folder has shown before its study was changed: a verdict at 5 % knows of no look before it."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.results import StudyResults
from bnbench.results.contents import EarlierLook

_FIX = "`seeds: auto` plans its looks before the first run; a new study with new seeds is a test of its own."


def look_cautions(results: StudyResults) -> Iterator[str]:
    """One a result that was shown under another design."""
    planned = max((len(cell.seeds) for cell in results.cells), default=0)
    for look in results.earlier:
        yield f"{_change(look, results, planned)} {_FIX}"


def _change(look: EarlierLook, results: StudyResults, planned: int) -> str:
    seen = f"a look at {look.seeds}"
    if look.primary != results.primary:
        return f"{results.primary} is judged after a look at {look.primary} ({look.seeds} seeds): not a 5 % test."
    margin = results.margin.value if results.margin else None
    if look.looks != results.looks and (look.looks or results.looks):
        planned_as = f"seeds: auto, up to {look.looks[-1]}" if look.looks else "a fixed number"
        return f"the looks were planned anew after {seen} seeds ({planned_as}): not a 5 % test."
    if planned > look.seeds:
        return (
            f"{planned - look.seeds} more seeds after {seen}: not a 5 % test (who adds seeds until a difference is "
            "decided finds a false one in 8 to 16 % of studies)."
        )
    if planned < look.seeds:
        return f"{planned} seeds after {seen}: not a 5 % test."
    if margin != look.margin:
        return f"the margin was changed after {seen} seeds: not a 5 % test."
    return f"other seeds after {seen}: not a 5 % test."
