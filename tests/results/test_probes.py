"""probes.csv: what is written is read back, a damaged file is named and loses no run, and a run takes it along."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnbench.base.errors import UnknownNameError
from bnbench.cli.app import app
from bnbench.results.probes import Probed, probes_text, read_probes
from bnbench.results.reader import load_folder
from bnbench.study.records import ProbeRow, RunRecord

RUN = RunRecord(variant="v", setting={}, seed=0, cell="c", norm="none", outcome="finished", steps=10)
ROWS = (
    ProbeRow(0, "blocks.0", "depth", "", 1.0),
    ProbeRow(0, "blocks.0", "hidden", "", 1.0),
    ProbeRow(0, "blocks.1", "depth", "", 2.0),
    ProbeRow(0, "blocks.1", "hidden", "", 1.0),
    ProbeRow(0, "head", "depth", "", 3.0),
    ProbeRow(0, "head", "hidden", "", 0.0),
    ProbeRow(0, "blocks.0", "pre_std", "", 0.25),
    ProbeRow(0, "blocks.1", "pre_std", "", 0.75),
    ProbeRow(0, "head", "pre_std", "", 3.0),
    ProbeRow(10, "blocks.0", "pre_std", "", 1e-7),
    ProbeRow(10, "blocks.1", "pre_std", "", math.nan),
    ProbeRow(10, "blocks.0", "pre_histogram", "-50", 12.0),
    ProbeRow(10, "blocks.0", "pre_histogram", "nan", 1.0),
    ProbeRow(10, 'odd, "name"', "pre_std", "", -math.inf),
    ProbeRow(10, "network", "loss", "", 0.5),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "probes.csv"
    assert read_probes(path, RUN) is None
    path.write_text(probes_text(ROWS))
    read = read_probes(path, RUN)
    assert str(read) == str(ROWS)  # NaN is NaN
    assert path.read_text().splitlines()[:2] == ["step,layer,quantity,unit,value", "0,blocks.0,depth,,1"]
    assert probes_text([ProbeRow(1, "a", "b", "", 1 / 3)]).splitlines()[1] == "1,a,b,,0.333333"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its columns are missing"),
        ("step,layer\n0,a\n", "its columns are step, layer"),
        ("step,layer,quantity,unit,value\n0,a,b,,1\n0,a,b,,x\n", "line 3 is no step"),
        ("step,layer,quantity,unit,value\n0,a,b\n", "line 2 is no step"),
        (
            "step,layer,quantity,unit,value\n11,a,b,,1\n",
            "line 2 is of step 11, and the run has steps 0 to 10",
        ),
        ("step,layer,quantity,unit,value\n-1,a,b,,1\n", "line 2 is of step -1"),
        ("step,layer,quantity,unit,value\n0,,b,,1\n", "line 2"),
        ('step,layer,quantity,unit,value\n0,"a', "line"),
        ("step,layer,quantity,unit,value\n0,a\0,b,,1\n0,a", "line"),
    ],
)
def test_damage_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "probes.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_probes(path, RUN)


def test_a_number_is_found_by_its_layer_and_step() -> None:
    probed = Probed(ROWS)
    assert probed.layers.depths == {"blocks.0": 1, "blocks.1": 2, "head": 3}
    assert probed.value("pre_std", 1, 0) == 0.25
    assert probed.value("pre_std", "2", 0) == probed.value("pre_std", "last", 0) == 0.75
    assert probed.value("pre_std", "head", 0) == probed.value("pre_std", 3, 0) == 3.0
    assert probed.value("pre_std", "mean", 0) == 0.5
    assert probed.value("pre_std", "blocks.0", "last") == 1e-7
    assert probed.value("loss", "network", 10) == 0.5
    assert math.isnan(probed.value("pre_std", "last", 10))
    assert math.isnan(probed.value("pre_std", "head", 7))
    assert probed.units("pre_histogram", "blocks.0", 10) == {"-50": 12.0, "nan": 1.0}
    assert probed.steps("pre_std") == (0, 10)
    with pytest.raises(UnknownNameError, match='unknown layer "9"'):
        probed.value("pre_std", 9, 0)
    with pytest.raises(UnknownNameError, match='unknown quantity "pre_sdt"'):
        probed.value("pre_sdt", 1, 0)


STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
max_train_samples: 200
seeds: 1
probe: {at: [0, 3]}
variants: {a: {}, b: {norm: batch}}
"""


def compare(*words: str) -> str:
    done = CliRunner().invoke(app, ["compare", *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_a_run_keeps_its_probes_wherever_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(STUDY)
    compare("s.yaml", "-q")
    (first,) = Path("results/s/runs").glob("b-*/seed-0/probes.csv")
    content = first.read_bytes()
    assert content.count(b"\n") > 200
    results = load_folder(Path("results/s"))
    (cell,) = [cell for cell in results.cells if cell.variant == "b"]
    (run,) = cell.records
    rows = results.probes(cell, run)
    assert rows is not None
    assert {row.step for row in rows} == {0, 3, 7}
    assert run.probe_seconds > 0
    # a finished run of another folder is taken, with all of its files
    compare("s.yaml", "metrics=macro_f1", "-q")
    (taken,) = Path("results").glob("s+*/runs/b-*/seed-0/probes.csv")
    assert taken.read_bytes() == content
    # damaged: the result is there with a warning, and the next compare trains the run again
    first.write_text("step,layer,quantity,unit,value\n0,a,b\n")
    shutil.rmtree(taken.parents[3])
    assert "its probes can't be read: line 2 is no step" in " ".join(compare_report().split())
    compare("s.yaml", "-q")
    assert first.read_bytes() == content


def compare_report() -> str:
    done = CliRunner().invoke(app, ["report", "results/s"])
    assert done.exit_code == 0
    return done.output


@pytest.mark.slow
def test_a_run_without_probes_is_as_it_was_before_there_were_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(STUDY)
    compare("s.yaml", "probe=false", "--output", "plain", "-q")
    (run,) = Path("plain/runs").glob("b-*/seed-0")
    assert not (run / "probes.csv").exists()
    values = json.loads((run / "run.json").read_text())
    assert "probe_seconds" not in values
    assert "inside" not in values
    assert "probe" not in Path("plain/study.yaml").read_text()


def test_a_run_that_is_not_finite_is_read_back_with_its_indices(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STUDY.replace("lr: 0.1", "lr: 1e30"))
    compare(str(tmp_path / "s.yaml"), "--output", str(tmp_path / "out"), "-q")
    results = load_folder(tmp_path / "out")
    assert results.warnings == ()
    outcomes = {run.outcome: run.inside for cell in results.cells for run in cell.records}
    assert math.isnan(outcomes["not_finite"]["update_ratio"])
