"""Studies on an executor of processes. Oracle: the same study trained by this process alone, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.executors.words import open_executor
from bnbench.study.events import RunEnded, RunStarted
from tests.executors import factories
from tests.same_results import assert_same, leftovers

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="forks")

FACTORIES = Path(factories.__file__)
STUDY = {
    "name": "tiny",
    "dataset": "digits",
    "model": {"name": "mlp", "hidden": [8]},
    "optimizer": {"name": "adam", "lr": 0.01},
    "steps": 12,
    "evaluate_every": 6,
    "seeds": 2,
    "variants": {"none": {"norm": "none"}, "batch": {"norm": "batch"}},
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "tiny"
    bnbench.compare(STUDY, output=folder, jobs=1)
    return folder


@pytest.fixture(autouse=True)
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of marks, and no page: drawing it takes longer than everything else."""
    folder = tmp_path / "marks"
    folder.mkdir()
    monkeypatch.setenv(factories.MARKS, str(folder))
    monkeypatch.setattr("bnbench.reports.page.html.to_html", lambda *_: "")
    return folder


def running(factory: str, **options: Any) -> bnbench.Running:
    return bnbench.Running(executor=f"{FACTORIES}:{factory}", **options)


@pytest.mark.parametrize(
    "factory",
    [
        "unshared",
        "killed_once",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("forked", "twice", "killed_late", "preempted_once")
        ),
    ],
)
def test_an_executor_gives_the_same_bits(factory: str, reference: Path, tmp_path: Path) -> None:
    """Also without a shared folder, where jobs are done twice, where a worker is lost, and where one is taken away."""
    events: list[object] = []
    bnbench.compare(
        STUDY, output=tmp_path / "out", running=running(factory, retries=1), listeners=events.append
    )
    assert_same(tmp_path / "out", reference)
    ended = [event.run.key for event in events if isinstance(event, RunEnded)]
    assert sorted(ended) == [("batch", 0), ("batch", 1), ("none", 0), ("none", 1)]
    notes = {note for event in events if isinstance(event, RunStarted) for note in event.notes}
    if factory != "killed_late":  # there the job beside it may be done by then, or not
        assert any("a worker was lost" in note for note in notes) == (factory == "killed_once")


def test_a_run_records_its_machine_and_its_command(reference: Path, tmp_path: Path) -> None:
    bnbench.compare(STUDY, output=tmp_path / "out", running=running("forked"))
    files = sorted((tmp_path / "out").glob("runs/*/*/run.json"))
    here, there = (
        [json.loads(file.read_text())["environment"] for file in sorted(folder.glob("runs/*/*/run.json"))]
        for folder in (reference, tmp_path / "out")
    )
    assert len(files) == 4
    for one, other in zip(here, there, strict=True):
        assert {key: value for key, value in one.items() if key != "session"} == {
            key: value for key, value in other.items() if key != "session"
        }
        assert {"machine", "processor", "processor_flags", "torch", "bnbench"} <= set(other)
        assert other["session"]["command"] == one["session"]["command"]


@pytest.mark.slow
def test_runs_whose_workers_are_always_lost_are_crashed_with_the_reason_and_the_others_go_on(
    reference: Path, tmp_path: Path
) -> None:
    result = bnbench.compare(STUDY, output=tmp_path / "out", running=running("never_batch", retries=1))
    outcomes = {(run["variant"], run["seed"]): run["outcome"] for run in result.runs}
    assert outcomes == {
        ("none", 0): "finished",
        ("none", 1): "finished",
        ("batch", 0): "crashed",
        ("batch", 1): "crashed",
    }
    (crashed, _) = sorted((tmp_path / "out").glob("runs/batch-*/*/run.json"))
    error = json.loads(crashed.read_text())["error"]
    assert "the worker that trained it was lost" in error
    assert "terminated abruptly" in error
    assert not leftovers(tmp_path / "out")
    # the runs of the other variant have the bits that they always have
    for seed in (0, 1):
        (mine,) = (tmp_path / "out").glob(f"runs/none-*/seed-{seed}/history.csv")
        (theirs,) = reference.glob(f"runs/none-*/seed-{seed}/history.csv")
        assert _metrics(mine) == _metrics(theirs)
    # the same command tries them again
    again = bnbench.compare(STUDY, output=tmp_path / "out", running=running("forked"))
    assert {run["outcome"] for run in again.runs} == {"finished"}
    assert_same(tmp_path / "out", reference)


