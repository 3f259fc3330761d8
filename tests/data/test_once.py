"""Data of a machine is prepared once. Oracle: how many processes were at it at the same time, by marks on the disk."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

from bnbench.data.once import prepared_once


def prepare(folder: Path) -> None:
    """As a data set does: what is there is read, what is missing is made, which takes a while."""
    with prepared_once(folder):
        if not (folder / "data").exists():
            (folder / f"made-{multiprocessing.current_process().name}").touch()
            time.sleep(0.3)
            (folder / "data").touch()


def test_one_process_prepares_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=prepare, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(tmp_path.glob("made-*"))) == 1


def test_a_folder_that_can_not_be_locked_hinders_nobody(tmp_path: Path) -> None:
    with prepared_once(tmp_path / "missing"):
        pass
