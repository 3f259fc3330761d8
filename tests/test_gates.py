"""--fail-if: what it lets pass, what it stops, and what it says of a gate that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnbench.analysis.contents import Summary
from bnbench.analysis.gates import judge_gates, read_gates
from bnbench.analysis.summary import summarize
from bnbench.cli import app
from bnbench.errors import GateError
from bnbench.plan import Outcome, RunRecord
from bnbench.results import Cell, StudyResults


def run(variant: str, seed: int, accuracy: float, outcome: Outcome = "finished") -> RunRecord:
    final = {} if outcome == "crashed" else {"test_accuracy": accuracy, "val_loss": 1 - accuracy}
    return RunRecord(variant, {}, seed, "c", variant, outcome, final=final)


def study(lost: Outcome | None = None) -> Summary:
    """batch_2.x is worse than none by 2 points, noisy by nothing that can be told from none."""
    noise = (0.01, -0.01, 0.005, -0.006, 0.002)
    runs = {
        "none": [run("none", s, 0.95 + s / 1000) for s in range(5)],
        "batch_2.x": [run("batch_2.x", s, 0.93 + s / 1000 + noise[s] / 100) for s in range(5)],
        "noisy": [run("noisy", s, 0.95 + noise[s]) for s in range(5)],
    }
    if lost:
        runs["none"][2] = run("none", 2, 0.95, lost)
    cells = tuple(Cell(name, {}, "c", tuple(range(5)), tuple(found)) for name, found in runs.items())
    return summarize(StudyResults("demo", "none", (), cells))


def failed(text: str, summary: Summary | None = None) -> bool:
    summary = summary or study()
    names = [variant.variant for variant in summary.variants]
    (outcome,) = judge_gates(read_gates([text], names, 5), summary)
    return outcome.failed


@pytest.mark.parametrize(
    ("gate", "fails"),
    [
        ("none.test_accuracy < 0.95", False),
        ("none.test_accuracy<0.96", True),
        ("none.test_accuracy < 96%", True),
        ("none.test_accuracy < 90%", False),
        ("none.val_loss >= 0.048", True),
        ("none.val_loss > 5e-2", False),
        ("batch_2.x.test_accuracy <= 0.94", True),
        ("batch_2.x.test_accuracy worse than none", True),
        ("none.test_accuracy worse than batch_2.x", False),
        ("noisy.test_accuracy worse than none", False),
        ("batch_2.x.val_loss  worse  than noisy", True),
    ],
)
def test_gates(gate: str, fails: bool) -> None:
    assert failed(gate) is fails


@pytest.mark.parametrize("outcome", ["not_finite", "crashed"])
@pytest.mark.parametrize("gate", ["none.test_accuracy < 0.01", "noisy.test_accuracy worse than none"])
def test_a_variant_that_lost_runs_fails_its_gates(outcome: Outcome, gate: str) -> None:
    summary = study(outcome)
    (found,) = judge_gates(read_gates([gate], ["none", "noisy"], 5), summary)
    assert found.failed
    assert found.reason == f"of 5 runs of none: 1 {outcome.replace('_', ' ')}"
    assert not failed("noisy.test_accuracy < 0.01", summary)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("bacth.test_accuracy < 1", 'unknown variant "bacth". Did you mean "batch"? Known: batch, none.'),
        ("batch.test_acuracy < 1", 'unknown metric "test_acuracy". Did you mean "test_accuracy"?'),
        ("batch.val_loss worse than nome", 'unknown variant "nome". Did you mean "none"?'),
        ("batch.val_loss < few", '"few" is not a number'),
        ("batch.val_loss == 1", "this is no gate"),
        ("batch < 1", "this is no gate"),
        (
            "batch.test_accuracy > 95",
            "is a share, from 0 to 1: it can never hold.\nFix: 0.95 or 95% in place of 95.",
        ),
        ("batch.test_accuracy < 95", "is a share, from 0 to 1: it would always hold.\nFix: 0.95 or 95%"),
        ("batch.test_accuracy < 9500%", "is a share, from 0 to 1: it would always hold."),
        ("batch.test_accuracy > 1", "it can never hold"),
        ("batch.test_accuracy >= 0", "it would always hold"),
        ("batch.test_balanced_accuracy <= 1", "it would always hold"),
        ("batch.test_accuracy < -0.5", "it can never hold"),
        ("batch.val_loss < 0", "val_loss is never below 0: it can never hold"),
        ("batch.val_loss > -1", "val_loss is never below 0: it would always hold"),
        ("batch.val_loss < inf", '"inf" is not a number'),
        ("batch.test_accuracy not as good as none within 2", "no difference is larger"),
        ("", "this is no gate"),
    ],
)
def test_a_gate_that_does_not_fit(gate: str, said: str) -> None:
    with pytest.raises(GateError) as caught:
        read_gates([gate], ["none", "batch"], 5)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_verdict_needs_seeds() -> None:
    with pytest.raises(GateError, match="2 seeds can't have a verdict"):
        read_gates(["none.val_loss worse than batch"], ["none", "batch"], 2)


STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
seeds: 1
variants:
  none: {norm: none}
  batch: {norm: batch}
margin: {metric: test_accuracy, value: 0.01}
primary: val_loss
target: {metric: val_accuracy, value: match_baseline}
"""


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(STUDY)

    def bnbench(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.stderr

    code, said = bnbench("compare", "s.yaml", "--fail-if", "bacth.val_loss < 1")
    assert (code, Path("results").exists()) == (2, False)  # before anything is trained
    code, said = bnbench(
        "compare", "s.yaml", "-q", "--fail-if", "none.test_accuracy < 2%", "--fail-if", "batch.val_loss > 0"
    )
    assert code == 4
    assert "--fail-if 'none.test_accuracy < 2%': passed" in said
    assert "--fail-if 'batch.val_loss > 0': FAILED: batch: mean val_loss" in said
    told = json.loads(Path("results/s/summary.json").read_text())
    assert [gate["failed"] for gate in told["gates"]] == [False, True]
    assert (told["primary"], told["margin"]["value"], told["target"]["match_baseline"]) == (
        "val_loss",
        0.01,
        True,
    )
    final = told["variants"][0]["runs"][0]["final"]["val_accuracy"]
    assert told["target"]["value"] == pytest.approx(final)
    assert told["variants"][0]["runs"][0]["num_samples"] == {"train": 1293, "val": 144, "test": 360}
    assert bnbench("report", "results/s", "--fail-if", "none.test_accuracy < 2%")[0] == 0
    assert bnbench("report", "results/s", "--fail-if", "none.val_loss > 0")[0] == 4
    assert bnbench("report", "results/s", "--fail-if", "none.val_los > 0")[0] == 2
