"""`train`, `report`, `check` and `list`, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.api.shipped import shipped_studies
from bnbench.cli.app import app
from bnbench.study import Vocabulary

Run = Callable[..., Result]

STUDY = """
dataset: digits
model: {name: mlp, hidden: [16]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 64
epochs: 2
seeds: 2
variants: {none: {norm: none}, batch: {norm: batch}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "s.yaml").write_text(STUDY)
    return lambda *words: CliRunner().invoke(app, words)


def test_train_one_variant_epoch_by_epoch(run: Run) -> None:
    result = run("train", "s.yaml", "--variant", "batch", "seeds=2", "norm.momentum=0.5")
    assert result.exit_code == 0, result.output
    for line in ("epoch 1/2", "epoch 2/2"):
        assert result.stderr.count(line) == 2
    assert "Report: results/s-batch+norm.momentum=0.5/report.html" in result.stdout
    folder = Path("results/s-batch+norm.momentum=0.5")
    told = json.loads((folder / "summary.json").read_text())
    assert [variant["name"] for variant in told["variants"]] == ["batch"]
    assert told["comparisons"] == []
    assert "momentum: 0.5" in (folder / "study.yaml").read_text()


def test_train_and_compare_give_the_same_numbers(run: Run) -> None:
    run("train", "s.yaml", "--variant", "batch")
    run("compare", "s.yaml", "--force")
    alone = json.loads(Path("results/s-batch/summary.json").read_text())["variants"][0]["runs"]
    together = json.loads(Path("results/s/summary.json").read_text())["variants"][1]["runs"]
    assert [item["final"] for item in alone] == [item["final"] for item in together]


def test_the_resolved_study_runs_the_same_runs_again(run: Run) -> None:
    run("compare", "s.yaml", "seeds=1")
    result = run("compare", "results/s/study.yaml")
    assert "2 of 2 runs are finished already" in result.output


def test_report_needs_no_torch(run: Run, tmp_path: Path) -> None:
    run("compare", "s.yaml", "seeds=2")
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['bnbench', 'report', 'results/s', '--tables', 'all']\n"
        "from bnbench.cli.app import main; main()"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert "blocks.0.linear" in out.stdout
    assert "BatchNorm1d(16" in out.stdout


@pytest.mark.parametrize("command", ["compare", "train", "check"])
def test_a_command_that_needs_torch_says_so_in_one_message(run: Run, tmp_path: Path, command: str) -> None:
    code = (
        f"import sys; sys.modules['torch'] = None; sys.argv = ['bnbench', {command!r}, 's.yaml']\n"
        "from bnbench.cli.app import main; main()"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert out.returncode == 1
    assert out.stderr.startswith("Error: torch can't be imported: ")
    assert "Fix: pip install torch torchvision" in out.stderr
    assert "Traceback" not in out.stderr


def test_report_of_a_folder_whose_runs_are_gone_keeps_its_summary(run: Run) -> None:
    run("compare", "s.yaml", "seeds=1")
    before = Path("results/s/summary.json").read_text()
    Path("results/s/runs").rename("elsewhere")
    result = run("report", "results/s")
    assert result.exit_code == 1
    assert "none of its runs is here" in result.output
    assert Path("results/s/summary.json").read_text() == before


def test_check_shows_the_plan_and_trains_nothing(run: Run) -> None:
    result = run("check", "s.yaml")
    assert result.exit_code == 0, result.output
    assert "2 variants x 2 seeds = 4 runs" in result.output
    # 64*16 + 16 weights and biases, 16*10 + 10 of the head; 16 more with batch norm
    assert "1,210" in result.output
    assert "1,226" in result.output
    assert "42" in result.output
    assert not Path("results").exists()


def test_check_tells_all_mistakes_at_once(run: Run) -> None:
    Path("s.yaml").write_text(STUDY.replace("epochs: 2", "epochs: two\nbatchsize: 3"))
    result = run("check", "s.yaml")
    assert result.exit_code == 1
    assert "2 mistakes:" in result.output
    assert "s.yaml:6: epochs: 'two'" in result.output
    assert 's.yaml:7: unknown key "batchsize". Did you mean "batch_size"?' in result.output


def test_check_downloads_nothing(run: Run) -> None:
    result = run("check", "cifar10_cnn", "--data-dir", "empty")
    assert result.exit_code == 0, result.output
    # 45,000 training images in batches of 128, 10 times
    assert "3,520" in result.output
    assert not Path("empty").exists() or not list(Path("empty").iterdir())


def test_check_json_schema(run: Run) -> None:
    schema = json.loads(run("check", "--json-schema").stdout)
    assert schema["title"] == "bnbench study"
    assert "optimizer" in schema["properties"]


def test_list_shows_everything_that_has_a_name(run: Run, vocabulary: Vocabulary) -> None:
    result = run("list")
    assert result.exit_code == 0
    for entries in vocabulary.values():
        for name in entries:
            assert name in result.output
    for path in shipped_studies():
        assert path.stem in result.output


def test_help_names_every_command(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("train", "compare", "report", "check", "list"):
        assert command in result.output
        assert run(command, "--help").exit_code == 0


def test_version(run: Run) -> None:
    from bnbench import __version__

    assert run("--version").output.strip() == f"bnbench {__version__}"


def test_report_writes_its_page_and_the_figures(run: Run, tmp_path: Path) -> None:
    run("compare", "s.yaml")
    assert "<h1>s</h1>" in Path("results/s/report.html").read_text()
    result = run("report", "results/s", "--format", "json", "--figures", "paper", "--figure-format", "png")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["name"] == "s"
    assert result.stderr == "Figures: 6 in paper\n"
    Path("results/s/report.html").unlink()
    run("report", "results/s", "--format", "csv")  # data for machines don't wait for a drawing
    assert not Path("results/s/report.html").exists()
    run("report", "results/s")
    assert Path("results/s/report.html").exists()
    assert len(list(Path("paper").glob("*.png"))) == 6


def test_figures_where_nothing_can_be_written(run: Run, tmp_path: Path) -> None:
    run("compare", "s.yaml", "seeds=1")
    result = run("report", "results/s", "--figures", "s.yaml")
    assert result.exit_code == 1
    assert "s.yaml/val_loss.svg: can't be written: File exists." in result.stderr
    assert run("report", "results/s", "--figures", "paper", "--figure-format", "bmp").exit_code == 2


def test_a_terminal_that_knows_ascii_alone_still_gets_its_tables(run: Run, tmp_path: Path) -> None:
    run("compare", "s.yaml")
    told = subprocess.run(
        [sys.executable, "-m", "bnbench", "report", "results/s", "--tables", "all"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert "Difference from none" in told.stdout
