"""Several processes on one results folder: each run is trained once, and all print the same complete tables.

Oracles: the results of one undisturbed process, bit for bit; what the processes print; the system's processes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import bnbench
from bnbench.api.plugins import known_names
from bnbench.api.several import load_studies, prepare_works
from bnbench.api.turns import Turns
from bnbench.base.errors import ResultsError
from bnbench.base.owner import Owner, this_process
from bnbench.cli.app import app
from bnbench.reports.page import html
from bnbench.results.claims import CLAIMS, Claims, plan_word
from bnbench.results.contents import Cell
from bnbench.study.plan import RunSpec
from tests.in_process import runner_of
from tests.same_results import assert_same

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 64
steps: 40
seeds: 2
variants:
  none:  {norm: none}
  batch: {norm: batch}
  layer: {norm: layer}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    return runner_of(STUDY, tmp_path, monkeypatch)


def planned(folder: Path) -> list[RunSpec]:
    """The runs of the study in that folder."""
    results = bnbench.load(folder)._results
    return [run_of(cell, seed) for cell in results.cells for seed in cell.seeds]


def run_of(cell: Cell, seed: int) -> RunSpec:
    return RunSpec(cell.variant, cell.setting, seed, cell.cell, None)  # type: ignore[arg-type]


class Other:
    """Another process at the folder: alive, as it has this process's number, but with a name of its own."""

    def __init__(self, folder: Path, plan: list[RunSpec], owner: Owner | None = None) -> None:
        self.claims = Claims(folder, owner=owner or this_process(), plan=plan_word(plan))
        self.claims.renew()

    def leave(self) -> None:
        self.claims._leave()


def take_away(folder: Path, variant: str) -> None:
    """Runs of that variant are not there any more."""
    for path in folder.glob(f"runs/{variant}-*"):
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one undisturbed process."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "s.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(html, "to_html", lambda *arguments: "")
        assert CliRunner().invoke(app, ["compare", "s.yaml", "-o", "out", "-q"]).exit_code == 0
    return folder / "out"


@pytest.fixture
def half(run: Callable[..., Result], whole: Path) -> tuple[Path, list[RunSpec]]:
    """A folder whose variants batch and layer are to be trained, and all runs of the study."""
    shutil.copytree(whole, "whole")
    shutil.copytree(whole, "out")
    take_away(Path("out"), "batch")
    take_away(Path("out"), "layer")
    return Path("out"), planned(whole)


def of(runs: list[RunSpec], variant: str) -> list[RunSpec]:
    return [run for run in runs if run.variant == variant]


def test_a_second_process_trains_other_runs_and_waits_for_the_first(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result]
) -> None:
    folder, runs = half
    other = Other(folder, runs)
    assert len(other.claims.take(of(runs, "batch"))) == 2

    def end() -> None:
        while len(list(folder.glob("runs/layer-*/seed-*/run.json"))) < 2:
            time.sleep(0.02)
        time.sleep(1)  # by then the other one waits
        (path,) = Path("whole").glob("runs/batch-*")
        shutil.copytree(path, folder / "runs" / path.name)
        other.leave()

    thread = threading.Thread(target=end)
    thread.start()
    result = run("compare", "s.yaml", "-o", "out")
    thread.join()
    assert result.exit_code == 0, result.output
    assert f"Here already: process {os.getpid()} on " in result.stderr
    assert re.search(rf"Waiting for process {os.getpid()} on .*, which trains 2 runs\.", result.stderr)
    assert "batch seed" not in result.stderr
    assert "layer seed" in result.stderr
    assert_same(Path("whole"), folder)


def test_runs_that_the_other_one_gives_up_are_trained(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result]
) -> None:
    folder, runs = half
    other = Other(folder, runs)
    other.claims.take(of(runs, "batch"))
    timer = threading.Timer(1.0, other.leave)
    timer.start()
    assert run("compare", "s.yaml", "-o", "out", "-q").exit_code == 0
    timer.join()
    assert_same(Path("whole"), folder)


def test_wait_waits_for_the_whole_folder(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, runs = half
    other = Other(folder, runs)
    seen: list[int] = []
    meets, meet = threading.Event(), Turns._meet
    monkeypatch.setattr(Turns, "_meet", lambda turns: (meets.set(), meet(turns))[1])

    def leave() -> None:
        meets.wait(60)
        time.sleep(1.0)
        seen.append(len(list(folder.glob("runs/layer-*"))))
        other.leave()

    thread = threading.Thread(target=leave)
    thread.start()
    result = run("compare", "s.yaml", "-o", "out", "--on-lock", "wait")
    thread.join()
    assert result.exit_code == 0
    assert seen == [0]
    assert "(--on-lock wait)" in result.stderr
    assert_same(Path("whole"), folder)


def test_a_killed_process_keeps_nobody_waiting(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result]
) -> None:
    folder, runs = half
    dead = Other(folder, runs, replace(this_process(), start="1"))
    dead.claims.take(runs)
    result = run("compare", "s.yaml", "-o", "out")
    assert result.exit_code == 0
    assert "Waiting" not in result.stderr
    assert_same(Path("whole"), folder)


def test_leftovers_go_even_where_nothing_is_to_be_trained(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result]
) -> None:
    dead = Other(Path("whole"), half[1], replace(this_process(), start="1"))
    dead.claims.take(half[1])
    assert run("compare", "s.yaml", "-o", "whole", "-q").exit_code == 0
    assert not Path("whole", CLAIMS).exists()


