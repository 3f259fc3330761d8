"""`bnbench verify`, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.cli.app import app

Run = Callable[..., Result]
HERE = Path(__file__).parents[1]
LAYER = """
import torch
from torch import nn

class Mine(nn.BatchNorm1d):
    pass

class _Helper:
    pass
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "students.py").write_text((HERE / "student_layers.py").read_text())
    (tmp_path / "layer.py").write_text(LAYER)
    return lambda *words: CliRunner().invoke(app, ["verify", *words])


def test_a_right_layer(run: Run) -> None:
    result = run("layer.py:Mine")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-2:] == [
        "The mathematics: all 55 checks passed (2 skipped): this is a batch norm.",
        "As a library layer: all 30 checks passed.",
    ]
    assert "(N, C, H, W): the layer does not take it: ValueError: expected 2D or 3D input" in result.stdout
    assert "Recognised: gamma = weight, beta = bias, running mean = running_mean" in result.stdout
    assert result.stderr == ""


def test_a_wrong_layer_exits_with_4_and_says_why(run: Run) -> None:
    result = run("students.py:StoredBiased")
    assert result.exit_code == 4
    assert max(map(len, result.stdout.splitlines())) <= 80
    text = " ".join(result.stdout.split())
    assert "1. running_var is off by n/(n-1): torch stores the unbiased variance" in text
    assert "The mathematics: 4 of 107 checks FAILED (4 skipped): 1 cause found." in text
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("running_var (3 steps)  "))
    assert row.split()[-4:] == ["FAILED"] * 4


def test_json_alone_on_stdout(run: Run) -> None:
    result = run("students.py:EpsOutside", "--dim", "2", "--format", "json")
    assert result.exit_code == 4
    told = json.loads(result.stdout)
    assert told["schema_version"] == 2
    assert told["passed"] is False
    assert told["counts"]["mathematics"]["failed"] == 5 == len(told["causes"][0]["checks"])
    assert told["conventions"] == {
        "eps": 1e-3,
        "eps_from": "argument",
        "momentum": 0.3,
        "momentum_from": "argument",
        "momentum_is_weight_of": "new",
        "running_var": "unbiased",
    }
    forward = told["checks"][0]
    assert (forward["check"], forward["input"], forward["status"]) == ("forward", "(N, C, H, W)", "failed")
    assert forward["size"] > forward["tolerance"] == 1e-4
    assert forward["causes"][0].startswith("eps outside the root")


@pytest.mark.slow
def test_markdown(run: Run) -> None:
    result = run("students.py:MomentumOld", "--format", "markdown")
    assert result.exit_code == 4
    assert result.stdout.startswith("# students.py:MomentumOld\n\nThe mathematics: 8 of 107 checks FAILED")
    assert "| running\\_mean (3 steps) | FAILED | FAILED | FAILED | FAILED |" in result.stdout
    right = run("students.py:MomentumOld", "--momentum-convention", "old", "--format", "markdown")
    assert right.exit_code == 0
    assert "FAILED" not in right.stdout


