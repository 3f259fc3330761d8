"""Overrides have folders of their own, and a finished run is never trained a second time. Oracle: mtimes and bytes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bnbench.cli.app import app

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
max_train_samples: 200
seeds: 2
variants: {a: {}, b: {norm: batch}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("beside")
    (root / "s.yaml").write_text(STUDY)
    done = CliRunner().invoke(
        app, ["compare", str(root / "s.yaml"), "-q", "--output", str(root / "results/s")]
    )
    assert done.exit_code == 0, done.output
    return root


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(shutil.copytree(trained, tmp_path / "work"))
    monkeypatch.chdir(root)
    return root


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def compare(*words: str) -> Result:
    done = run("compare", "s.yaml", *words)
    assert done.exit_code == 0, done.output
    return done


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


def folders() -> set[str]:
    return set(os.listdir("results"))


def contents(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def record(folder: str, variant: str, seed: int = 0) -> dict[str, Any]:
    (path,) = Path(folder).glob(f"runs/{variant}-*/seed-{seed}/run.json")
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_an_override_leaves_the_study_s_folder_as_it_is(work: Path) -> None:
    before = contents("results/s")
    done = compare("epochs=2")
    assert folders() == {"s", "s+epochs=2"}
    assert contents("results/s") == before
    assert "finished already" not in said(done)
    assert "4 of 4 runs are finished already;" in said(compare("epochs=2.0"))
    assert "4 of 4 runs are finished already;" in said(compare())
    assert folders() == {"s", "s+epochs=2"}


def test_seeds_and_added_variants_stay(work: Path) -> None:
    compare("seeds=3", "variants.c.norm=layer")
    assert folders() == {"s"}


def test_the_study_s_own_command_goes_on_after_a_variant_was_added(work: Path) -> None:
    compare("seeds=3", "variants.c.norm=layer")
    done = said(compare("seeds=3"))
    assert "results/s also contains 3 runs with other settings or seeds; they are not shown." in done
    cautions = json.loads(Path("results/s/summary.json").read_text())["cautions"]
    assert any("c left the comparisons after a look at 3 seeds: not a 5 % test." in text for text in cautions)
    assert folders() == {"s"}


def test_runs_of_a_sweep_that_are_finished_beside_it_are_copied(work: Path) -> None:
    """The value of the study itself is one of the sweep's: its runs are there under another label."""
    done = compare("sweep={optimizer.lr: [0.1, 0.2]}")
    assert folders() == {"s", "s+sweep.optimizer.lr=0.1,0.2"}
    text = "4 of 8 runs are finished already (all copied from results/s); --force trains them again."
    assert text in said(done)
    cells = {
        tuple(json.loads(path.read_text())["setting"].items()): json.loads(path.read_text())["final"]
        for path in Path("results/s+sweep.optimizer.lr=0.1,0.2").glob("runs/a-*/seed-0/run.json")
    }
    assert set(cells) == {(("optimizer.lr", 0.1),), (("optimizer.lr", 0.2),)}
    assert cells[("optimizer.lr", 0.1),] == record("results/s", "a")["final"]
    done = run("report", "results/s+sweep.optimizer.lr=0.1,0.2", "--format", "csv")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 9
    assert "Warning" not in done.stderr


def test_a_run_under_another_variant_s_name_is_the_same_run(work: Path) -> None:
    Path("t.yaml").write_text(STUDY.replace("b: {norm: batch}", "normalized: {norm: batch}"))
    done = run("compare", "t.yaml")
    assert "4 of 4 runs are finished already (all copied from results/s)" in said(done)
    copied, original = record("results/t", "normalized", 1), record("results/s", "b", 1)
    assert copied["variant"] == "normalized"
    assert {**copied, "variant": "b"} == original
    files = {path.name for path in Path("results/t").glob("runs/*/seed-1/*")}
    assert files == {path.name for path in Path("results/s").glob("runs/*/seed-1/*")}


