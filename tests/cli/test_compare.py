"""`bnbench compare` end to end: tables, files, reruns, interruption, crashes, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.cli.app import app
from bnbench.results import files

Run = Callable[..., Result]

SMALL = """
dataset: digits
model: {name: mlp, hidden: [16]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 64
epochs: 2
seeds: 3
variants:
  none:   {norm: none}
  custom: {norm: batch_custom}
  batch:  {norm: batch}
target: {metric: val_accuracy, value: 0.8}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in a temporary folder that holds small.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "vgg.yaml").write_text("dataset: digits\nmodel: vgg11\noptimizer: {name: sgd, lr: 0.1}\n")
    # as wide as a terminal has to be, whatever the machine
    monkeypatch.setenv("COLUMNS", "100")

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    return invoke


def summary(path: Path = Path("results/small")) -> dict:  # type: ignore[type-arg]
    return json.loads((path / files.SUMMARY_JSON).read_text(), parse_constant=pytest.fail)  # type: ignore[no-any-return]


def test_the_whole_way(run: Run) -> None:
    result = run("compare", "small.yaml")
    assert result.exit_code == 0, result.output
    for word in (
        "none",
        "custom",
        "batch",
        "±",
        "5",
        "val accuracy",
        "95%",
        "Report: results/small/report.html",
    ):
        assert word in result.output
    told = summary()
    assert (told["schema_version"], told["name"], told["baseline"]) == (files.SCHEMA_VERSION, "small", "none")
    assert [variant["name"] for variant in told["variants"]] == ["none", "custom", "batch"]
    for variant in told["variants"]:
        assert [item["seed"] for item in variant["runs"]] == [0, 1, 2]
        for item in variant["runs"]:
            assert item["outcome"] == "finished"
            # 1437 training digits less the tenth held out, in batches of 64, twice
            assert item["steps"] == 42
            assert 0.5 < item["final"]["test_accuracy"] <= 1
    rows = list(csv.DictReader(Path("results/small/summary.csv").read_text().splitlines()))
    assert len(rows) == 9


def test_custom_and_builtin_batch_norm_agree_step_by_step(run: Run) -> None:
    """The same seed, so the same weights and batches: losses of all steps within 1e-5."""
    # SGD: Adam turns a gradient that is zero but for rounding into a full step
    assert (
        run("compare", "small.yaml", "optimizer={name: sgd, lr: 0.05, momentum: 0.9}", "--quiet").exit_code
        == 0
    )
    for seed in range(3):
        losses = {}
        for variant in ("custom", "batch", "none"):
            (path,) = Path("results").glob(f"small+*/runs/{variant}-*/seed-{seed}/steps.csv")
            losses[variant] = [
                float(row["batch_loss"]) for row in csv.DictReader(path.read_text().splitlines())
            ]
        gaps = [abs(ours - theirs) for ours, theirs in zip(losses["custom"], losses["batch"], strict=True)]
        assert max(gaps) < 1e-5
        assert abs(losses["none"][5] - losses["batch"][5]) > 1e-3  # the test can fail


def test_rerun_skips_adds_and_never_touches(run: Run) -> None:
    assert run("compare", "small.yaml", "seeds=1").exit_code == 0
    first = {path: path.stat().st_mtime_ns for path in Path("results/small/runs").rglob("run.json")}
    assert len(first) == 3
    result = run("compare", "small.yaml", "seeds=2")
    assert "3 of 6 runs are finished already" in result.output
    second = {path: path.stat().st_mtime_ns for path in Path("results/small/runs").rglob("run.json")}
    assert len(second) == 6
    assert {path: second[path] for path in first} == first
    before = {path: path.read_bytes() for path in Path("results/small").rglob("*") if path.is_file()}
    result = run("compare", "small.yaml", "seeds=2", "epochs=1", "--output", "results/small")
    assert result.exit_code == 1
    assert "epochs: 2 there, 1 now" in result.stderr
    assert "--output results/small-2" in result.stderr
    assert {path: path.read_bytes() for path in Path("results/small").rglob("*") if path.is_file()} == before
    result = run("compare", "small.yaml", "seeds=2", "epochs=1", "--output", "results/small-2")
    assert result.exit_code == 0
    shown = summary(Path("results/small-2"))
    assert {item["steps"] for variant in shown["variants"] for item in variant["runs"]} == {21}
    result = run("compare", "small.yaml", "seeds=1", "--force")
    assert result.exit_code == 0
    third = {path: path.stat().st_mtime_ns for path in first}
    assert all(third[path] > first[path] for path in first)