def _metrics(path: Path) -> list[list[str]]:
    rows = [line.split(",") for line in path.read_text().splitlines()]
    seconds = rows[0].index("train_seconds")
    return [[value for index, value in enumerate(row) if index != seconds] for row in rows]


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("another_version", ["other versions: torch", "on the worker, 1.0 on the machine that sent the job"]),
        ("other_data", ["its data differ from the driver's: digits"]),
        ("raises", ["raises: it raised ValueError: no such partition"]),
        ("nothing", ["it returned int, which has no submit and shutdown"]),
        ("missing", ["the file has no function missing", "forked"]),
        (
            "needs",
            ["it raised TypeError: needs() missing 1 required positional argument", "Fix: correct needs"],
        ),
    ],
)
def test_what_can_not_work_is_one_message(factory: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(BnbenchError) as error:
        bnbench.compare(STUDY, output=tmp_path / "out", running=running(factory))
    for word in words:
        assert word in str(error.value)
    assert not list(tmp_path.glob("out/runs/*/*/run.json"))
    if factory.startswith(("another", "other")):
        assert not leftovers(tmp_path / "out")
    else:  # it is found before a folder is made
        assert not (tmp_path / "out").exists()


def test_code_of_the_calling_program_is_refused_by_name_before_anything_starts(tmp_path: Path) -> None:
    from torch import nn

    def net(num_classes: int = 10) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    with pytest.raises(BnbenchError, match="can't travel") as error:
        bnbench.compare(STUDY, model=net, output=tmp_path / "out", running=running("forked"))
    assert "none: it uses what the calling program itself defines" in str(error.value)
    assert not (tmp_path / "out").exists()


NORM = """
from torch import nn
from side import EPS

class Mine(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features, eps=EPS)

    def forward(self, x):
        return self.norm(x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["forked", "moved"])
def test_the_users_code_travels_with_what_it_imports(factory: str, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").write_text(NORM)
    (code / "side.py").write_text("EPS = 0.5\n")
    word = f"variants.mine.norm={code}/mine.py:Mine"
    for name, options in (("here", None), ("there", running(factory))):
        bnbench.compare(STUDY, overrides=[word], output=tmp_path / name, running=options)
    assert_same(tmp_path / "there", tmp_path / "here")


def test_threads_of_the_calling_process_are_refused(tmp_path: Path) -> None:
    """Those of an executor that does not look like one of threads, too."""
    file = tmp_path / "threads.py"
    file.write_text(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def plain():\n    return ThreadPoolExecutor(2)\n"
        "class Hidden:\n"
        "    def __init__(self):\n        self.pool = ThreadPoolExecutor(2)\n"
        "    def submit(self, *words):\n        return self.pool.submit(*words)\n"
        "    def shutdown(self, wait=True, **words):\n        self.pool.shutdown(wait)\n"
    )
    for name, word in (
        ("plain", "it returned a ThreadPoolExecutor"),
        ("Hidden", "are threads of the process"),
    ):
        options = bnbench.Running(executor=f"{file}:{name}")
        with pytest.raises(BnbenchError, match=word):
            bnbench.compare(STUDY, output=tmp_path / "out", running=options)


@pytest.mark.slow
def test_a_full_shared_folder_is_one_message_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnbench.results import placing

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    first = {**STUDY, "seeds": [0]}
    bnbench.compare(first, output=tmp_path / "out", running=running("forked"))
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("runs/*/seed-0/*")}
    monkeypatch.setattr(placing, "_take", full)  # the workers are forked from here
    with pytest.raises(BnbenchError, match="The disk is full") as error:
        bnbench.compare(STUDY, output=tmp_path / "out", running=running("forked"), force=True)
    assert str(tmp_path / "out") in str(error.value)
    assert "free some space" in str(error.value)
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("runs/*/seed-*/*")} == before
    assert len(before) > 4
    assert not leftovers(tmp_path / "out")


@pytest.mark.slow
def test_seeds_auto_works_on_an_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rounds share one executor."""
    opened: list[str] = []

    def counted(word: str, workers: int | None) -> object:
        opened.append(word)
        return open_executor(word, workers)

    monkeypatch.setattr("bnbench.api.jobs.open_executor", counted)
    study = {**STUDY, "seeds": {"auto": True, "max": 8}}
    bnbench.compare(study, overrides=["steps=4"], output=tmp_path / "there", running=running("forked"))
    monkeypatch.undo()
    bnbench.compare(study, overrides=["steps=4"], output=tmp_path / "here", jobs=1)
    assert_same(tmp_path / "there", tmp_path / "here")
    assert len(opened) == 1