@pytest.mark.slow
def test_what_a_layer_prints_does_not_reach_stdout(run: Run) -> None:
    result = run("students.py:Prints", "--dim", "1", "--format", "json")
    told = json.loads(result.stdout)
    assert any("printed" in note and "--debug" in note for note in told["notes"])
    assert "forward!" not in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nowhere.py:Mine", "nowhere.py: no such file."),
        ("layers.py:Mine", 'layers.py: no such file. Did you mean "layer.py"?'),
        ("layer.py:Mein", 'layer.py: there is no "Mein" in it. Did you mean "Mine"? Its layers: Mine.'),
        ("layer.py:torch", "layer.py: torch is module; what makes fresh layers is needed."),
        ("layer.py:_Helper", "layer.py: bnbench can't call _Helper()."),
        ("students.py", "students.py: which of its layers? Its layers: Right, "),
        ("students.py:number", "number is int"),
        ("students.py:instance", "instance is a layer that is made already"),
        ("students.py:not_a_layer", "not_a_layer returned int, not a torch.nn.Module."),
        ("students.py:NeedsMore", "can't call NeedsMore(num_features, groups, axis=1)."),
        ("students.py:NeedsMore", "def make(num_features, dim): return NeedsMore(num_features, ...)"),
        ("students.py:BreaksWhenMade", "BreaksWhenMade can't be made: ZeroDivisionError: division by zero"),
        ("syntax.py:Mine", "syntax.py:2: SyntaxError: "),
        ("fails.py:Mine", "fails.py:3: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("exits.py:Mine", "exits.py:2: it ends the program (sys.exit) while it is imported."),
        ("nothing_like_it:Mine", 'no module "nothing_like_it" can be imported.'),
        ("torch.nn:BatchNorm", 'torch.nn: there is no "BatchNorm" in it. Did you mean'),
        ("hw.ipynb:Mine", "hw.ipynb is a notebook, and a layer is imported from a Python file."),
        ("hw.ipynb:Mine", "jupyter nbconvert --to script hw.ipynb, then name hw.py:Mine"),
        ("hw.ipynb", "hw.ipynb is a notebook"),
        ("notes.txt:Mine", "notes.txt: not a Python file (.py)."),
        ("folder:Mine", "folder: a folder."),
        ("students.py:Raises", "takes none of the inputs."),
        ("batch_costum", 'no normalizer "batch_costum" is registered. Did you mean "batch_custom"?'),
    ],
)
def test_a_layer_that_can_not_be_had(run: Run, word: str, said: str) -> None:
    Path("syntax.py").write_text("x = 1\ndef f(:\n")
    Path("fails.py").write_text("x = 1\n\nimport nothing_like_it\n")
    Path("exits.py").write_text("import sys\nsys.exit(3)\n")
    Path("notes.txt").write_text("x")
    Path("folder").mkdir()
    result = run(word)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_a_file_may_import_its_neighbours(run: Run) -> None:
    Path("neighbour.py").write_text("EPS = 1e-5\n")
    Path("uses.py").write_text(f"from neighbour import EPS\n{LAYER}")
    assert run("uses.py:Mine", "--dim", "1").exit_code == 0


@pytest.mark.slow
def test_a_factory_gets_the_dim(run: Run) -> None:
    result = run("students.py:factory", "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["counts"] == {
        "mathematics": {"passed": 83, "failed": 0, "skipped": 1},
        "library": {"passed": 46, "failed": 0, "skipped": 0},
    }


@pytest.mark.slow
def test_a_plugin_s_normalizer(run: Run) -> None:
    Path("plugin.py").write_text(
        "from torch import nn\nfrom bnbench.norms import norms\n"
        '@norms.register("verified_mine", absorbs_bias=True)\n'
        "def mine(num_features, dim, *, eps=1e-5):\n"
        '    """Mine."""\n'
        "    return (nn.BatchNorm1d if dim == 1 else nn.BatchNorm2d)(num_features, eps)\n"
    )
    code = "import sys; sys.argv = ['bnbench', 'verify', 'verified_mine', '--plugin', 'plugin.py', '--format', 'json']"
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom bnbench.cli.app import main; main()"],
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout)["conventions"]["momentum"] == 0.1  # what the layer says it has


@pytest.mark.slow
def test_strict_counts_the_library_checks(run: Run) -> None:
    (Path.cwd() / "textbook.py").write_text(Path("students.py").read_text().replace("if n < 2:", "if False:"))
    assert run("textbook.py:Textbook", "--dim", "1").exit_code == 0
    result = run("textbook.py:Textbook", "--dim", "1", "--strict")
    assert result.exit_code == 4
    assert "The mathematics: all" in result.stdout
    assert "one value in training" in result.stdout


@pytest.mark.slow
def test_volumes(run: Run) -> None:
    result = run("torch.nn:BatchNorm3d", "--dim", "3", "--format", "json")
    assert result.exit_code == 0, result.output
    assert {item["input"] for item in json.loads(result.stdout)["checks"]} == {"(N, C, D, H, W)"}
    assert run("torch.nn:BatchNorm3d", "--dim", "2").exit_code == 1


@pytest.mark.slow
def test_momentum_none(run: Run) -> None:
    result = run("batch", "--dim", "1", "--momentum", "none", "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["conventions"]["momentum"] is None
    assert run("students.py:Averaged", "--dim", "1").exit_code == 4


def test_usage(run: Run) -> None:
    assert run().exit_code == 2
    assert run("batch", "--dim", "4").exit_code == 2
    assert run("batch", "--momentum", "some").exit_code == 2
    assert run("batch", "--timeout", "0").exit_code == 2
    assert run("batch", "--momentum", "2").exit_code == 2
