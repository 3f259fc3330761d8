"""A results folder holds the answer to one question: another one is refused, and nothing in the folder is touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnbench.base.errors import ResultsError
from bnbench.results import ResultsFolder
from bnbench.study import Study, Vocabulary, load_study
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.records import RunRecord

STUDY = """
name: s
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 2
seeds: 2
variants: {a: {}, b: {norm: batch}}
"""

Plan = Callable[..., tuple[Study, list[RunSpec]]]


@pytest.fixture
def plan(tmp_path: Path, vocabulary: Vocabulary) -> Plan:
    def made(*overrides: str, provenance: Any = None) -> tuple[Study, list[RunSpec]]:
        (tmp_path / "s.yaml").write_text(STUDY)
        study = load_study(tmp_path / "s.yaml", overrides, vocabulary)
        facts = {"data": "d1", "plugins": [], "test_sets": {"own": "e1"}} | (provenance or {})
        return study, make_plan(study, lambda settings: facts)

    return made


def finished(run: RunSpec, **changes: Any) -> RunRecord:
    metrics = {"val_loss": 0.5}
    values = {"outcome": "finished", "final": metrics, "best": metrics} | changes
    if values["outcome"] == "crashed":
        values |= {"final": {}, "best": {}}
    return RunRecord(run.variant, run.setting, run.seed, run.cell, "none", **values)  # type: ignore[arg-type]


@pytest.fixture
def answered(tmp_path: Path, plan: Plan) -> ResultsFolder:
    """A folder with one finished run of every variant."""
    study, runs = plan()
    folder = ResultsFolder(tmp_path / "out")
    folder.open_for(study, runs)
    for run in runs:
        folder.save(run, finished(run, outcome="stuck_at_chance"), None)
    return folder


def content(folder: ResultsFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()}


SAME = {
    "the same study": [],
    "more seeds": ["seeds=5"],
    "fewer seeds": ["seeds=1"],
    "other seeds": ["seeds=[7, 8]"],
    "one variant more": ["variants.c.norm=layer"],
    "another description": ["description=clearer words"],
    "another target": ["target={metric: val_accuracy, value: 0.5}"],
    "another primary metric": ["primary=test_loss"],
    "a margin": ["margin={metric: test_accuracy, value: 0.01}"],
    "another baseline": ["baseline=b"],
    "another engine": ["engine=sequential"],
}


@pytest.mark.parametrize("overrides", SAME.values(), ids=SAME.keys())
def test_the_same_question_stays_in_its_folder(
    overrides: list[str], answered: ResultsFolder, plan: Plan
) -> None:
    answered.open_for(*plan(*overrides))


OTHER: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "epochs": (["epochs=20"], {}, ["epochs: 2 there, 20 now"]),
    "an option": (["model.hidden=[8, 8]"], {}, ["model.hidden: [8] there, [8, 8] now"]),
    "another optimizer": (["optimizer={name: adam, lr: 0.1}"], {}, ["optimizer: sgd there, adam now"]),
    "of one variant": (["variants.b.norm=layer"], {}, ["variant b: norm: batch there, layer now"]),
    "a sweep": (["sweep={optimizer.lr: [0.1, 1]}"], {}, ["sweep: none there, optimizer.lr=[0.1, 1] now"]),
    "a variant less": (["variants={a: {}}"], {}, ["variant b: only there"]),
    "a variant renamed": (["variants={a: {}, c: {norm: batch}}"], {}, ["variant b: only there"]),
    "another name": (["name=t"], {}, ["name: s there, t now"]),
    "the data": ([], {"data": "d2"}, ["the data has other content"]),
    "a plugin": ([], {"plugins": {"p.py": "1"}}, ["source of p.py: not used there"]),
    "ways of inference": (
        ["evaluate=[{name: precise, samples: 99}]"], {},
        ['evaluate: not set there, ["running", {"name": "precise", "samples": 99}] now'],
    ),
    "the data of a test set": (
        [], {"test_sets": {"own": "e2"}}, ["test_sets.own: its data has other content"],
    ),
    "several at once": (
        ["epochs=3", "batch_size=64"], {"data": "d2"},
        ["batch_size: 32 there, 64 now", "epochs: 2 there, 3 now", "the data has other content"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "provenance", "said"), OTHER.values(), ids=OTHER.keys())
def test_another_question_is_refused_and_nothing_is_touched(
    overrides: list[str], provenance: dict[str, Any], said: list[str], answered: ResultsFolder, plan: Plan
) -> None:
    before = content(answered)
    (answered.path.parent / "out-2").mkdir()
    with pytest.raises(ResultsError) as raised:
        answered.open_for(*plan(*overrides, provenance=provenance))
    lines = [line.strip() for line in str(raised.value).splitlines()]
    named = lines[1 : lines.index("A results folder holds one answer. Nothing in this one was touched.")]
    assert named == said
    assert lines[-1] == f"Fix: --output {answered.path}-3"
    assert content(answered) == before


def test_a_changed_plugin_and_a_changed_sweep_are_named(tmp_path: Path, plan: Plan) -> None:
    folder = ResultsFolder(tmp_path / "out")
    sources = {"plugins": {"p.py": "1", "helper": "2"}}
    study, runs = plan("sweep={optimizer.lr: [0.1, 1]}", provenance=sources)
    folder.open_for(study, runs)
    folder.save(runs[0], finished(runs[0], outcome="stuck_at_chance"), None)
    changed = {"plugins": {"p.py": "1", "helper": "3"}}
    with pytest.raises(ResultsError, match="source of helper: changed since"):
        folder.check_for(*plan("sweep={optimizer.lr: [0.1, 1]}", provenance=changed))
    with pytest.raises(ResultsError, match=r"sweep: optimizer.lr=\[0.1, 1\] there, .*=\[0.1, 10\] now"):
        folder.check_for(*plan("sweep={optimizer.lr: [0.1, 10]}", provenance=sources))
    with pytest.raises(ResultsError, match="sweep"):
        folder.check_for(*plan("sweep={optimizer.lr: [0.1, 1, 10]}", provenance=sources))


def test_where_nothing_was_answered_the_study_may_change(tmp_path: Path, plan: Plan) -> None:
    folder = ResultsFolder(tmp_path / "out")
    study, runs = plan()
    folder.open_for(study, runs)
    folder.open_for(*plan("epochs=3", "variants.b.norm=layer"))  # no run is there
    study, runs = plan("epochs=3")
    folder.open_for(study, runs)
    for run in runs:
        outcome = "crashed" if run.variant == "b" else "stuck_at_chance"
        folder.save(run, finished(run, outcome=outcome), None)
    folder.open_for(*plan("epochs=3", "variants.b.norm=layer"))  # what crashed is free to change
    with pytest.raises(ResultsError, match="epochs: 3 there, 4 now"):
        folder.open_for(*plan("epochs=4"))


def test_runs_that_were_copied_and_half_written_files_are_not_a_stranger_s(
    answered: ResultsFolder, tmp_path: Path, plan: Plan
) -> None:
    new = ResultsFolder(tmp_path / "new")
    shutil.copytree(answered.path / "runs", new.path / "runs")
    (new.path / ".plan.json.0a1b2c3d.writing").write_text('{"half')
    study, runs = plan("epochs=2")
    new.open_for(study, runs)
    assert all(new.has(run) for run in runs)
    assert sorted(path.name for path in new.path.iterdir()) == ["plan.json", "runs", "study.yaml"]
    for name in ("notes.txt", "study.yaml", "runs"):
        theirs = tmp_path / f"theirs {name}"
        theirs.mkdir()
        (theirs / name).mkdir() if name == "runs" else (theirs / name).write_text("mine")
        if name == "runs":
            (theirs / name / "tensorboard").mkdir()
        with pytest.raises(ResultsError, match=f"not empty and holds no results of bnbench .but {name}"):
            ResultsFolder(theirs).open_for(study, runs)
        assert [path.name for path in theirs.iterdir()] == [name]


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("", True),
        ('{\n "schema_version": 1,\n "name": "s', True),
        ('{"plan": "mine"}', False),
        ("[1]", False),
    ],
)
def test_a_plan_that_was_cut_is_written_again_and_another_s_file_is_not(
    text: str, mended: bool, tmp_path: Path, plan: Plan
) -> None:
    folder = ResultsFolder(tmp_path / "out")
    folder.path.mkdir()
    (folder.path / "plan.json").write_text(text)
    if mended:
        folder.open_for(*plan())
        assert json.loads((folder.path / "plan.json").read_text())["name"] == "s"
        return
    with pytest.raises(ResultsError, match="remove that file if it is of no use, or --output"):
        folder.open_for(*plan())
    assert (folder.path / "plan.json").read_text() == text


def test_a_kill_while_a_folder_is_opened_is_no_obstacle(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every call that changes the disk: the same command goes on."""
    study, runs = plan()
    instant, ended = 0, False
    while not ended:
        instant += 1
        folder = ResultsFolder(tmp_path / f"out{instant}")
        with monkeypatch.context() as patch:
            ended = not _stops_at(instant, lambda made=folder: made.open_for(study, runs), patch)
        folder.open_for(study, runs)
        assert sorted(os.listdir(folder.path)) == ["plan.json", "study.yaml"]
    assert instant > 6


class Killed(BaseException):
    """Nothing that is cleaned up after a kill is cleaned up here, as unlink goes nowhere too."""


def _stops_at(instant: int, work: Callable[[], None], patch: pytest.MonkeyPatch) -> bool:
    calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= instant:
                raise Killed
            return function(*words, **options)

        return call

    patch.setattr(os, "fsync", counted(os.fsync))
    for name in ("replace", "mkdir", "unlink", "open"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    try:
        work()
    except Killed:
        return True
    return False
