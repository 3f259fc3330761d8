"""The memory of a job: what a step keeps is counted by hand, and jobs that do not fit are not packed side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bnbench.base.machine import Memory
from bnbench.engine import schedule
from bnbench.engine.cell import Cell
from bnbench.engine.footprint import (
    STACK_PROCESS,
    Footprint,
    data_bytes,
    job_bytes,
    measured_footprint,
    together,
)
from bnbench.engine.library import Library, data_key
from bnbench.engine.rehearsal.rehearse import rehearse
from bnbench.engine.workers import room
from bnbench.engine.workers.room import Room, packed
from bnbench.study import Vocabulary, load_study
from bnbench.study.events import RunEnded, RunStarted
from bnbench.study.plan import RunSpec, make_plan
from tests.training import scheduled

CPU = torch.device("cpu")
MIB = 2**20
STUDY = """
dataset: digits
max_train_samples: 100
max_eval_samples: 60
model: {name: mlp, hidden: [16], bias: always}
optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
batch_size: 32
steps: 4
seeds: 4
variants: {none: {norm: none}, layer: {norm: layer}}
"""
Plan = Callable[..., list[RunSpec]]


@pytest.fixture
def plan(vocabulary: Vocabulary, tmp_path: Path) -> Plan:
    def make(*overrides: str) -> list[RunSpec]:
        (tmp_path / "s.yaml").write_text(STUDY)
        return make_plan(
            load_study(tmp_path / "s.yaml", list(overrides), vocabulary), lambda settings: "data"
        )

    return make


def cells_of(runs: list[RunSpec], tmp_path: Path) -> tuple[dict[str, Cell], dict[str, Any]]:
    library = Library(tmp_path, CPU)
    data = {data_key(run.settings): library.prepared(run.settings) for run in runs}
    return dict(rehearse(runs, library, CPU).cells), data


def test_what_a_step_keeps_is_counted_by_hand(plan: Plan, tmp_path: Path) -> None:
    """64 inputs, 16 values after the ReLU, 10 log-probabilities, in float32; a label of 8 bytes. Weights: 64 x 16 + 16
    + 16 x 10 + 10. SGD keeps its momentum.
    """
    runs = plan()
    cells, data = cells_of(runs, tmp_path)
    (one,) = data.values()
    found = measured_footprint(cells["none"], one.sizes, CPU)
    weights = 4 * (64 * 16 + 16 + 16 * 10 + 10)
    assert (found.weights, found.moments) == (weights, weights)
    exact = 4 * (64 + 16 + 10) + 8
    assert (
        exact <= found.kept <= exact + 8
    )  # one number for the whole batch, such as the sum of the loss's weights
    assert found.largest == 4 * 64
    adam = plan("optimizer={name: adam, lr: 0.1}")
    assert measured_footprint(cells_of(adam, tmp_path)[0]["none"], one.sizes, CPU).moments == 2 * weights


def test_a_stack_needs_its_replicas_and_a_double(plan: Plan, tmp_path: Path) -> None:
    cells, data = cells_of(plan(), tmp_path)
    (one,) = data.values()
    cell, part = cells["none"], Footprint(kept=1000, largest=100, weights=MIB, moments=MIB)
    alone = part.of_replicas(1, 32, 1000)
    four = job_bytes(cell, part, one.sizes) - STACK_PROCESS
    assert four - alone == 3 * (part.of_replicas(2, 32, 1000) - alone)
    single = cell.part(cell.runs[:1])
    assert job_bytes(single, part, one.sizes) == job_bytes(cell.part(cell.runs[:2]), part, one.sizes)
    sequential = replace(cell, choice=replace(cell.choice, engine="sequential"))
    assert job_bytes(sequential, part, one.sizes) < 540e6 + alone + 1


def test_a_network_that_raises_counts_by_its_weights(plan: Plan, tmp_path: Path, monkeypatch: Any) -> None:
    cells, data = cells_of(plan(), tmp_path)
    (one,) = data.values()

    def failing(*rest: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("bnbench.engine.footprint.build_model", failing)
    found = measured_footprint(cells["none"], one.sizes, CPU)
    assert found == Footprint(0, 0, 4 * cells["none"].num_parameters, 8 * cells["none"].num_parameters)


def test_data_that_two_parts_share_counts_once(plan: Plan, tmp_path: Path) -> None:
    (one,) = cells_of(plan(), tmp_path)[1].values()
    tensors = [value for value in vars(one).values() if isinstance(value, torch.Tensor)]
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors}
    assert data_bytes([one]) == data_bytes([one, one]) == sum(storages.values())


def test_a_room_takes_the_first_that_fits_beside_the_others(plan: Plan, tmp_path: Path) -> None:
    cells, _ = cells_of(plan(), tmp_path)
    large, small = cells["none"], cells["layer"]
    needs = {large.runs[0].key: 1000 * MIB, small.runs[0].key: 400 * MIB}
    tight = Room(together([400 * MIB, 400 * MIB]), needs)
    waiting = [large, small]
    assert tight.take(waiting, [400 * MIB]) is small
    assert tight.take(waiting, [400 * MIB]) is None, "the large one waits until it is alone"
    assert tight.take(waiting, [], own=400 * MIB) is large
    assert Room(None, needs).take([large], [10**12]) is large


def test_fewer_at_a_time_then_smaller_stacks_and_the_users_number(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 MiB a run on made-up processes: 4 of one stack need 370 MiB beside what all share."""
    cells, data = cells_of(plan(), tmp_path)
    jobs = list(cells.values())
    monkeypatch.setattr(
        room.Estimates, "job", lambda self, job, sizes: STACK_PROCESS + len(job.runs) * 100 * MIB
    )
    whole = together([STACK_PROCESS + 400 * MIB] * 2)

    def with_free(wanted: float, given: bool = False) -> room.Packed:
        free = int((wanted + data_bytes(data.values())) / room.USABLE) + 1
        monkeypatch.setattr(room, "memory", lambda: Memory(2**34, free))
        return packed(jobs, data, 2, given, CPU)

    found = with_free(whole)
    assert (found.jobs, found.remark) == (jobs, "")
    assert found.room.take(list(jobs), [STACK_PROCESS + 400 * MIB]) is not None
    found = with_free(STACK_PROCESS + 400 * MIB)
    assert [len(job.runs) for job in found.jobs] == [4, 4]
    assert found.room.take(list(found.jobs), [STACK_PROCESS + 400 * MIB]) is None
    assert "fewer train at a time" in found.remark
    found = with_free(STACK_PROCESS + 250 * MIB)
    assert [len(job.runs) for job in found.jobs] == [2, 2, 2, 2]
    assert [run.key for job in found.jobs for run in job.runs] == [
        run.key for job in jobs for run in job.runs
    ]
    found = with_free(STACK_PROCESS)
    assert [len(job.runs) for job in found.jobs] == [1] * 8
    assert "not to fit even alone" in found.remark
    found = with_free(STACK_PROCESS, given=True)
    assert found.jobs == jobs
    assert found.room.free is None
    assert found.remark.startswith("--jobs 2: the workers need about")


@pytest.mark.slow
def test_the_bits_do_not_depend_on_the_memory(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run at a time, in stacks of one, against two workers with whole stacks."""
    monkeypatch.setattr(schedule, "WORTH_WORKERS", 0.0)
    monkeypatch.setattr(schedule, "default_workers", lambda device: 2)
    runs = plan()

    def trained() -> tuple[dict[Any, Any], list[str]]:
        events = list(scheduled(runs, Library(tmp_path, CPU)))
        records = {event.run.key: event.record for event in events if isinstance(event, RunEnded)}
        notes = [text for event in events if isinstance(event, RunStarted) for text in event.notes]
        return {key: (record.step_losses, record.final) for key, record in records.items()}, notes

    usual, notes = trained()
    assert not any("fewer train at a time" in note for note in notes)
    monkeypatch.setattr(room, "memory", lambda: Memory(2**30, 2**20, True))
    tight, notes = trained()
    assert usual == tight
    assert len(usual) == 8
    assert sum("the container has 1.0 GiB, and 1 MiB of it are free: fewer" in note for note in notes) == 1
