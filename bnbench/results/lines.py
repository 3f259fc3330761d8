"""Lines for further ways of inference: `batch@precise` beside `batch`, the same runs measured in another way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bnbench.results.contents import Cell, StudyResults
from bnbench.study.evaluation import is_line, line_name
from bnbench.study.records import RunRecord


def with_lines(results: StudyResults) -> StudyResults:
    """The results with a cell for every variant and every further way of inference that its runs hold.

    A line has the runs, seeds, settings and outcomes of its variant, and its own final and best numbers. It has no
    history and no training time: nothing was trained for it. A variant with `role: check` has none: it is judged by
    its training. Results that have their lines already stay as they are.
    """
    if any(is_line(cell.variant) for cell in results.cells):
        return results
    cells = tuple(
        one
        for cell in results.cells
        for one in (cell, *(() if cell.variant in results.checks else _lines(cell)))
    )
    return results if len(cells) == len(results.cells) else replace(results, cells=cells)


def _ways(cell: Cell) -> list[str]:
    return list(dict.fromkeys(way for run in cell.records for way in run.inference))


def _lines(cell: Cell) -> Iterator[Cell]:
    for way in _ways(cell):
        name = line_name(cell.variant, way)
        records = (_as_line(run, name, way) for run in cell.records if way in run.inference or not run.final)
        yield replace(cell, variant=name, records=tuple(records))


def _as_line(run: RunRecord, name: str, way: str) -> RunRecord:
    """A crashed run has no numbers in any way of inference."""
    return replace(
        run,
        variant=name,
        final=run.inference.get(way, {}),
        best=run.inference_best.get(way, {}),
        history=(),
        step_losses=(),
        train_seconds=0.0,
        notes=(),
        inference={},
        inference_best={},
        inside={},
        probe_seconds=0.0,
    )
