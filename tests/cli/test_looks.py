"""`seeds: auto` from the command line: what is trained, what a stop in the middle changes, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bnbench.api import carrying_out
from bnbench.cli.app import app
from bnbench.study.events import Event, RunEnded

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
max_train_samples: 200
seeds: {auto: true, max: 12}
variants:
  none: {norm: none}
  batch: {norm: batch}
  layer: {norm: layer}
"""
STUDIES = Path("results")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(STUDY)


def bnbench(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


def told(folder: str = "results/s") -> dict[str, Any]:
    values: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text())
    return values


def about_looks(folder: str = "results/s") -> list[str]:
    """The cautions about earlier looks."""
    return [caution for caution in told(folder)["cautions"] if "a look at" in caution]


def decisions(folder: str = "results/s") -> tuple[list[Any], list[Any]]:
    """Where every variant stopped, and what its comparisons say, but the clock's numbers."""
    values = told(folder)
    return values["stops"], values["comparisons"]


def num_runs() -> dict[str, int]:
    return {
        path.name.partition("-")[0]: len(list(path.iterdir())) for path in Path("results/s/runs").iterdir()
    }


def test_seeds_are_added_until_all_is_decided_and_report_says_the_same() -> None:
    code, said = bnbench("compare", "s.yaml")
    assert code == 0
    values = told()
    assert values["looks"] == [5, 8, 12]
    stops = {stop["variant"]: stop for stop in values["stops"]}
    assert num_runs() == {name: stop["seeds"] for name, stop in stops.items()}
    assert stops["none"]["seeds"] == max(stop["seeds"] for stop in stops.values())
    assert "Look at 5 of up to 12 seeds: 15 runs of none, batch, layer." in said
    before = decisions()
    assert bnbench("report", "results/s")[0] == 0
    assert decisions() == before
    code, said = bnbench("compare", "s.yaml")  # nothing is left to do
    assert "Look at" not in said
    assert decisions() == before


