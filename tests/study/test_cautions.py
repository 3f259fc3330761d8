"""Settings that can't have their meaning: refused by `check`, or warned of there and beside the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnbench.base.errors import ConfigError
from bnbench.cli.app import app
from bnbench.study import Vocabulary, cautions_of, load_study

Write = Callable[..., Path]

MINIMAL = "dataset: digits\nmodel: {name: mlp, hidden: [4]}\noptimizer: {name: sgd, lr: 1e-2}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "schedule.warmup_epochs: 50\nepochs: 1",
            "study.yaml:4: schedule.warmup_epochs: 50 with epochs: 1: the run",
        ),
        ("schedule: {name: cosine, warmup_epochs: 5}", "schedule.warmup_epochs: 5 with epochs: 5"),
        (
            "schedule: {name: step, milestones: [1], warmup_epochs: 9}",
            "schedule.warmup_epochs: 9 with epochs: 5",
        ),
        ("variants: {a: {epochs: 2}, b: {}}\nschedule.warmup_epochs: 3", "warmup_epochs: 3 with epochs: 2"),
        ("sweep: {epochs: [9, 2]}\nschedule.warmup_epochs: 3", "warmup_epochs: 3 with epochs: 2"),
        (
            "schedule: {name: step, milestones: []}",
            "schedule.milestones: [] is wrong: it should have at least 1.",
        ),
        ("schedule: {name: step, milestones: [2, 2.0]}", "2 is repeated"),
        (
            "schedule: {name: step, milestones: [-1]}",
            "schedule.milestones.0: -1 is wrong: it should be greater",
        ),
        ("schedule: {name: step, milestones: [1], gamma: 0}", "schedule.gamma: 0 is wrong"),
        ("schedule: {name: cosine, final_factor: 2}", "schedule.final_factor: 2 is wrong"),
        ("optimizer.nesterov: true", "optimizer.nesterov: true without a momentum"),
    ],
)
def test_refused(text: str, message: str, write_study: Write, vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write_study(MINIMAL + text), [], vocabulary)
    assert len(caught.value.mistakes) == 1
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "steps", "said"),
    [
        ("schedule: {name: step, milestones: [2, 3]}", None, ""),
        (
            "schedule: {name: step, milestones: [2, 5]}",
            None,
            "5 has no effect: the run ends after epoch 5",
        ),
        ("schedule: {name: step, milestones: [60, 30]}", None, "30, 60 have no effect"),
        ("schedule: {name: step, milestones: [2], gamma: 10}", None, "gamma: 10 raises the learning rate"),
        ("schedule.warmup_epochs: 0.01", None, ""),
        (
            "schedule.warmup_epochs: 0.01",
            50,
            "0.01 is less than one step (50 steps an epoch): there is no warm-up",
        ),
        ("schedule.warmup_epochs: 0.02", 50, ""),
        ("evaluate_every: 251", 50, "evaluate_every: 251 is more than the 250 steps of the run"),
        ("evaluate_every: 250", 50, ""),
    ],
)
def test_cautions(
    text: str, steps: int | None, said: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    settings = load_study(write_study(MINIMAL + text), [], vocabulary).variants["none"]
    found = cautions_of(settings, steps)
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_of_some_variants_alone(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "schedule: {name: step, milestones: [4]}\nvariants: {a: {epochs: 3}, b: {}, c: {epochs: 3, norm: batch}}"
    (warning,) = load_study(write_study(MINIMAL + text), [], vocabulary).warnings
    assert warning.startswith("a, c: schedule.milestones: 4 has no effect: the run ends after epoch 3")


def test_check_warns_and_the_verdict_has_it_beside_it(write_study: Write, tmp_path: Path) -> None:
    text = "epochs: 1\nseeds: 3\nvariants: {none, batch}\nschedule: {name: step, milestones: [30]}\n"
    path, folder = str(write_study(MINIMAL + text)), tmp_path / "out"
    caution = "schedule.milestones: 30 has no effect"
    assert caution in CliRunner().invoke(app, ["check", path]).output
    assert CliRunner().invoke(app, ["compare", path, "-q", "-o", str(folder)]).exit_code == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert any(caution in found for found in summary["cautions"])
    shown = CliRunner().invoke(app, ["report", str(folder)]).output
    assert caution in " ".join(shown.split())
