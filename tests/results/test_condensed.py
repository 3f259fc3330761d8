"""A folder that keeps study.yaml, summary.json and environment.json alone. Oracle: the same folder with its runs."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import bnbench
from bnbench.analysis.contents import Summary
from bnbench.api.summaries import load_results, summarize_results
from bnbench.base.errors import ResultsError
from bnbench.cli.app import app
from bnbench.results import ResultsFolder

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 2
seeds: 5
target: {metric: val_accuracy, value: 0.6}
variants: {none: {}, batch: {norm: batch}, same: {norm: batch_custom, role: check, check_of: batch}}
sweep: {optimizer.lr: [0.1, 0.3]}
"""
KEPT = ("study.yaml", "summary.json", "environment.json")
ROOT = Path(__file__).parents[2]
#: What git keeps of `results/`: a folder that somebody's own command filled in this checkout has more.
COMMITTED = subprocess.run(
    ["git", "-C", str(ROOT), "ls-files", "results"], capture_output=True, text=True
).stdout.split()
#: Folders of studies, below `results`: those of a collection lie one deeper. Findings have files of their own.
FOLDERS = sorted(
    {str(Path(file).parent.relative_to("results")) for file in COMMITTED if Path(file).name in KEPT}
)
#: Beside them, what a collection keeps.
COLLECTION = "claims.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("condensed")
    (root / "s.yaml").write_text(STUDY)
    done = run("compare", str(root / "s.yaml"), "-q", "--output", str(root / "s"))
    assert done.exit_code == 0, done.output
    return root / "s"


@pytest.fixture
def condensed(whole: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "s"
    folder.mkdir()
    for name in KEPT:
        shutil.copy(whole / name, folder / name)
    return folder


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def summary_of(folder: Path, *gates: str) -> Summary:
    return summarize_results(load_results(ResultsFolder(folder)), gates)


def plain(value: Any) -> Any:
    """Comparable: NaN is equal to NaN, tuples are lists, and 82.0 is 82."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_it_says_the_same_but_for_the_curves(whole: Path, condensed: Path) -> None:
    one, other = summary_of(whole), summary_of(condensed)
    for field in fields(Summary):
        if field.name in ("variants", "warnings", "study"):
            continue
        mine, yours = getattr(one, field.name), getattr(other, field.name)
        if field.name == "limits":  # here they hold the runs' own, too
            mine, yours = one.cautions, other.cautions
        assert plain(yours) == plain(mine), field.name
    for mine, yours in zip(one.variants, other.variants, strict=True):
        assert yours.spreads == mine.spreads
        assert yours.targets == mine.targets
        assert yours.outcomes == mine.outcomes
        assert [replace(r, history=(), step_losses=(), cell="") for r in mine.runs] == [
            replace(r, cell="") for r in yours.runs
        ]
    assert "keeps summary.json alone" in other.warnings[-1]


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown", "latex"])
def test_report_shows_it_and_writes_nothing(format: str, condensed: Path) -> None:
    before = {path.name: path.read_bytes() for path in condensed.iterdir()}
    done = run("report", str(condensed), "--format", format)
    assert done.exit_code == 0, done.output
    assert "this folder keeps summary.json alone" in " ".join(done.output.split())
    assert "batch" in done.stdout
    assert {path.name: path.read_bytes() for path in condensed.iterdir()} == before


def test_the_csv_of_its_runs_is_that_of_the_folder(whole: Path, condensed: Path) -> None:
    assert (
        run("report", str(condensed), "--format", "csv").stdout
        == run("report", str(whole), "--format", "csv").stdout
    )


def test_gates_and_python_know_it(whole: Path, condensed: Path) -> None:
    gate = "batch.test_accuracy not as good as none within 90%"
    for folder in (whole, condensed):
        assert run("report", str(folder), "--fail-if", "batch.test_accuracy < 0.9999", "-q").exit_code == 4
        assert run("report", str(folder), "--fail-if", gate, "-q").exit_code == 0
    loaded, original = bnbench.load(condensed), bnbench.load(whole)
    assert loaded.verdicts == original.verdicts
    assert loaded.runs == original.runs


def test_a_study_goes_on_beside_it(condensed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is overwritten: it holds an answer, and no run to hold the study against."""
    monkeypatch.chdir(condensed.parent)
    before = sorted(os.listdir(condensed))
    done = run("compare", "s/study.yaml", "--output", "s")
    assert done.exit_code == 1
    assert "the folder is not empty" in " ".join(done.stderr.split())
    assert sorted(os.listdir(condensed)) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON"),
        ("[]", "damaged"),
        ('{"schema_version": 1}', "name: Field required"),
        ('{"schema_version": 99, "name": "s", "baseline": "a", "variants": []}', "schema version 99"),
    ],
)
def test_a_damaged_summary_is_named(text: str, words: str, condensed: Path) -> None:
    (condensed / "summary.json").write_text(text)
    done = run("report", str(condensed))
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize("key", ["comparisons", "variants"])
def test_a_summary_whose_parts_do_not_fit_is_named(key: str, condensed: Path) -> None:
    values = json.loads((condensed / "summary.json").read_text())
    del values[key][0]["n" if key == "comparisons" else "targets"]
    (condensed / "summary.json").write_text(json.dumps(values))
    with pytest.raises(ResultsError, match=r"summary\.json of s: damaged, or of another version"):
        summary_of(condensed)


@pytest.mark.parametrize(
    "name", sorted({str(Path(f).parent) for f in COMMITTED if Path(f).name == COLLECTION})
)
def test_the_committed_collections_are_whole(name: str) -> None:
    """Each names the studies beside it, and each study has its claims."""
    studies = json.loads((ROOT / name / COLLECTION).read_text())["studies"]
    assert studies == [
        Path(folder).name for folder in FOLDERS if Path("results") / Path(folder).parent == Path(name)
    ]
    for study in studies:
        assert summary_of(ROOT / name / study).claims


@pytest.mark.parametrize("name", FOLDERS)
def test_the_committed_results_are_condensed_and_can_be_read(name: str, tmp_path: Path) -> None:
    here = {Path(file).name for file in COMMITTED if Path(file).parent == Path("results") / name}
    assert here <= set(KEPT)
    folder = tmp_path / Path(name).name
    folder.mkdir()
    for file in KEPT:
        shutil.copy(ROOT / "results" / name / file, folder)
    summary = summary_of(folder)
    assert summary.name == folder.name
    assert all(run.final for run in summary.runs if run.outcome != "crashed")
