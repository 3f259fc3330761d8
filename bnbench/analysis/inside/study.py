"""What the probes of a study's runs say, over seeds; nothing where none was probed."""

from __future__ import annotations

from bnbench.analysis.inside.contents import Inside
from bnbench.analysis.inside.indices import index_contrasts, index_spreads
from bnbench.analysis.inside.layers import BETA, GAMMA, CellRows, unit_over_steps
from bnbench.results import Cell, StudyResults


def inside_of(results: StudyResults) -> tuple[Inside, list[str]]:
    """Everything about the inside, and which rows could not be read.

    The comparisons are with the baseline at the same setting; a variant with `role: check` is not compared.
    """
    warnings: list[str] = []
    rows = [_read(cell, results, warnings) for cell in results.cells]
    probed = any(cell_rows.depths or cell_rows.scalars for cell_rows in rows)
    indexed = any(run.inside for cell in results.cells for run in cell.records)
    if not probed and not indexed:
        return Inside(), warnings
    baseline = next((cell_rows for cell_rows in rows if cell_rows.cell.variant == results.baseline), None)
    looks = results.looks
    return Inside(
        asked=True,
        spreads=index_spreads(results.cells, looks),
        contrasts=index_contrasts(results.cells, results.baseline, results.checks, looks),
        numbers=tuple(number for cell_rows in rows for number in cell_rows.numbers()),
        histograms=tuple(histogram for cell_rows in rows for histogram in cell_rows.histograms()),
        unit=unit_over_steps(baseline, rows),
        losses=tuple(band for cell_rows in rows for band in cell_rows.losses()),
        gammas=tuple(band for cell_rows in rows for band in cell_rows.parameter_bands(GAMMA)),
        betas=tuple(band for cell_rows in rows for band in cell_rows.parameter_bands(BETA)),
    ), warnings


def _read(cell: Cell, results: StudyResults, warnings: list[str]) -> CellRows:
    rows = CellRows(cell)
    for run in cell.records:
        if run.outcome == "crashed":
            continue
        try:
            rows.add(run.seed, results.probes(cell, run) or ())
        except (ValueError, OSError) as error:
            warnings.append(f"{cell.label}, seed {run.seed}: its probes can't be read: {error}.")
    return rows