def test_the_same_command_gives_the_same_numbers(run: Run) -> None:
    tell = ("final", "best", "best_step", "steps_to_target", "steps")

    def numbers(folder: str) -> list[object]:
        assert run("compare", "small.yaml", "seeds=2", "--output", folder, "-q").exit_code == 0
        return [
            [item[key] for key in tell]
            for variant in summary(Path(folder))["variants"]
            for item in variant["runs"]
        ]

    assert numbers("one") == numbers("two")


@pytest.mark.parametrize("format", ["json", "csv", "markdown", "latex"])
def test_stdout_is_data_alone(format: str, run: Run) -> None:
    result = run("compare", "small.yaml", "seeds=2", "--format", format)
    assert result.exit_code == 0
    assert "Results: " in result.stderr
    if format == "json":
        assert json.loads(result.stdout) == summary()
    elif format == "csv":
        assert len(list(csv.DictReader(io.StringIO(result.stdout)))) == 6
    else:
        assert {"markdown": "| none |", "latex": r"\begin{tabular}"}[format] in result.stdout
    # and again from the folder alone
    again = run("report", "results/small", "--format", format)
    assert again.stdout == result.stdout


def test_runs_that_are_not_finite_are_counted_and_shown_and_is_no_crash(run: Run) -> None:
    result = run(
        "compare", "small.yaml", "variants.none.optimizer={name: sgd, lr: 1e30}", "seeds=2", "baseline=batch"
    )
    assert result.exit_code == 0, result.output
    assert "not finite" in result.output
    (folder,) = Path("results").iterdir()
    none = summary(folder)["variants"][0]
    assert [item["outcome"] for item in none["runs"]] == ["not_finite", "not_finite"]
    assert [item["steps_to_target"] for item in none["runs"]] == [None, None]


CRASHING = """
import torch
from bnbench.norms import norms

class Sometimes(torch.nn.Module):
    def __init__(self, fail):
        super().__init__()
        self.fail = fail
    def forward(self, x):
        if self.fail and self.training:
            raise RuntimeError("no more, say")
        return x

@norms.register("sometimes")
def sometimes(num_features, dim, *, fail: bool = True):
    '''A layer that raises.'''
    return Sometimes(fail)
"""


