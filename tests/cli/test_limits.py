"""The command under the limits of a machine: the same result, or one message that says what to do.

The oracle of each result is the same command without the limit.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.same_results import assert_same

REPOSITORY = Path(__file__).parents[2]
STUDY = """
name: limits
dataset: digits
max_train_samples: 256
max_eval_samples: 64
model: {name: mlp, hidden: [16]}
optimizer: {name: sgd, lr: 0.1}
batch_size: 32
steps: 200
seeds: 2
variants: [none, batch]
"""
#: The command, with workers for this small study, too.
WITH_WORKERS = """
import bnbench.engine.schedule as schedule
schedule.WORTH_WORKERS = 0
from bnbench.cli.app import main
main()
"""
#: A layer that takes 100 MB in each step after the twentieth.
HUNGRY = """
import torch
from bnbench.norms import norms

class Hungry(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls, self.held = 0, []
    def forward(self, x):
        self.calls += self.training
        if self.calls > 20:
            self.held.append(torch.ones(25_000_000))
        return x

@norms.register("hungry")
def hungry(num_features, dim):
    '''A layer that never has enough memory.'''
    return Hungry()
"""
#: A clock that goes back by an hour each second.
CLOCK = """
import time
real, start = time.time, time.time()
time.time = lambda: start - 3600 * (real() - start)
"""
is_root = hasattr(os, "getuid") and os.getuid() == 0
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _can_mount() -> bool:
    if not is_root or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    (folder / "study.yaml").write_text(STUDY)
    (folder / "with_workers.py").write_text(WITH_WORKERS)
    (folder / "hungry.py").write_text(HUNGRY)
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    """Runs a line of bash, in which $COMPARE is the command without its --output."""

    def runs(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        words = f"{sys.executable} {place}/with_workers.py compare {place}/study.yaml --jobs 2"
        paths = os.pathsep.join([*filter(None, [environment.pop("PYTHONPATH", "")]), str(REPOSITORY)])
        variables = {**os.environ, "PYTHONPATH": paths, "COMPARE": words, **environment}
        return subprocess.run(["bash", "-c", line], cwd=place, env=variables, capture_output=True, text=True)

    return runs


@pytest.fixture(scope="module")
def usual(place: Path, run: Run) -> Path:
    done = run("$COMPARE -q -o usual")
    assert done.returncode == 0, done.stderr
    return place / "usual"


#: The limits of a container at once: little shared memory, few descriptors, no writable home, no locale, a new mask.
CONTAINER = (
    'unshare -m bash -c "mount -t tmpfs -o size=1m tmpfs /dev/shm; mount -t tmpfs -o ro tmpfs /mnt; '
    'ulimit -n 48; ulimit -s 1024; umask 077; exec $COMPARE -o container"'
)
PLAIN = {
    "HOME": "/mnt", "XDG_CACHE_HOME": "/mnt/cache", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not _can_mount(), reason="only root may mount, and needs unshare")
def test_in_a_small_container(place: Path, run: Run, usual: Path) -> None:
    done = run(CONTAINER, **PLAIN)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
    assert_same(usual, place / "container")
    modes = {path.stat().st_mode & 0o077 for path in (place / "container").rglob("*")}
    assert modes == {0}, "the mask of the user holds for every file"


@pytest.mark.slow
def test_without_standard_streams_home_and_with_a_long_temporary_folder(
    place: Path, run: Run, usual: Path
) -> None:
    """The socket of the server of workers has no room in a name of more than 108 bytes: this process trains."""
    long = place / ("x" * 120)
    long.mkdir()
    done = run(f"unset HOME; TMPDIR={long} $COMPARE -o closed <&- >&- 2>&-")
    assert done.returncode == 0
    assert_same(usual, place / "closed")
    assert not any(long.iterdir()), "nothing is left in the temporary folder"


@pytest.mark.slow
def test_a_clock_that_goes_back_and_a_name_that_is_no_utf_8(place: Path, run: Run, usual: Path) -> None:
    clock = place / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(CLOCK)
    line = "$COMPARE -q --save-every 0.05 --output \"$(printf 'a b\\nc\\xff')\""
    done = run(line, PYTHONPATH=str(clock))
    assert done.returncode == 0, done.stderr
    name = os.fsdecode(b"a b\nc\xff")
    assert _numbers(place / name) == _numbers(usual)


def _numbers(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: text for key, text in row.items() if "seconds" not in key} for row in rows]


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group (version 1 or 2) of 1.5 GiB."""
    from bnbench.base.machine import _mounts

    limits = {
        1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        2: ("memory.max", "memory.swap.max"),
    }
    for _, mounted, version in _mounts(Path("/proc"), "memory"):
        folder = mounted / f"bnbench-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limits[version][0]).exists():
            (folder / limits[version][0]).write_text(str(3 * 2**29))
            yield folder
            folder.rmdir()
            return
        folder.rmdir()
    pytest.skip("no control group of memory can be made here")


@pytest.mark.slow
@pytest.mark.skipif(not is_root, reason="only root may make a control group")
def test_a_victim_of_the_out_of_memory_killer(place: Path, run: Run, group: Path, usual: Path) -> None:
    line = (
        f"echo $$ > {group}/cgroup.procs; exec $COMPARE -o killed --plugin hungry.py "
        "'variants={none: {norm: none}, hungry: {norm: hungry}}'"
    )
    done = run(line)
    assert done.returncode == 3, done.stderr
    said = re.search(r"crashed: the worker process that trained it was ended by .*", done.stderr)
    assert said, done.stderr
    assert "the system's out-of-memory killer (its estimate: " in said[0]
    assert said[0].endswith("the container has 1.5 GiB).")
    assert _numbers(place / "killed")[0]["final_test_loss"] == _numbers(usual)[0]["final_test_loss"]


@pytest.mark.slow
def test_a_tensor_that_no_memory_holds(place: Path, run: Run) -> None:
    text = (place / "hungry.py").read_text().replace("25_000_000", "2**50")
    (place / "greedy.py").write_text(text)
    done = run(
        "$COMPARE -o greedy --plugin greedy.py 'variants={none: {norm: none}, hungry: {norm: hungry}}'"
    )
    assert done.returncode == 3
    assert "crashed: memory ran out at 4,194,304.0 GiB for one tensor (RuntimeError): the " in done.stderr


def bnbench(line: str, cwd: Path) -> Any:
    command = f"{sys.executable} -m bnbench"
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        ["bash", "-c", line.replace("bnbench", command, 1)],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
    )


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = bnbench(f"rmdir {gone}; bnbench compare", gone)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: the current folder can't be found: No such file or directory.",
        "It was removed or moved, or may not be read, since this shell entered it.",
        "Fix: cd to another folder and run the command there.",
    ]


def test_too_little_address_space_for_torch(tmp_path: Path) -> None:
    done = bnbench("ulimit -v 700000; bnbench check quickstart", tmp_path)
    assert done.returncode == 1
    assert "torch can't be imported: memory ran out: ImportError" in done.stderr
    assert "Fix: a larger limit: ulimit -v unlimited" in done.stderr
    assert "Traceback" not in done.stderr
