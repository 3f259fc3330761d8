"""States of runs on disk: whole or not there, the last two, and none of a run that is done.

Oracle: what was handed in, byte for byte.
"""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnbench.base.errors import ResultsError
from bnbench.results import ResultsFolder
from bnbench.results.states import FolderStates
from bnbench.study import Study, load_study
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.records import RunRecord
from tests.tiny_study import TINY


@pytest.fixture
def study(vocabulary: Any) -> Study:
    return load_study(TINY, [], vocabulary)


@pytest.fixture
def runs(study: Study) -> list[RunSpec]:
    return make_plan(study, lambda settings: None)


@pytest.fixture
def states(tmp_path: Path) -> FolderStates:
    return FolderStates.of(tmp_path / "results")


def files(states: FolderStates) -> list[Path]:
    return sorted(path for path in (states.results / ".states").rglob("*") if path.is_file())


def test_the_last_two_are_kept_whole(states: FolderStates, runs: list[RunSpec]) -> None:
    for step in (10, 20, 100):
        states.keep(runs[0], step, b"%d" % step * 1000)
        states.keep(runs[1], step, b"of another run")
    assert states.steps(runs[0]) == (100, 20)
    assert states.read(runs[0], 100) == b"100" * 1000
    assert states.read(runs[0], 20) == b"20" * 1000
    assert states.read(runs[1], 20) == b"of another run"
    with pytest.raises(ResultsError, match="no whole state of step 10"):
        states.read(runs[0], 10)
    assert len(files(states)) == 4
    assert states.steps(runs[2]) == ()


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "empty", "a folder", "a pipe", "copied from another run"]
)
def test_a_damaged_state_is_skipped_and_the_one_before_is_used(
    damage: str, states: FolderStates, runs: list[RunSpec]
) -> None:
    """Then the run goes on from the earlier one; its next state takes the damaged one's place."""
    for step in (10, 20):
        states.keep(runs[0], step, b"state of %d" % step)
    (path,) = [path for path in files(states) if path.name.startswith("step-20.")]
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a pipe":
        os.mkfifo(path)
    elif damage == "copied from another run":
        states.keep(runs[1], 20, content)
        (other,) = [other for other in files(states) if "step-20" in other.name]
        os.link(other, path.with_name(other.name))
    else:
        flipped = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes({"cut": content[:-1], "flipped": flipped, "empty": b""}[damage])
    assert states.steps(runs[0]) == (10,)
    with pytest.raises(ResultsError):
        states.read(runs[0], 20)
    states.keep(runs[0], 15, b"state of 15")
    assert states.steps(runs[0]) == (15, 10)
    left = [
        path.name.partition(".")[0] for path in files(states) if path.parent.parent.name.startswith("none")
    ]
    assert left == ["step-10", "step-15"]


def test_the_same_step_twice_is_one_state(states: FolderStates, runs: list[RunSpec]) -> None:
    """A run that went on from an earlier step comes by again, with other seconds in its state."""
    states.keep(runs[0], 10, b"a")
    states.keep(runs[0], 20, b"b")
    states.keep(runs[0], 20, b"c")
    assert states.steps(runs[0]) == (20, 10)
    assert states.read(runs[0], 20) == b"c"


def full(*words: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(*words: Any) -> int:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("fault", "fix"), [(full, "free some space there"), (broken, "see whether that folder may be written to")]
)
def test_a_disk_that_fails_leaves_the_state_of_before(
    fault: Callable[..., int],
    fix: str,
    states: FolderStates,
    runs: list[RunSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states.keep(runs[0], 10, b"a")
    monkeypatch.setattr(os, "fsync", fault)
    with pytest.raises(ResultsError) as raised:
        states.keep(runs[0], 20, b"b")
    monkeypatch.undo()
    assert raised.value.what.startswith(f"{states.results}/.states: no state was saved: ")
    assert raised.value.fix.startswith(fix)
    assert states.steps(runs[0]) == (10,)
    assert len(files(states)) == 1


def test_what_a_kill_left_half_written_goes_with_the_next_state(
    states: FolderStates, runs: list[RunSpec]
) -> None:
    states.keep(runs[0], 10, b"a")
    (path,) = files(states)
    path.with_name(f".{path.name}.0123abcd.writing").write_bytes(b"half")
    assert states.steps(runs[0]) == (10,)
    states.keep(runs[0], 20, b"b")
    assert [file.name.partition(".")[0] for file in files(states)] == ["step-10", "step-20"]


def test_it_travels_to_a_worker_with_another_working_directory(
    tmp_path: Path, runs: list[RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    states = FolderStates.of(Path("results"))
    sent = pickle.dumps(states)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pickle.loads(sent).keep(runs[0], 3, b"x")
    assert states.read(runs[0], 3) == b"x"
    assert (tmp_path / "results/.states").is_dir()


def test_dropping_leaves_the_states_of_the_other_runs_and_no_empty_folder(
    states: FolderStates, runs: list[RunSpec]
) -> None:
    for run in runs:
        states.keep(run, 10, b"a")
    states.drop(runs[0])
    states.drop(runs[0])
    assert [states.steps(run) for run in runs] == [(), *[(10,)] * (len(runs) - 1)]
    states.drop_others(runs[1:3])
    assert [states.steps(run) for run in runs] == [(), (10,), (10,), *[()] * (len(runs) - 3)]
    folder = states._folder(runs[0])
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in the place of the folder")
    states.drop_others([])
    assert list(states.results.iterdir()) == []


def test_a_run_on_disk_has_no_state_and_one_that_crashed_keeps_it(
    tmp_path: Path, states: FolderStates, study: Study, runs: list[RunSpec]
) -> None:
    """What crashed is tried again from there; and the folder is one of bnbench, with a state in it and no plan."""
    folder = ResultsFolder(tmp_path / "results")
    for run in runs[:2]:
        states.keep(run, 10, b"a")
    folder.check_for(study, runs)
    for run, outcome in zip(runs[:2], ("finished", "crashed"), strict=True):
        record = RunRecord(run.variant, run.setting, run.seed, run.cell, "none", outcome)  # type: ignore[arg-type]
        folder.save(run, record, None)
    assert [states.steps(run) for run in runs[:2]] == [(), (10,)]
