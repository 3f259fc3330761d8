"""The kept answer of a large folder. The oracle is the same command where no answer is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import bnbench
from bnbench.cli.app import app
from bnbench.results import unchanged
from bnbench.results.files import ANSWER
from tests.tiny_study import TINY

Edit = Callable[[Path], object]
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "whole"
    bnbench.compare({**TINY, "seeds": 3}, output=folder)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose answer to `report` is kept."""
    monkeypatch.setattr(unchanged, "LEAST_RUNS", 1)
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    report(copy)
    assert (copy / ANSWER).is_file()
    return copy


def report(folder: Path, *words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["report", str(folder), *words], env=environment)


def computed(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    with monkeypatch.context() as patched:
        patched.setattr(unchanged, "LEAST_RUNS", 10**9)
        return report(folder, *words)


def numbers(folder: Path) -> list[str]:
    """summary.csv, which the command writes again."""
    return (folder / "summary.csv").read_text().splitlines()


def test_what_nothing_has_changed_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = computed(folder, monkeypatch)
    report(folder)

    def read(*_: object) -> None:
        raise AssertionError("the runs are read")

    monkeypatch.setattr("bnbench.api.several.load_folders", read)
    again = report(folder)
    assert (again.stdout, again.exit_code) == (before.stdout, before.exit_code)
    narrow = report(folder, COLUMNS="40").stdout.splitlines()
    assert max(len(line) for line in narrow if str(folder) not in line) <= 40
    for other in (["--lang", "cs"], ["--fail-if", "batch.test_accuracy < 2"]):
        assert isinstance(report(folder, *other).exception, AssertionError)


def _other_number(folder: Path) -> None:
    path = sorted(folder.glob("runs/*/seed-0/run.json"))[0]
    values = json.loads(path.read_text())
    values["final"]["test_loss"] = 99.5
    path.write_text(json.dumps(values))


def _same_size_and_time(folder: Path) -> None:
    import os

    path = sorted(folder.glob("runs/*/seed-1/run.json"))[0]
    times, text = path.stat(), path.read_text()
    place = text.index('"test_loss": ') + len('"test_loss": ') + 3
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _cut(folder: Path) -> None:
    path = sorted(folder.glob("runs/*/seed-2/run.json"))[0]
    path.write_bytes(path.read_bytes()[:40])


def _gone(folder: Path) -> None:
    shutil.rmtree(sorted(folder.glob("runs/*/seed-2"))[0])


def _other_plan(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    plan["primary"] = "test_loss"
    (folder / "plan.json").write_text(json.dumps(plan))


@pytest.mark.parametrize(
    "edit",
    [
        _same_size_and_time,
        *(pytest.param(each, marks=SLOW) for each in (_other_number, _cut, _gone, _other_plan)),
    ],
)
def test_after_any_edit_the_answer_is_computed(
    folder: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(folder)
    shown = report(folder)
    wanted = computed(folder, monkeypatch)
    assert (shown.stdout, shown.stderr, shown.exit_code) == (wanted.stdout, wanted.stderr, wanted.exit_code)
    assert shown.exception is None or isinstance(shown.exception, SystemExit)


@SLOW
@pytest.mark.parametrize("name", ["summary.json", "summary.csv", "report.html"])
def test_a_file_of_the_summary_that_is_gone_is_written_again(folder: Path, name: str) -> None:
    before = numbers(folder)
    (folder / name).unlink()
    report(folder)
    assert (folder / name).is_file()
    assert numbers(folder) == before


@SLOW
@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1, "answers": 3}'])
def test_a_damaged_kept_answer_is_not_used(
    folder: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ANSWER).write_text(content)
    assert report(folder).stdout == computed(folder, monkeypatch).stdout


@SLOW
def test_a_finished_study_is_not_trained_and_not_read_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "LEAST_RUNS", 1)
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps({**TINY, "seeds": 3}))
    words = ["compare", str(study), "--output", str(tmp_path / "out")]
    CliRunner().invoke(app, words)
    first = CliRunner().invoke(app, words)
    second = CliRunner().invoke(app, words)
    assert (second.stdout, second.exit_code) == (first.stdout, 0)
    _gone(tmp_path / "out")
    third = CliRunner().invoke(app, words)
    assert third.exit_code == 0
    assert len(list((tmp_path / "out").glob("runs/*/seed-2"))) == len(list((tmp_path / "out").glob("runs/*")))