@pytest.mark.parametrize("stop_after", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (9, 17))])
def test_interrupted_and_gone_on_it_is_the_same_study(
    monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    assert bnbench("compare", "s.yaml")[0] == 0
    whole, runs = decisions(), num_runs()
    shutil.rmtree("results")
    carry_out, ended = carrying_out.carry_out, []

    def interrupted(work: Any, runs: Any, listener: Any) -> None:
        def listen(event: Event) -> None:
            listener(event)
            ended.extend([event] if isinstance(event, RunEnded) else [])
            if len(ended) == stop_after:
                raise KeyboardInterrupt

        carry_out(work, runs, listen)

    monkeypatch.setattr(carrying_out, "carry_out", interrupted)
    assert bnbench("compare", "s.yaml", "-q")[0] == 130
    assert told()["comparisons"][0]["verdict"] != whole[1] or stop_after > 15
    monkeypatch.setattr(carrying_out, "carry_out", carry_out)
    assert bnbench("compare", "s.yaml", "-q")[0] == 0
    assert decisions() == whole
    assert num_runs() == runs


@pytest.mark.slow
def test_force_trains_the_looks_anew() -> None:
    assert bnbench("compare", "s.yaml", "-q")[0] == 0
    before = decisions()
    kept = {path: path.stat().st_mtime_ns for path in Path("results/s/runs").glob("*/*/run.json")}
    assert bnbench("compare", "s.yaml", "-q", "--force")[0] == 0
    assert decisions() == before
    assert all(path.stat().st_mtime_ns > time for path, time in kept.items())


@pytest.mark.slow
def test_seeds_that_are_added_after_a_look_are_reported_as_that() -> None:
    assert bnbench("compare", "s.yaml", "-q", "seeds=3")[0] == 0
    assert not about_looks()
    assert bnbench("compare", "s.yaml", "seeds=5")[0] == 0
    (caution,) = about_looks()
    assert caution.startswith("2 more seeds after a look at 3: not a 5 % test")
    _code, said = bnbench("report", "results/s")  # the folder keeps it
    assert "2 more seeds after a look at 3" in " ".join(said.split())
    assert bnbench("compare", "s.yaml", "-q")[0] == 0
    cautions = about_looks()
    assert [caution.partition(":")[0] for caution in cautions] == [
        "the present looks were planned after a look at 3 seeds (a fixed number)",
        "the present looks were planned after a look at 5 seeds (a fixed number)",
    ]


@pytest.mark.slow
def test_a_change_that_adds_nothing_after_a_look_is_none() -> None:
    assert bnbench("compare", "s.yaml", "-q", "seeds=2")[0] == 0
    assert bnbench("compare", "s.yaml", "-q", "seeds=5")[0] == 0  # two seeds have no verdict
    Path("s.yaml").write_text(f"{STUDY}\ntarget: {{metric: val_loss, value: 1}}\n")
    assert bnbench("compare", "s.yaml", "-q", "seeds=5")[0] == 0
    assert not about_looks()
    Path("s.yaml").write_text(f"{STUDY}\nprimary: val_loss\n")
    assert bnbench("compare", "s.yaml", "-q", "seeds=5")[0] == 0
    assert about_looks()[0].startswith("val_loss is judged after a look at test_accuracy (5 seeds)")


@pytest.mark.slow
def test_a_look_in_the_folder_that_the_runs_come_from_counts() -> None:
    assert bnbench("compare", "s.yaml", "-q", "seeds=3")[0] == 0
    assert bnbench("compare", "s.yaml", "-q", "seeds=3", "primary=val_loss")[0] == 0
    (caution,) = about_looks("results/s+primary=val_loss")
    assert caution.startswith("val_loss is judged after a look at test_accuracy (3 seeds)")
    assert not about_looks()


def test_more_looks_after_the_last_are_reported() -> None:
    assert bnbench("compare", "s.yaml", "-q", "seeds={auto: true, max: 5}")[0] == 0
    assert bnbench("compare", "s.yaml", "-q", "seeds={auto: true, max: 8}")[0] == 0
    assert "planned after a look at 5 seeds (seeds: auto, up to 5)" in about_looks()[0]


def test_a_variant_that_joins_or_leaves_after_a_look_is_reported() -> None:
    fewer = STUDY.replace("  layer: {norm: layer}\n", "")
    Path("s.yaml").write_text(fewer)
    assert bnbench("compare", "s.yaml", "-q")[0] == 0
    Path("s.yaml").write_text(STUDY)
    assert bnbench("compare", "s.yaml", "-q")[0] == 0
    (caution,) = about_looks()
    assert caution.startswith("layer joined the comparisons after a look at ")
    assert bnbench("compare", "s.yaml", "-q")[0] == 0  # it is said again, and once
    assert about_looks() == [caution]


@pytest.mark.slow
def test_a_fixed_number_of_seeds_knows_which_comparisons_were_seen() -> None:
    Path("s.yaml").write_text(STUDY.replace("seeds: {auto: true, max: 12}", "seeds: 3"))
    assert bnbench("compare", "s.yaml", "-q")[0] == 0
    added = ["variants.rms={norm: rms}"]
    assert bnbench("compare", "s.yaml", "-q", *added)[0] == 0
    assert not about_looks()  # Holm's correction counts it
    checked = [*added, "variants.layer={norm: layer, role: check, check_of: batch}"]
    assert bnbench("compare", "s.yaml", "-q", *checked)[0] == 0
    (caution,) = about_looks("results/s+variants.layer.check_of=batch")
    assert caution.startswith("layer left the comparisons after a look at 3 seeds: not a 5 % test.")
    assert bnbench("compare", "s.yaml", "-q", *added, "baseline=batch")[0] == 0
    cautions = about_looks("results/s+baseline=batch")
    assert "batch is the baseline after a look at 3 seeds against none: not a 5 % test." in cautions[0]


@pytest.mark.slow
def test_a_variant_that_becomes_one_setting_of_a_sweep_has_not_left() -> None:
    Path("s.yaml").write_text(STUDY.replace("seeds: {auto: true, max: 12}", "seeds: 3"))
    assert bnbench("compare", "s.yaml", "-q")[0] == 0
    code, output = bnbench("compare", "s.yaml", "sweep={optimizer.lr: [0.1, 0.01]}")
    assert code == 0
    assert "all copied from results/s" in output
    assert not about_looks("results/s+sweep.optimizer.lr=0.1,0.01")


@pytest.mark.slow
def test_a_sweep_is_one_family_of_looks() -> None:
    assert bnbench("compare", "s.yaml", "-q", "sweep={optimizer.lr: [0.03, 0.3]}")[0] == 0
    values = told("results/s+sweep.optimizer.lr=0.03,0.3")
    judged = [c for c in values["comparisons"] if (c["metric"], c["at"]) == ("test_accuracy", "final")]
    assert [found["family"] for found in judged] == [4] * 4
    by_setting: dict[str, dict[str, int]] = {}
    for stop in values["stops"]:
        by_setting.setdefault(str(stop["setting"]), {})[stop["variant"]] = stop["seeds"]
    best = [c for best in values["best_settings"] for c in best["comparisons"]]
    assert {found["verdict"] for found in best} == {
        None
    }  # the looks are at the comparisons at the same setting
    for stops in by_setting.values():  # a setting's baseline goes on while a variant there does
        assert stops["none"] == max(stops.values())


def test_what_is_refused() -> None:
    code, said = bnbench("compare", "s.yaml", "seeds={auto: true, max: 4}")
    assert (code, "seeds.max: 4 is below 5" in said) == (1, True)
    code, said = bnbench("train", "s.yaml")
    assert (code, "there is one variant (train takes one)" in said) == (1, True)
    assert not STUDIES.exists()


def test_check_shows_the_plan() -> None:
    code, said = bnbench("check", "s.yaml")
    assert code == 0
    assert "3 variants x 5 to 12 seeds = 15 to 36 runs" in " ".join(said.split())
    assert "Looks at 5, 8 and 12 seeds" in said