def test_force_trains_and_an_output_of_one_s_own_is_left_alone(work: Path) -> None:
    assert "finished already" not in said(compare("primary=test_loss", "--force"))
    assert "finished already" not in said(compare("--output", "results/mine"))
    assert "finished already" not in said(run("compare", "s.yaml", "--output", "elsewhere"))


def test_refresh_takes_runs_of_today_s_circumstances_alone(work: Path) -> None:
    for path in Path("results/s").glob("runs/b-*/seed-*/run.json"):
        values = json.loads(path.read_text())
        values["environment"]["torch"] = "2.1.0"
        path.write_text(json.dumps(values))
    done = compare("primary=test_loss", "--refresh", "changed")
    assert "2 of 4 runs are finished already (all copied from results/s)" in said(done)
    assert record("results/s+primary=test_loss", "b")["environment"]["torch"] != "2.1.0"


def test_runs_of_other_circumstances_are_named_beside_the_verdict(work: Path) -> None:
    """Two folders have the run: the one of today's circumstances comes first. Where there is none, it is said."""
    compare("margin={metric: test_accuracy, value: 0.01}")
    for path in Path("results/s").glob("runs/b-*/seed-*/run.json"):
        values = json.loads(path.read_text())
        values["environment"]["torch"] = "2.1.0"
        path.unlink()
        path.write_text(json.dumps(values))
    compare("primary=test_loss")
    assert record("results/s+primary=test_loss", "b")["environment"]["torch"] != "2.1.0"
    shutil.rmtree("results/s+primary=test_loss")
    shutil.rmtree("results/s+margin=test_accuracy,0.01")
    done = compare("primary=test_loss")
    assert record("results/s+primary=test_loss", "b")["environment"]["torch"] == "2.1.0"
    assert "2.1.0" in done.stdout


@pytest.mark.parametrize("file", ["run.json", "history.csv", "test_samples.safetensors"])
def test_a_damaged_run_is_trained(file: str, work: Path) -> None:
    (path,) = Path("results/s").glob(f"runs/b-*/seed-0/{file}")
    path.write_bytes(b"\xffdamaged")
    done = compare("primary=test_loss")
    assert "3 of 4 runs are finished already (all copied from results/s)" in said(done)
    assert record("results/s+primary=test_loss", "b")["outcome"] != "crashed"


