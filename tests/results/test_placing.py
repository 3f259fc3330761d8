"""A run takes its place in one step: a kill at any instant, two writers and a reader beside them lose nothing."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from bnbench.base.errors import ResultsError
from bnbench.base.files import read_text, write_whole
from bnbench.results import placing
from bnbench.results.contents import Cell
from bnbench.results.placing import aside_of, leftovers, put, recover
from bnbench.results.run_reader import load_run
from bnbench.study.records import RunRecord

CELL = "0123456789ab"


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(text)
    return folder


def text_of(folder: Path) -> str:
    return (folder / "run.json").read_text()


@pytest.fixture(params=["exchanged", "in two steps"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a system that lets two names change places, and with one that doesn't."""
    if request.param == "in two steps":
        monkeypatch.setattr(placing, "_renameat2", lambda: None)
    return str(request.param)


def test_a_new_run_a_replaced_one_and_a_link_in_its_place(tmp_path: Path, system: str) -> None:
    target = tmp_path / "a" / "seed-0"
    target.parent.mkdir()
    for text in ("first", "second"):
        with aside_of(target) as aside:
            write(aside, text)
            put(aside, target)
        assert text_of(target) == text
    mine = write(tmp_path / "mine", "a file of someone else")
    target.rename(tmp_path / "gone")
    target.symlink_to(mine)
    with aside_of(target) as aside:
        write(aside, "third")
        put(aside, target)
    assert text_of(target) == "third"
    assert not target.is_symlink()
    assert text_of(mine) == "a file of someone else"
    assert [path.name for path in target.parent.iterdir()] == ["seed-0"]