def process(*words: str) -> subprocess.CompletedProcess[str]:
    """A real process: a plugin registers its names once in each."""
    command = [sys.executable, "-m", "bnbench", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_crash_is_recorded_the_rest_goes_on_and_the_exit_code_says_so(run: Run) -> None:
    Path("mine.py").write_text(CRASHING)
    plugin = ["compare", "small.yaml", "seeds=2", "--plugin", "mine.py"]
    words = [*plugin, "--output", "results/small"]
    result = process(*words, "variants.custom.norm=sometimes")
    assert result.returncode == 3, result.stdout
    assert "RuntimeError: no more, say" in result.stdout
    assert "Traceback" not in result.stdout
    custom = summary()["variants"][1]
    assert [item["outcome"] for item in custom["runs"]] == ["crashed", "crashed"]
    assert summary()["variants"][2]["runs"][0]["outcome"] == "finished"
    # tried again by the same command; and the layer mended is another layer
    result = process(*words, "variants.custom.norm=sometimes")
    assert "4 of 6 runs are finished already" in result.stdout
    result = process(*words, "variants.custom.norm={name: sometimes, fail: false}")
    assert result.returncode == 0, result.stdout
    # nothing but crashes: nothing usable came out
    result = process(*plugin, "variants={x: {norm: sometimes}}", "-o", "x")
    assert result.returncode == 1


@pytest.mark.slow
def test_a_changed_plugin_makes_other_runs(run: Run) -> None:
    plugin = Path("mine.py")
    plugin.write_text(CRASHING)
    mended = "variants.custom.norm={name: sometimes, fail: false}"
    words = ["compare", "small.yaml", "seeds=1", mended, "--plugin", "mine.py"]
    assert process(*words, "--output", "results/small").returncode == 0
    plugin.write_text(CRASHING.replace("return x", "return 2 * x"))
    result = process(*words, "--output", "results/small")
    assert result.returncode == 1
    assert "variant custom: source of mine.py: changed since" in result.stdout
    shutil.copytree("results/small/runs", "other/runs")
    result = process(*words, "--output", "other")
    assert "2 of 3 runs are finished already" in result.stdout
    assert "also contains 1 run with other settings or seeds" in result.stdout


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, run: Run) -> None:
    """A real process, a real signal, after the first run is on disk."""
    command = [sys.executable, "-m", "bnbench", "compare", "small.yaml", "epochs=30"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while (
        not list(tmp_path.glob("results/small+epochs=30/runs/*/seed-*/run.json"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "Interrupted. Finished runs are kept" in output
    assert "none" in output
    done = len(list(tmp_path.glob("results/small+epochs=30/runs/*/seed-*/run.json")))
    assert 1 <= done < 9
    assert not list(tmp_path.rglob(".writing-*"))
    result = run("compare", "small.yaml", "epochs=30")
    assert f"{done} of 9 runs are finished already" in result.output
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["compare", "nowhere.yaml"], 1, "no such study"),
        (
            ["compare", "small.yaml", "epoch=3"],
            1,
            'unknown key "epoch". Did you mean "epochs"?',
        ),
        (["compare", "small.yaml", "seeds=[1, 1]"], 1, "seeds: 1 repeated."),
        (["compare", "small.yaml", "batch_size=1"], 1, "gets (1, 16): its statistics have too few values"),
        (["compare", "small.yaml", "variants={}"], 1, "variants is empty"),
        (["compare", "small.yaml", "model=mlq"], 1, 'unknown model "mlq". Did you mean "mlp"?'),
        (
            ["compare", "small.yaml", "variants.none.norm=bach"],
            1,
            'unknown norm "bach". Did you mean "batch"?',
        ),
        (["compare", "small.yaml", "dataset=digit"], 1, 'unknown data set "digit". Did you mean "digits"?'),
        (["compare", "small.yaml", "--device", "cuda"], 1, "Fix: --device auto"),
        (["compare", "small.yaml", "--device", "tpu"], 2, "tpu"),
        (["compare", "small.yaml", "--plugin", "none.py"], 2, "none.py"),
        (["check", "small.yaml", "other.yaml"], 2, "one study at a time"),
        (["compare", "small.yaml", "--output", "small.yaml"], 1, "can't be written"),
        (
            ["compare", "small.yaml", "variants.none.norm={name: group, groups: 5}"],
            1,
            "does not divide the 16 channels",
        ),
        (
            ["compare", "small.yaml", "optimizer={name: sgd, lr: 1, nesterov: true}"],
            1,
            "nesterov: true without a",
        ),
        (
            ["compare", "small.yaml", "last_batch=keep", "max_train_samples=65"],
            1,
            "in the last batch of every epoch, which has 1: its statistics have too few",
        ),
        (
            ["check", "small.yaml", "last_batch=keep", "max_train_samples=65"],
            1,
            "in the last batch of every epoch, which has 1: its statistics have too few",
        ),
        (
            ["check", "vgg.yaml", "norm=instance"],
            1,
            "(InstanceNorm2d) gets (32, 512, 1, 1): its statistics have too few values",
        ),
        (["report", "nowhere"], 1, "no results of bnbench here"),
        (
            ["train", "small.yaml", "--variant", "costum"],
            1,
            'unknown variant "costum". Did you mean "custom"?',
        ),
    ],
)
def test_mistakes_get_one_message_and_their_exit_code(
    words: list[str], code: int, said: str, run: Run
) -> None:
    if "cuda" in words:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is CUDA here")
    result = run(*words)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import nothing_of_that_name",
            "mine.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        ("x = 1\ndef f(:\n", "mine.py:2: SyntaxError"),
        (
            "from bnbench.norms import norms\n@norms.register('batch')\ndef f(n, d): pass\n",
            'the norm "batch" is registered already',
        ),
    ],
)
def test_a_plugin_that_does_not_load(source: str, said: str, run: Run) -> None:
    Path("mine.py").write_text(source)
    result = run("compare", "small.yaml", "--plugin", "mine.py")
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_target_that_no_run_reaches_is_censored(run: Run) -> None:
    result = run("compare", "small.yaml", "seeds=2", "target.value=1", "--tables", "all")
    assert result.exit_code == 0
    (folder,) = Path("results").glob("small+target=val_accuracy-1-*")
    variants = summary(folder)["variants"]
    assert all(item["steps_to_target"] is None for variant in variants for item in variant["runs"])
    assert "no run reached the target val_accuracy 1" in " ".join(result.output.split())


def test_debug_shows_the_traceback(run: Run) -> None:
    result = run("compare", "nowhere.yaml", "--debug")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "ConfigError"


def test_a_broken_pipe_is_no_error(tmp_path: Path) -> None:
    code = subprocess.run(
        f"{sys.executable} -m bnbench list | head -1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "Traceback" not in code.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission(run: Run) -> None:
    Path("locked").mkdir(mode=0o500)
    result = run("compare", "small.yaml", "--output", "locked/out")
    assert result.exit_code == 1
    assert "Permission denied" in result.output
