"""Which of the planned runs are finished already: in the study's own folder, or in one beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bnbench.analysis.circumstances import differences
from bnbench.analysis.resumed import was_moved
from bnbench.results import ResultsFolder
from bnbench.results.beside import Beside, FinishedRun
from bnbench.results.unchanged import all_finished, state_of
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord


def sort_runs(
    runs: Sequence[RunSpec],
    folder: ResultsFolder,
    again: str,
    today: Callable[[RunSpec], Mapping[str, Any]],
    *,
    beside: bool,
    scanned: str = "",
) -> tuple[tuple[RunSpec, ...], tuple[FinishedRun, ...]]:
    """The runs that are to be trained, and finished ones to be taken from folders beside this one.

    again: which finished runs do not count ("none", "changed", "all"). today: the circumstances of a run that
    would be trained now. beside: whether other folders count at all. scanned: the fingerprint of the folder's
    runs; where all were found to be finished in that state, none is read.
    """
    if again == "none" and all_finished(folder.path, state_of(folder.path, scanned)):
        planned = folder.planned()
        if all((run.variant, run.cell, run.seed) in planned for run in runs):
            return (), ()

    def current(run: RunSpec, record: RunRecord) -> bool:
        return not differences(record.environment, today(run)) and not was_moved(record)

    def counts(run: RunSpec, record: RunRecord) -> bool:
        return again == "none" or (again == "changed" and current(run, record))

    missing = [run for run in runs if (record := folder.finished(run)) is None or not counts(run, record)]
    copies: dict[tuple[str, int], FinishedRun] = {}
    if beside and again != "all":
        for finished in Beside(folder.path).find(missing, current):
            if counts(finished.run, finished.record):
                copies[finished.run.key] = finished
    return tuple(run for run in missing if run.key not in copies), tuple(copies.values())
