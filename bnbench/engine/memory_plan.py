"""The memory that a study will need, by default: of each run, of each worker, of all that train at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from bnbench.data import Sizes
from bnbench.engine.cell import Cell
from bnbench.engine.footprint import together
from bnbench.engine.schedule import jobs_for_workers, replicas
from bnbench.engine.workers.room import Estimates
from bnbench.study.plan import CellEstimate


def with_memory(
    estimates: Sequence[CellEstimate],
    cells: Mapping[str, Cell],
    sizes: Mapping[str, Sizes],
    data: Mapping[str, int],
    device: torch.device,
) -> list[CellEstimate]:
    """The estimates with their memory. sizes: what the task tells each network. data: bytes of its data, by label."""
    known = Estimates(device)
    groups = [
        cells[group[0].label].part(tuple(group)) for cell in cells.values() for group in replicas(cell.runs)
    ]
    jobs, workers = jobs_for_workers(groups, device)
    needs = [(job.runs[0].label, known.job(job, sizes[job.runs[0].label])) for job in jobs]
    largest: dict[str, int] = {}
    for label, need in needs:
        largest[label] = max(need, largest.get(label, 0))
    shared = max((data[label] for label in largest), default=0)
    all_workers = (
        together(sorted((need for _, need in needs), reverse=True)[:workers]) + shared if jobs else 0
    )

    def alone(label: str) -> int:
        cell = cells[label]
        return known.job(cell.part(cell.runs[:1]), sizes[label])

    return [
        replace(
            one,
            memory_bytes=known.job(cells[one.label].part(cells[one.label].runs[:1]), sizes[one.label])
            + data[one.label],
            worker_bytes=largest[one.label] + data[one.label] if one.label in largest else 0,
            workers=workers,
            together_bytes=all_workers,
        )
        for one in estimates
    ]