def test_a_run_that_crashed_is_trained(work: Path) -> None:
    for path in Path("results/s").glob("runs/b-*/seed-0/run.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"outcome": "crashed", "final": {}, "best": {}, "error": "x"}))
    assert "3 of 4 runs are finished already" in said(compare("primary=test_loss"))


def test_a_disk_without_links_copies(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*words: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    assert "4 of 4 runs are finished already" in said(compare("primary=test_loss"))
    (copy,) = Path("results/s+primary=test_loss").glob("runs/b-*/seed-0/history.csv")
    (original,) = Path("results/s").glob("runs/b-*/seed-0/history.csv")
    assert copy.read_bytes() == original.read_bytes()
    assert copy.stat().st_ino != original.stat().st_ino


def test_a_disk_that_fills_up_while_a_run_is_copied(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, nothing half-copied, and the same command goes on."""
    link, calls = os.link, 0

    def full(*words: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        link(*words, **options)

    monkeypatch.setattr(os, "link", full)
    done = run("compare", "s.yaml", "primary=test_loss")
    assert done.exit_code == 1
    assert "The disk is full; what was finished before is kept, whole." in said(done)
    names = [path.name for path in Path("results/s+primary=test_loss").glob("runs/*/*")]
    assert names
    assert all(name.startswith("seed-") for name in names)
    monkeypatch.setattr(os, "link", link)
    assert "4 of 4 runs are finished already" in said(compare("primary=test_loss"))


def test_a_run_that_leaves_while_the_command_prepares_is_trained(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnbench.results import folder

    take = folder.ResultsFolder._take

    def gone(self: folder.ResultsFolder, finished: Any) -> bool:
        if finished.run.key == ("b", 0):
            shutil.rmtree(finished.folder)
        return take(self, finished)

    monkeypatch.setattr(folder.ResultsFolder, "_take", gone)
    assert "3 of 4 runs are finished already" in said(compare("primary=test_loss"))
    assert record("results/s+primary=test_loss", "b")["outcome"] != "crashed"


def test_the_copy_outlives_the_original(work: Path) -> None:
    """The files are links: training the original again, or removing it, changes no copy."""
    compare("primary=test_loss")
    before = contents("results/s+primary=test_loss/runs")
    compare("--force")
    assert contents("results/s+primary=test_loss/runs") == before
    shutil.rmtree("results/s")
    assert contents("results/s+primary=test_loss/runs") == before


def test_a_result_that_was_shown_beside_it_counts_as_a_look(work: Path) -> None:
    compare("seeds=3")
    done = compare("seeds=3", "primary=test_loss")
    assert "test_loss is judged after a look at test_accuracy (3 seeds)" in " ".join(done.stdout.split())


def test_an_output_that_answers_another_question_is_refused_with_a_name_to_use(work: Path) -> None:
    before = contents("results/s")
    done = run("compare", "s.yaml", "epochs=2", "--output", "results/s")
    assert done.exit_code == 1
    assert "results/s holds the answer to another question. What differs: epochs: 1 there, 2 now" in said(
        done
    )
    assert "Fix: --output results/s-2" in said(done)
    assert contents("results/s") == before


def test_train_and_several_studies_have_such_names_too(work: Path) -> None:
    assert run("train", "s.yaml", "--variant", "b", "epochs=1").exit_code == 0
    assert run("train", "s.yaml", "--variant", "b", "batch_size=64").exit_code == 0
    assert folders() == {"s", "s-b", "s-b+batch_size=64"}
    Path("t.yaml").write_text(STUDY)
    assert run("compare", "s.yaml", "t.yaml", "batch_size=64", "-q").exit_code == 0
    assert {"s+batch_size=64", "t+batch_size=64", "workloads.json"} <= folders()
    assert run("compare", "s.yaml", "t.yaml", "epochs=2", "-q", "--output", "all").exit_code == 0
    assert set(os.listdir("all")) == {"s+epochs=2", "t+epochs=2", "workloads.json"}


@pytest.mark.slow
def test_the_study_of_a_results_folder_goes_on_there(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare("batch_size=64")
    done = run("compare", "results/s+batch_size=64/study.yaml")
    assert done.exit_code == 0
    assert "4 of 4 runs are finished already;" in said(done)
    assert folders() == {"s", "s+batch_size=64"}
    assert run("compare", "results/s+batch_size=64/study.yaml", "epochs=2", "-q").exit_code == 0
    assert folders() == {"s", "s+batch_size=64", "s+batch_size=64+epochs=2"}
    monkeypatch.chdir("results/s+batch_size=64")
    assert "4 of 4 runs are finished already;" in said(run("compare", "study.yaml"))
    assert "results" not in os.listdir()


def test_a_study_that_was_edited_is_refused_in_its_folder(work: Path) -> None:
    """What its folder answers is not what the file asks now; an override has a folder of its own."""
    Path("s.yaml").write_text(STUDY.replace("epochs: 1", "epochs: 2"))
    done = run("compare", "s.yaml")
    assert done.exit_code == 1
    assert "results/s holds the answer to another question. What differs: epochs: 1 there, 2 now" in said(
        done
    )
    assert "--output results/s-2" in said(done)
    compare("epochs=1")
    assert folders() == {"s", "s+epochs=1"}


def test_folders_with_the_same_runs_are_not_two_workloads(work: Path) -> None:
    """Nothing is merged where nothing is missing: each is to be looked at alone."""
    compare("primary=test_loss")
    done = run("report", "results/s", "results/s+primary=test_loss")
    assert done.exit_code == 1
    assert "hold runs of one study (s), so they are not two workloads" in said(done)
    assert "bnbench merge" not in said(done)
    assert "bnbench report results/s, then bnbench report results/s+primary=test_loss" in said(done)
