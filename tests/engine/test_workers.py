"""Worker processes: the same bits as in this process, and what happens when one raises, is killed or interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bnbench.engine import schedule
from bnbench.engine.cell import Cell
from bnbench.engine.choose import EngineChoice
from bnbench.engine.library import Library
from bnbench.engine.workers.packing import arrange, pack
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec, make_plan
from tests.training import scheduled

CPU = torch.device("cpu")

STUDY = """
dataset: digits
model: {name: mlp, hidden: [12]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 30
epochs: %d
seeds: 3
variants:
  none:   {norm: none}
  custom: {norm: batch_custom}
  layer:  {norm: layer}
"""

#: A plugin: a layer that does what its option says when it is trained.
PLUGIN = """
import os, signal, torch
from bnbench.norms import norms

class Bad(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.calls = how, 0
    def forward(self, x):
        self.calls += self.training
        if self.calls > 20 and self.how == "raise":
            raise RuntimeError("no more, says the layer")
        if self.calls > 20 and self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return x

@norms.register("bad")
def bad(num_features, dim, *, how: str = "raise"):
    '''A layer that goes wrong.'''
    return Bad(how)
"""


@pytest.fixture
def plan(vocabulary: Vocabulary, tmp_path: Path) -> Callable[..., list[RunSpec]]:
    def make(*overrides: str, epochs: int = 2) -> list[RunSpec]:
        path = tmp_path / "s.yaml"
        path.write_text(STUDY % epochs)
        return make_plan(load_study(path, list(overrides), vocabulary), lambda settings: "data")

    return make


def ends(runs: list[RunSpec], tmp_path: Path, **how: Any) -> dict[tuple[str, int], RunEnded]:
    events = scheduled(runs, Library(tmp_path, CPU), **how)
    found = [event for event in events if isinstance(event, RunEnded)]
    assert len(found) == len(runs)
    return {(event.run.variant, event.run.seed): event for event in found}


def test_no_digit_depends_on_workers_or_seeds(
    plan: Callable[..., list[RunSpec]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "WORTH_WORKERS", 0.0)
    here = ends(plan(), tmp_path, workers=1)
    for other in (
        ends(plan(), tmp_path, workers=2),
        ends(plan(), tmp_path, workers=5),
        ends(plan("seeds=[2]"), tmp_path, workers=1),
        ends(plan("seeds=[7, 2, 0]"), tmp_path, workers=3),
    ):
        for key in other.keys() & here.keys():
            ours, theirs = here[key], other[key]
            assert ours.record.step_losses == theirs.record.step_losses
            assert ours.record.final == theirs.record.final
            assert ours.record.best == theirs.record.best
            assert [row.metrics for row in ours.record.history] == [
                row.metrics for row in theirs.record.history
            ]
            assert ours.weights is not None
            assert theirs.weights is not None
            for name, value in ours.weights.items():
                assert value.tobytes() == theirs.weights[name].tobytes()


def command(*words: str) -> list[str]:
    """The command line with workers for studies of any size."""
    script = (
        "from bnbench.engine import schedule; schedule.WORTH_WORKERS = 0.0; "
        "from bnbench.cli.app import main; main()"
    )
    return [
        sys.executable,
        "-c",
        script,
        "compare",
        "study.yaml",
        "--jobs",
        "2",
        "--output",
        "results/study",
        *words,
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY % 2)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    return tmp_path


def outcomes(folder: Path) -> dict[str, list[str]]:
    told = json.loads((folder / "results/study/summary.json").read_text())
    return {variant["name"]: [run["outcome"] for run in variant["runs"]] for variant in told["variants"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [("raise", "RuntimeError: no more, says the layer"), ("die", "was killed by signal 9")],
)
def test_a_run_that_raises_or_dies_in_a_worker_crashes_alone(how: str, said: str, folder: Path) -> None:
    words = ["--plugin", "plugin.py", f"variants.custom.norm={{name: bad, how: {how}}}"]
    result = subprocess.run(
        command(*words), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert result.returncode == 3, result.stdout
    assert said in " ".join(result.stdout.split())
    assert "Traceback" not in result.stdout
    done, crashed = ["finished"] * 3, ["crashed"] * 3
    assert outcomes(folder) == {"none": done, "custom": crashed, "layer": done}


def children(process: int) -> set[int]:
    """All descendants that are alive."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found |= {int(path.parent.name)} | children(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_keeps_what_is_finished_and_leaves_no_process(how: signal.Signals, folder: Path) -> None:
    # a quick variant, and one that goes on for minutes
    words = ["seeds=2", "variants={quick: {epochs: 1}, slow: {epochs: 5000}}"]
    process = subprocess.Popen(
        command(*words),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("results/study/runs/quick-*/seed-*/run.json"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    family = children(process.pid)
    assert len(family) >= 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to all of them
    else:
        process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130, output
        assert "Interrupted. Finished runs" in output
    if how == signal.SIGTERM:
        assert process.returncode == 5, output
        assert "Stopped by SIGTERM: 2 of 4 runs are done" in output
    if how != signal.SIGKILL:
        assert outcomes(folder) == {"quick": ["finished", "finished"], "slow": []}
    assert "Traceback" not in output
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in family):
        assert time.monotonic() < deadline, "a process is left behind"
        time.sleep(0.05)


def cells(*counts: int, steps: int = 1000) -> list[Cell]:
    """Of small networks, one with each number of runs."""
    choice = EngineChoice("stacked", 1)
    settings = Settings.model_construct(batch_size=32)  # type: ignore[call-arg]
    return [
        Cell(
            tuple(RunSpec(f"v{index}", {}, seed, "c", settings) for seed in range(count)),
            choice,
            steps,
            50_000,
        )
        for index, count in enumerate(counts)
    ]


def test_packing_keeps_every_run_and_cuts_all_cells_alike() -> None:
    for workers in (1, 2, 3, 8, 64):
        packed, _ = pack(cells(5, 5, 5), workers, workers)
        assert sorted((run.variant, run.seed) for job in packed for run in job.runs) == [
            (f"v{index}", seed) for index in range(3) for seed in range(5)
        ]
        sizes = {
            variant: sorted(len(job.runs) for job in packed if job.runs[0].variant == variant)
            for variant in ("v0", "v1", "v2")
        }
        assert sizes["v0"] == sizes["v1"] == sizes["v2"]
    assert [len(job.runs) for job in pack(cells(5, 5, 5), 1, 1)[0]] == [5, 5, 5]  # nothing is gained by a cut
    # a run alone has a double in its stack: a finer cut gains nothing
    assert {len(job.runs) for job in pack(cells(5, 5, 5), 64, 64)[0]} == {1, 2}
    assert pack([], 2, 2)[0] == []


def test_an_uneven_number_of_jobs_shares_the_cores() -> None:
    three = cells(5, 5, 5)
    jobs, processes = arrange(three, None, 2)
    assert ([len(job.runs) for job in jobs], processes) == ([5, 5, 5], 3)
    _, end = pack(three, 3, 2)
    assert end == pytest.approx(1.5 * three[0].seconds(5))
    assert arrange(three, 2, 2)[1] == 2  # what was asked for
    assert arrange(cells(5, 5), None, 2)[1] == 2  # nothing to gain
    assert arrange([], None, 2) == ([], 2)


def test_the_longest_job_comes_first() -> None:
    long, short = cells(2, 2, steps=10)[0], cells(2, 2, steps=10_000)[1]
    assert pack([long, short], 1, 1)[0][0].runs[0].variant == "v1"


@pytest.mark.parametrize(("engine", "order"), [("sequential", "abababab"), ("stacked", "aaaabbbb")])
def test_runs_that_train_alone_take_turns_between_the_variants(
    engine: str, order: str, write_study: Callable[[str], Path], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    text = f"""
        dataset: digits
        model: {{name: mlp, hidden: [8]}}
        optimizer: {{name: sgd, lr: 0.1}}
        epochs: 1
        max_train_samples: 64
        seeds: 4
        engine: {engine}
        variants: {{a: {{norm: none}}, b: {{norm: batch}}}}
    """
    study = load_study(write_study(text), [], vocabulary)
    events = scheduled(make_plan(study, lambda settings: {}), Library(tmp_path, CPU), workers=1)
    assert "".join(event.run.variant for event in events if isinstance(event, RunEnded)) == order


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="a process's signal mask is read from /proc"
)
def test_ctrl_c_does_not_reach_the_server_while_it_imports() -> None:
    """multiprocessing's resource tracker, which starts first, takes the block of SIGINT away again."""
    code = """
import signal
from multiprocessing import forkserver
from pathlib import Path
from bnbench.engine.workers.server import start_server
start_server()
status = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read_text()
blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
print(bool(blocked & 1 << signal.SIGINT - 1), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