def test_no_data_no_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renamed lies on the disk: every file and its folder are synced before, the parent after."""
    calls: list[str] = []
    rename, replace, fsync = os.rename, os.replace, os.fsync

    def named(number: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{number}")).name

    monkeypatch.setattr(os, "fsync", lambda number: calls.append(f"sync {named(number)}") or fsync(number))
    monkeypatch.setattr(os, "rename", lambda *names: calls.append("rename") or rename(*names))
    monkeypatch.setattr(os, "replace", lambda *names: calls.append("rename") or replace(*names))
    target = tmp_path / "seed-0"
    with aside_of(target) as aside:
        write(aside, "x")
        put(aside, target)
    assert [call.partition("-seed")[0] for call in calls] == [
        "sync .writing",
        "rename",
        f"sync {tmp_path.name}",
    ]
    calls.clear()
    write_whole(tmp_path / "plan.json", "{}")
    assert [call.split(".")[0] for call in calls] == ["sync ", "rename", f"sync {tmp_path.name}"]


#: For every instant a child that kills itself at that call of those that change the disk; the last one gets through.
KILLED = """
    import os, signal, sys
    from pathlib import Path
    from bnbench.results import placing
    from bnbench.base.files import write_file

    def run(target, instant):
        calls = 0

        def counted(function):
            def call(*words, **options):
                nonlocal calls
                calls += 1
                if calls == instant:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*words, **options)
            return call

        for name in ("rename", "mkdir", "fsync", "rmdir", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        swap = placing._renameat2()
        placing._renameat2 = (lambda: counted(swap)) if sys.argv[2] == "exchanged" else (lambda: None)
        with placing.aside_of(target) as aside:
            for name in ("history.csv", "run.json"):
                write_file(aside / name, b"new")
            placing.put(aside, target)

    for instant in range(1, 60):
        target = Path(sys.argv[1]) / str(instant) / "runs" / "a-0123456789ab" / "seed-0"
        target.parent.mkdir(parents=True)
        if sys.argv[3] == "replaced":
            target.mkdir()
            (target / "run.json").write_text("old")
        child = os.fork()
        if not child:
            run(target, instant)
            os._exit(7)
        status = os.waitpid(child, 0)[1]
        if os.waitstatus_to_exitcode(status) == 7:
            sys.exit(7)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
"""


@pytest.mark.parametrize("there", ["replaced", "new"])
@pytest.mark.parametrize("how", ["exchanged", "in two steps"])
def test_a_kill_at_any_instant_leaves_a_whole_run(there: str, how: str, tmp_path: Path) -> None:
    """The old run or the new one is found, also by a reader before anyone mends it; then nothing else is left."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), how, there]
    assert subprocess.run(command, check=False).returncode == 7
    instants = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert len(instants) >= 7
    outcomes = []
    for instant in instants:
        cell = instant / "runs" / f"a-{CELL}"
        target = cell / "seed-0"
        found = target if target.exists() else leftovers(cell).get("seed-0")
        text = text_of(found) if found else "none"
        recover(instant / "runs")
        assert [path.name for path in cell.iterdir()] == (["seed-0"] if found else [])
        assert not found or text_of(target) == text
        outcomes.append(text)
    before = "old" if there == "replaced" else "none"
    assert set(outcomes) == {before, "new"}
    assert outcomes == sorted(outcomes, key=["old", "none", "new"].index)  # once it is new it stays so
    assert outcomes[-1] == "new"


def test_leftovers_of_a_live_process_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "runs" / f"a-{CELL}" / "seed-0"
    target.parent.mkdir(parents=True)
    with aside_of(target) as aside:
        recover(tmp_path / "runs")
        assert aside.is_dir()
        write(aside, "x")
        put(aside, target)
    (target.parent / ".writing-k3jd8s").mkdir()  # as an earlier version named it
    recover(tmp_path / "runs")
    assert [path.name for path in target.parent.iterdir()] == ["seed-0"]


def record(seconds: float) -> str:
    metrics = {"train_loss": 0.1, "val_loss": 0.2, "val_accuracy": 0.5}
    values = RunRecord(
        "a", {}, 0, CELL, "none", "finished", train_seconds=seconds, final=metrics, best=metrics
    )
    return json.dumps(
        {
            "schema_version": 1,
            **{k: v for k, v in vars(values).items() if k not in ("history", "step_losses")},
        }
    )


@pytest.mark.slow
def test_two_writers_and_a_reader(tmp_path: Path, system: str) -> None:
    """600 saves of one run by two threads: none fails, and no read misses the run or mixes two of them."""
    target = tmp_path / "runs" / f"a-{CELL}" / "seed-0"
    target.parent.mkdir(parents=True)
    errors: list[BaseException] = []

    def save(writer: int) -> None:
        try:
            for number in range(300):
                with aside_of(target) as aside:
                    (aside / "history.csv").write_text(
                        "step,epoch,train_seconds,batch_loss,train_loss,val_loss,val_accuracy\n"
                        f"0,0,{writer}.{number:03d},,0.1,0.2,0.5\n"
                    )
                    (aside / "run.json").write_text(record(float(f"{writer}.{number:03d}")))
                    put(aside, target)
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=save, args=(number,)) for number in (1, 2)]
    cell = Cell("a", {}, CELL, (0,))
    for writer in writers:
        writer.start()
    while not target.exists() and any(writer.is_alive() for writer in writers):
        pass
    reads, missed = 0, 0
    while any(writer.is_alive() for writer in writers):
        told: list[str] = []
        found = load_run(tmp_path, cell, 0, told, leftovers(target.parent))
        reads += 1
        if found is None:
            missed += 1
        else:
            (row,) = found.history  # of the same save as run.json
            assert row.train_seconds == found.train_seconds
    assert not errors
    assert reads > 20
    if system == "exchanged":
        assert missed == 0
    recover(tmp_path / "runs")
    assert [path.name for path in target.parent.iterdir()] == ["seed-0"]


def test_a_pipe_or_a_folder_in_the_place_of_a_file_ends_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(OSError, match="not a regular file"):
        read_text(tmp_path / "run.json")
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)


def test_a_disk_that_fails_while_data_is_synced_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(ResultsError, match="Input/output error"):
        write_whole(tmp_path / "plan.json", "{}")
    assert not list(tmp_path.iterdir())
