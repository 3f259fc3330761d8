"""Under which circumstances runs were trained: recorded with each, and said where they differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bnbench.analysis.circumstances import differences, mixed_circumstances, other_circumstances, ranges
from bnbench.base.circumstances import versions
from bnbench.cli.app import app
from bnbench.engine import device
from bnbench.study.records import RunRecord

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
max_train_samples: 200
seeds: 2
variants: {none: {}, batch: {norm: batch}}
"""
HERE = {"device": "cpu", "processor": "A", "device_name": "A", "torch": "2.8", "num_threads": 1}


def record(variant: str, seed: int, outcome: str = "finished", **environment: Any) -> RunRecord:
    values: Any = {"outcome": outcome, "environment": HERE | environment}
    return RunRecord(variant, {}, seed, f"cell of {variant}", "none", **values)


def test_equal_circumstances_are_not_mentioned() -> None:
    runs = [
        record("a", 0),
        record("a", 1, engine="stacked", replicas=2, session={"command": ["x"]}),
        record("b", 0),
    ]
    assert mixed_circumstances(runs) == ()
    assert other_circumstances((run, HERE) for run in runs) == ()
    assert mixed_circumstances([]) == ()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"torch": "2.9"}, "torch: 2.8 (a seeds 0-2; b seed 0), 2.9 (b seed 1)"),
        ({"processor": "B", "device_name": "B"}, "processor: A (a seeds 0-2; b seed 0), B (b seed 1)"),
        ({"device": "cuda", "device_name": "H100"}, "device: cpu (a seeds 0-2; b seed 0), cuda (b seed 1)"),
        ({"num_threads": 2}, "threads: 1 (b seed 0), 2 (b seed 1)"),
        ({"packages": {"timm": "1.1"}}, ""),  # only one of them uses it
    ],
)
def test_what_differs_within_what_is_shown_is_said_once_with_its_runs(
    other: dict[str, Any], said: str
) -> None:
    runs = [*(record("a", seed) for seed in range(3)), record("b", 0), record("b", 1, **other)]
    found = mixed_circumstances(runs)
    if not said:
        assert found == ()
        return
    (text,) = found
    assert said in text
    assert "their numbers may differ, not only their seconds" in text
    assert "--refresh changed" in text


def test_threads_that_follow_from_the_settings_and_crashed_runs_do_not_count() -> None:
    runs = [record("small", 0), record("large", 0, num_threads=8), record("a", 0, "crashed", torch="1.0")]
    assert mixed_circumstances(runs) == ()
    assert other_circumstances([(runs[2], HERE)]) == ()


def test_versions_of_a_plugin_s_packages_and_many_differences() -> None:
    old: dict[str, Any] = {"packages": {"timm": "1.0"}}
    new: dict[str, Any] = {"packages": {"timm": "1.1"}}
    assert differences(old, new) == ["timm 1.0 then, 1.1 now"]
    (text,) = mixed_circumstances([record("a", 0, **old), record("a", 1, **new)])
    assert "timm: 1.0 (a seed 0), 1.1 (a seed 1)" in text
    many: dict[str, Any] = {f"library{number}": number for number in range(7)}
    changed = {key: value + 1 for key, value in many.items()}
    (text,) = other_circumstances([(record("a", 0, **many), HERE | changed)])
    assert "a seed 0" in text
    assert "and 3 more differences" in text
    assert ranges([0, 1, 2, 5, 7, 8]) == "seeds 0-2, 5, 7-8"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(STUDY)
    return lambda *words: CliRunner().invoke(app, [*words])


def environments() -> dict[str, dict[str, Any]]:
    paths = Path("results/s/runs").glob("*/seed-*/run.json")
    return {"/".join(path.parts[-3:-1]): json.loads(path.read_text())["environment"] for path in paths}


def test_a_rerun_says_what_changed_and_trains_it_again_on_demand(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("compare", "s.yaml", "-q", "seeds=1").exit_code == 0
    kept = Path("results/s/environment.json").read_bytes()
    (group,) = json.loads(kept)["trained_under"]
    assert group["runs"] == {"none": [0], "batch": [0]}
    for key in (
        "bnbench",
        "torch",
        "numpy",
        "python",
        "processor",
        "device",
        "platform",
        "command",
        "git_revision",
    ):
        assert key in group

    today = versions() | {"numpy": "99.0"}
    monkeypatch.setattr(device, "versions", lambda: today)
    result = run("compare", "s.yaml", "-q", "seeds=1")
    assert Path("results/s/environment.json").read_bytes() == kept  # nothing was trained
    cautions = json.loads(Path("results/s/summary.json").read_text())["cautions"]
    assert any(
        "trained under other circumstances than today: none seed 0; batch seed 0" in text for text in cautions
    )

    result = run("compare", "s.yaml", "-q", "seeds=2", "--format", "csv")
    assert "numpy: " in result.stderr
    assert "99.0 (none seed 1; batch seed 1)" in result.stderr
    groups = json.loads(Path("results/s/environment.json").read_text())["trained_under"]
    assert [group["runs"] for group in groups] == [{"none": [0], "batch": [0]}, {"none": [1], "batch": [1]}]
    assert [group["numpy"] for group in groups] == [group["numpy"] for group in groups[:1]] + ["99.0"]

    stamps = {name: path.stat().st_mtime_ns for name, path in _runs().items()}
    result = run("compare", "s.yaml", "--refresh", "changed")
    assert "2 of 4 runs are finished already" in result.stderr
    changed = {name for name, path in _runs().items() if path.stat().st_mtime_ns != stamps[name]}
    assert {name.partition("/")[2] for name in changed} == {"seed-0"}
    assert {values["numpy"] for values in environments().values()} == {"99.0"}
    assert "circumstances" not in " ".join(json.loads(Path("results/s/summary.json").read_text())["cautions"])
    result = run("compare", "s.yaml", "--refresh", "changed")
    assert "4 of 4 runs are finished already" in result.stderr


def _runs() -> dict[str, Path]:
    return {"/".join(path.parts[-3:-1]): path for path in Path("results/s/runs").glob("*/seed-*/run.json")}


def test_help_names_both_ways_to_train_again(run: Callable[..., Result]) -> None:
    for command in ("compare", "train"):
        text = " ".join(run(command, "--help").output.replace("│", " ").split())
        assert "--refresh" in text
        assert "trained with other versions" in text
        assert "Train finished runs again" in text
