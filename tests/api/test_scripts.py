"""A script without a guard, a pipe, `python -c` and a thread: workers never run the user's program again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_study import TINY

#: Workers for studies of any size, and how many runs they trained.
SETUP = """
from bnbench.engine import schedule
schedule.WORTH_WORKERS = 0.0
in_workers = []
run_in_workers = schedule.run_in_workers
def spy(jobs, *rest):
    in_workers.extend(run for job in jobs for run in job.runs)
    return run_in_workers(jobs, *rest)
schedule.run_in_workers = spy
"""
STUDY = {**TINY, "engine": "sequential", "seeds": 2}
SCRIPT = f"""
print("the script runs")
import bnbench
{SETUP}
comparison = bnbench.compare({STUDY!r}, jobs=2, output=FOLDER)
print(len(in_workers), [run["outcome"] for run in comparison.runs].count("crashed"), len(comparison.runs))
"""


def _run(words: list[str], folder: Path, text: str | None = None) -> list[str]:
    done = subprocess.run(
        [sys.executable, *words], input=text, capture_output=True, text=True, cwd=folder, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["a file", "-c", "a pipe", "a module"])
def test_workers_do_not_run_the_program_again(tmp_path: Path, way: str) -> None:
    text = SCRIPT.replace("FOLDER", repr(str(tmp_path / "r")))
    (tmp_path / "script.py").write_text(text)
    words = {"a file": ["script.py"], "-c": ["-c", text], "a pipe": ["-"], "a module": ["-m", "script"]}[way]
    lines = _run(words, tmp_path, text if way == "a pipe" else None)
    assert lines == ["the script runs", "4 0 4"]


@pytest.mark.slow
def test_in_a_thread_and_twice_in_one_process(tmp_path: Path) -> None:
    text = f"""
import json, threading
import bnbench
{SETUP}
numbers = []
def work():
    for name in "ab":
        comparison = bnbench.compare({STUDY!r}, jobs=2, output=name)
        numbers.append([run["final_test_loss"] for run in comparison.runs])
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps([len(in_workers), numbers]))
"""
    (tmp_path / "script.py").write_text(text)
    (line,) = _run(["script.py"], tmp_path)
    count, (first, second) = json.loads(line)
    assert count == 8
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("daemon", [True, False])
def test_in_a_process_that_another_program_forked(tmp_path: Path, daemon: bool) -> None:
    """It may have no children, and the server that it inherits is not its own."""
    text = f"""
import multiprocessing
import bnbench
{SETUP}
def work(queue):
    queue.put(len(bnbench.compare({STUDY!r}, jobs=2, output="b").runs))
bnbench.compare({STUDY!r}, jobs=2, output="a")
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=work, args=(queue,), daemon={daemon})
process.start()
print(queue.get(timeout=100), len(in_workers))
process.join()
"""
    assert _run(["-W", "ignore", "-c", text], tmp_path) == ["4 4"]


def test_import_bnbench_loads_nothing_heavy(tmp_path: Path) -> None:
    text = """
import sys, bnbench
heavy = ("torch", "altair", "scipy", "numpy", "pydantic", "sklearn", "typer", "rich")
print([name for name in heavy if name in sys.modules])
print(sorted(set(bnbench.__all__) - set(dir(bnbench))))
"""
    assert _run(["-c", text], tmp_path) == ["[]", "[]"]


@pytest.mark.slow
def test_every_public_name_is_there_whatever_is_imported(tmp_path: Path) -> None:
    text = """
import importlib, pkgutil, bnbench
for module in pkgutil.walk_packages(bnbench.__path__, "bnbench."):
    if not module.name.startswith(("bnbench.__main__", "bnbench.engine.backends.keras")):
        importlib.import_module(module.name)
print([name for name in bnbench.__all__ if name != "__version__" and not callable(getattr(bnbench, name))])
"""
    assert _run(["-c", text], tmp_path) == ["[]"]
