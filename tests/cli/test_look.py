"""`bnbench look`: what it prints, what it writes, and that it leaves the training as it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bnbench
from bnbench.cli.app import app
from tests.tiny_study import TINY

STUDY = """
dataset: digits
max_train_samples: 128
max_eval_samples: 64
model: {name: mlp, hidden: [8, 8, 8]}
optimizer: {name: sgd, lr: 0.1}
batch_size: 32
epochs: 2
seeds: 3
variants: {none: {norm: none}, batch: {norm: batch}}
"""
FIGURES = [
    "inside_beta", "inside_gamma", "inside_gradients_first", "inside_gradients_last", "inside_strips_post",
    "inside_strips_pre", "inside_unit",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that was looked at once."""
    folder = tmp_path_factory.mktemp("look")
    (folder / "s.yaml").write_text(STUDY)
    code, _ = look(folder, "--quiet")
    assert code == 0
    return folder


def look(place: Path, *words: str, columns: int = 80) -> tuple[int, str]:
    result = CliRunner().invoke(
        app, ["look", str(place / "s.yaml"), "-o", str(place / "out"), *words], env={"COLUMNS": str(columns)}
    )
    return result.exit_code, result.stdout


def test_it_prints_the_layers_side_by_side_and_where_the_files_are(place: Path) -> None:
    code, text = look(place)
    assert code == 0
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("Step")] == ["Step 0", "Step 8"]
    heads = [next(i for i, line in enumerate(lines) if line.startswith("layer")) + row for row in (0, 1)]
    assert lines[heads[0]].split()[:5] == ["layer", "std", "std", "dead", "dead"]
    assert lines[heads[1]].split()[:4] == ["none", "batch", "none", "batch"]
    assert sum(line.startswith("2 blocks.1") for line in lines) == 2
    ends = " ".join(text.split()).partition("Figures: ")[2]
    assert ends.startswith(f"{len(FIGURES)} in ")
    assert [Path(word).name for word in ends.split() if "/" in word] == [
        "figures",
        "probes.csv",
        "report.html",
    ]


def test_the_printed_numbers_are_those_of_probes_csv(place: Path) -> None:
    _, text = look(place)
    with (place / "out" / "probes.csv").open() as file:
        rows = list(csv.DictReader(file))
    stds = [
        float(row["value"])
        for row in rows
        if (row["variant"], row["step"], row["layer"], row["quantity"])
        == ("none", "0", "blocks.1", "post_std")
    ]
    assert len(stds) == 3
    first = next(line for line in text.splitlines() if line.startswith("2 blocks.1"))
    assert float(first.split()[2]) == pytest.approx(sum(stds) / 3, rel=6e-3)


@pytest.mark.slow
def test_figures_are_written_beside_or_where_they_are_wanted(place: Path, tmp_path: Path) -> None:
    assert sorted(path.stem for path in (place / "out" / "figures").iterdir()) == FIGURES
    code, _ = look(place, "--figures", str(tmp_path / "plots"), "--figure-format", "pdf", "--quiet")
    assert code == 0
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".pdf"}


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 40])
def test_no_line_is_wider_than_the_screen(place: Path, columns: int) -> None:
    _, text = look(place, columns=columns)
    paths = [line for line in text.splitlines() if str(place) in line or "/" in line]
    assert all(len(line) <= columns for line in text.splitlines() if line not in paths)


@pytest.mark.slow
def test_a_document_holds_the_inside_alone(place: Path) -> None:
    code, text = look(place, "--format", "json")
    assert code == 0
    titles = [section["title"] for section in json.loads(text)["sections"]]
    assert titles[:2] == ["Inside the network", "Inside the network: indices"]
    code, text = look(place, "--tables", "probes")
    assert "Inside the network: indices" in text
    assert "Figures:" not in text