def test_other_seeds_are_an_error_while_somebody_trains(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result]
) -> None:
    folder, runs = half
    other = Other(folder, runs)
    before = (folder / "plan.json").read_bytes()
    result = run("compare", "s.yaml", "seeds=3", "-o", "out")
    assert result.exit_code == 1
    assert f"process {os.getpid()} on " in result.stderr
    assert "trains other seeds or variants of this study there" in result.stderr
    assert "--output out-2" in result.stderr
    assert (folder / "plan.json").read_bytes() == before
    other.leave()


def test_report_says_what_is_under_way(half: tuple[Path, list[RunSpec]], run: Callable[..., Result]) -> None:
    folder, runs = half
    other = Other(folder, runs)
    other.claims.take(runs[2:5])
    result = run("report", "out")
    assert result.exit_code == 0
    assert f"3 runs are still being trained by process {os.getpid()} on " in result.stdout
    assert any("3 runs are still being trained" in text for text in bnbench.load(folder).summary.limits)
    other.leave()
    assert "still being trained" not in run("report", "out").stdout


def test_report_where_no_run_has_ended_says_who_trains(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result]
) -> None:
    folder, runs = half
    other = Other(folder, runs)
    other.claims.take(runs[:2])
    take_away(folder, "none")
    result = run("report", "out")
    other.leave()
    assert result.exit_code == 1
    assert f"2 runs are still being trained by process {os.getpid()} on " in " ".join(result.stderr.split())


def test_report_is_written_again_where_the_other_one_ends_in_between(
    half: tuple[Path, list[RunSpec]], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process ends while the first picture is drawn; the files that stay are of the last one."""
    folder, runs = half
    other = Other(folder, runs)
    other.claims.take(of(runs, "batch"))

    def draw(*arguments: object) -> str:
        if not list(folder.glob("runs/batch-*")):
            (path,) = Path("whole").glob("runs/batch-*")
            shutil.copytree(path, folder / "runs" / path.name)
            other.leave()
        return ""

    monkeypatch.setattr(html, "to_html", draw)
    result = run("report", "out")
    assert "still being trained" not in result.stdout
    rows = (folder / "summary.csv").read_text().splitlines()
    assert sum("finished" in row for row in rows) == 4


def test_a_run_that_crashed_elsewhere_meanwhile_is_not_tried_again(
    half: tuple[Path, list[RunSpec]], tmp_path: Path
) -> None:
    """It is tried again by the next command, as always."""
    from bnbench.api.carrying_out import carry_out_all
    from bnbench.api.session import Options
    from bnbench.engine.process import training_process

    folder, _ = half
    with training_process():
        names = known_names((), ())
        (work,) = prepare_works(
            load_studies(["s.yaml"], names), names, folder, Options("cpu", tmp_path / "data")
        )
        crashed = next(run for run in work.todo if run.variant == "batch")
        record = replace(work.folder.load().cells[0].records[0], outcome="crashed", variant="batch")
        record = replace(record, seed=crashed.seed, cell=crashed.cell, error="elsewhere")
        work.folder.save(crashed, record, None)
        trained: list[tuple[str, int]] = []
        carry_out_all(work, lambda event: trained.append(event.run.key))
    assert crashed.key not in trained
    assert set(trained) == {run.key for run in work.todo} - {crashed.key}


def test_a_folder_that_cant_be_written_is_one_message(run: Callable[..., Result], tmp_path: Path) -> None:
    claims = Claims(tmp_path / "nowhere")
    (tmp_path / "nowhere").write_text("a file")
    with pytest.raises(ResultsError):
        claims.renew()


# Real processes


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "bnbench", *words]


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("compare", "s.yaml", "-o", "out", "--jobs", "1", *words),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


@pytest.mark.slow
def test_four_started_at_once_one_killed_give_the_results_of_one(
    tmp_path: Path, run: Callable[..., Result]
) -> None:
    """On an empty folder; one is killed as soon as it trains. Nobody fails, and all print the same tables."""
    words = ["seeds=4", "steps=2000", "engine=sequential"]
    processes = [start(tmp_path, *words) for _ in range(4)]
    while not list(tmp_path.glob("out/.claims/*.claim")):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    owners = list(tmp_path.glob("out/.claims/*.owner"))
    pids = {int(re.search(r'"pid": (\d+)', path.read_text())[1]) for path in owners}  # type: ignore[index]
    victim = next(process for process in processes if process.pid in pids)
    os.killpg(victim.pid, signal.SIGKILL)
    outputs = [process.communicate(timeout=400) for process in processes]
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == (-signal.SIGKILL if process is victim else 0), error
        assert "Traceback" not in error
    tables = {
        output for process, (output, _) in zip(processes, outputs, strict=True) if process is not victim
    }
    assert len({re.sub(r"\d+\.\d+", "", table) for table in tables}) == 1
    assert run("compare", "s.yaml", *words, "-o", "whole", "-q").exit_code == 0
    assert_same(Path("whole"), tmp_path / "out")


@pytest.mark.slow
def test_many_readers_beside_a_writer_never_fail(tmp_path: Path, run: Callable[..., Result]) -> None:
    words = ["seeds=3", "steps=3000", "engine=sequential"]
    writer = start(tmp_path, *words, "-q")
    seen: list[int] = []
    while writer.poll() is None:
        if not list(tmp_path.glob("out/runs/*/seed-*/run.json")):
            time.sleep(0.05)
            continue
        result = run("report", "out", "--format", "csv")
        assert result.exit_code == 0, result.output
        assert "Warning" not in result.stderr
        rows = result.stdout.splitlines()[1:]
        assert len(rows) == 9
        seen.append(sum("finished" in row for row in rows))
    _, error = writer.communicate()
    assert writer.returncode == 0, error
    assert seen == sorted(seen)  # a picture never loses a run
    assert len(set(seen)) > 1
    assert sum("finished" in row for row in Path("out/summary.csv").read_text().splitlines()) == 9