def test_the_report_and_the_summary_hold_it(place: Path) -> None:
    values = json.loads((place / "out" / "summary.json").read_text())["inside"]
    assert {index["index"] for index in values["indices"]} >= {"drift", "dead_share", "update_ratio"}
    assert {row["variant"] for row in values["comparisons"]} == {"batch"}
    assert '<h2 id="inside">' in (place / "out" / "report.html").read_text()
    shown = CliRunner().invoke(app, ["report", str(place / "out"), "--tables", "inside,probes"])
    assert "Inside the network" in shown.stdout


@pytest.mark.slow
def test_it_trains_what_compare_trains(place: Path, tmp_path: Path) -> None:
    """The same losses with and without a look."""
    (tmp_path / "s.yaml").write_text(STUDY)
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "s.yaml"), "-o", str(tmp_path / "out"), "-q"])
    assert done.exit_code == 0
    plain, looked = (json.loads((p / "out" / "summary.json").read_text()) for p in (tmp_path, place))
    finals = [
        [run["final"] for variant in values["variants"] for run in variant["runs"]]
        for values in (plain, looked)
    ]
    assert finals[0] == finals[1]
    assert "inside" not in plain
    assert not (tmp_path / "out" / "probes.csv").exists()


@pytest.mark.slow
def test_the_studys_own_probe_counts(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STUDY + "probe: {at: [0], every: 1000, what: [gradients]}\n")
    code, text = look(tmp_path, "seeds=1")
    assert code == 0
    with (tmp_path / "out" / "probes.csv").open() as file:
        quantities = {row["quantity"] for row in csv.DictReader(file)}
    assert "gradient_norm" in quantities
    assert "pre_std" not in quantities
    assert "std" not in text


@pytest.mark.slow
def test_a_probe_on_the_command_line_counts(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STUDY)
    code, text = look(tmp_path, "seeds=1", "epochs=0", "probe={what: [gradients]}")
    assert (code, "gradient" in text, "std" in text) == (0, True, False)
    assert "Step 0" in text
    code, text = look(tmp_path, "seeds=1", "epochs=0", "probe={what: [weights]}", "-o", str(tmp_path / "w"))
    assert (code, "No run has a deviation of activations" in text) == (0, True)
    code, _ = look(
        tmp_path,
        "seeds=1",
        "epochs=1",
        "probe.at=[0, 2]",
        "probe.every=1000",
        "--quiet",
        "-o",
        str(tmp_path / "b"),
    )
    with (tmp_path / "b" / "probes.csv").open() as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"0", "2", "4"}


@pytest.mark.parametrize(
    ("words", "code"),
    [(["variants=5"], 1), (["probe.at=[900]"], 1), (["--figure-format", "gif"], 2), (["another.yaml"], 2)],
)
def test_mistakes_are_told_before_training(tmp_path: Path, words: list[str], code: int) -> None:
    (tmp_path / "s.yaml").write_text(STUDY)
    result = CliRunner().invoke(app, ["look", str(tmp_path / "s.yaml"), "-o", str(tmp_path / "out"), *words])
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.slow
def test_from_python(tmp_path: Path) -> None:
    study: dict[str, Any] = {**TINY, "seeds": 2}
    comparison = bnbench.look(study, output=tmp_path / "tiny")
    assert {"index", "variant", "mean", "effect", "shown"} <= set(comparison.inside[0])
    steps = {row["step"] for row in comparison.probes}
    assert min(steps) == 0
    assert "inside_strips_pre" in comparison.figures
    assert bnbench.load(tmp_path / "tiny").inside == comparison.inside


def test_check_says_what_the_default_probe_costs(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STUDY)
    plain, probed = (
        CliRunner().invoke(app, ["check", str(tmp_path / "s.yaml"), *more]) for more in ([], ["--probe"])
    )
    assert plain.exit_code == probed.exit_code == 0
    assert "Probes:" not in plain.stdout
    assert "Probes: activations, gradients, weights, gamma_beta, effective_lr:" in " ".join(
        probed.stdout.split()
    )
