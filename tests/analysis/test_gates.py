"""--fail-if: what it lets pass, what it stops, and what it says of a gate that is none."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats
from typer.testing import CliRunner

from bnbench.analysis.contents import Summary
from bnbench.analysis.gate_outcomes import judge_gates
from bnbench.analysis.gates import read_gates
from bnbench.analysis.pairs import grain_of
from bnbench.analysis.summary import summarize
from bnbench.base.errors import GateError
from bnbench.cli.app import app
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin
from bnbench.study.records import Outcome, RunRecord
from tests.analysis.test_sequential import effect
from tests.analysis.test_sequential import study as losses
from tests.sweep_studies import sweep


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
        (
            "batch@precise.val_loss < 1",
            "the study does not measure precise. Fix: evaluate: [running, precise] in the",
        ),
        ("batch@precis.val_loss < 1", 'unknown variant "batch@precis". Known: batch, none'),
        ("nome@precise.val_loss < 1", 'unknown variant "nome@precise"'),
        ("batch.val_loss < few", '"few" is not a number'),
        ("batch.val_loss == 1", "cannot be parsed"),
        ("batch < 1", "cannot be parsed"),
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
        ("", "cannot be parsed"),
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


@pytest.mark.parametrize("gate", ["worse than", "not the same as", "not as good as"])
def test_a_layer_that_repeats_another_passes_and_one_that_is_off_by_a_constant_does_not(gate: str) -> None:
    """Losses equal to rounding have no interval: there is no scatter to make one of."""
    for off, fails in ((1e-9, False), (0.1, True)):
        cells = tuple(
            Cell(name, {}, "c", tuple(range(5)), tuple(run(name, s, 0.9 - add) for s in range(5)))
            for name, add in (("builtin", 0.0), ("mine", off))
        )
        summary = summarize(StudyResults("demo", "builtin", (), cells, margin=Margin("val_loss", 0.01)))
        text = f"mine.val_loss {gate} builtin" + " within 0.01" * (gate != "worse than")
        assert failed(text, summary) == fails


def proof(lead: float, noise: float = 0.001, seeds: int = 5) -> Summary:
    """mine leads builtin by so much in test accuracy, give or take the noise; the margin is 1 point."""
    wobble = (1, -1, 0.5, -0.6, 0.2, -0.1)
    cells = tuple(
        Cell(
            name, {}, "c", tuple(range(seeds)),
            tuple(run(name, s, 0.9 + s / 1000 + (lead + noise * wobble[s]) * (name == "mine")) for s in range(seeds)),
        )
        for name in ("builtin", "mine")
    )  # fmt: skip
    return summarize(StudyResults("demo", "builtin", (), cells, margin=MARGIN))


MARGIN = Margin("test_accuracy", 0.01)


@pytest.mark.parametrize(
    ("lead", "noise", "same", "as_good"),
    [
        (0.0, 0.001, True, True),
        (0.008, 0.001, True, True),
        (-0.008, 0.001, True, True),
        (0.02, 0.001, False, True),  # better by more than the margin is not the same, but as good
        (-0.02, 0.001, False, False),
        (0.0, 0.02, False, False),  # nothing is wrong, and nothing is shown
        (-0.0095, 0.001, False, False),  # inside, but not surely
    ],
)
def test_gates_that_ask_for_a_proof(lead: float, noise: float, same: bool, as_good: bool) -> None:
    summary = proof(lead, noise)
    for text, passes in (
        ("mine.test_accuracy not the same as builtin", same),
        ("mine.test_accuracy  not  as good as builtin", as_good),
    ):
        (outcome,) = judge_gates(read_gates([text], ["builtin", "mine"], 5, MARGIN), summary)
        assert outcome.failed is not passes
        assert "margin 0.01" in outcome.reason


def test_the_bounds_of_a_proof() -> None:
    # differences of mean 0.00002 and std 0.000814 of 5: 90 % interval ± t_4(0.95) s / √5
    differences = [0.001, -0.001, 0.0005, -0.0006, 0.0002]
    half = stats.t.ppf(0.95, 4) * stats.tstd(differences) / math.sqrt(5)
    assert half == pytest.approx(0.0007757, abs=1e-7)
    (same,) = judge_gates(
        read_gates(["mine.test_accuracy not the same as builtin within 0.1%"], ["builtin", "mine"], 5),
        proof(0.0),
    )
    assert not same.failed
    assert "90% interval [-0.0007557, +0.0007957], margin 0.001" in same.reason
    (good,) = judge_gates(
        read_gates(["mine.test_accuracy not as good as builtin within 0.0005"], ["builtin", "mine"], 5),
        proof(0.0),
    )
    assert good.failed
    assert "worse by at most 0.0007557 (95%, one-sided), margin 0.0005" in good.reason


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (
            "mine.val_loss not the same as builtin",
            "The study has a margin of test_accuracy, none of val_loss",
        ),
        ("mine.test_accuracy not the same as builtin within x", '"x" is not a number'),
        ("mine.test_accuracy not the same as builtin within 0", "is not above 0"),
        ("mine.test_accuracy worse than builtin within 1%", "is for 'not the same as'"),
        ("mine.test_accuracy < nan", '"nan" is not a number'),
        ("mine.test_accuracy > inf", '"inf" is not a number'),
        ("mine.test_accuracy not the same as", "cannot be parsed"),
    ],
)
def test_a_proof_that_can_not_be_asked_for(gate: str, said: str) -> None:
    with pytest.raises(GateError) as caught:
        read_gates([gate], ["builtin", "mine"], 5, MARGIN)
    assert said in str(caught.value)


def test_a_gate_of_a_sweep_compares_on_seeds_that_did_not_choose() -> None:
    trains = {"none": ["+" * 5] * 2, "batch": ["+" * 5] * 2}
    lucky = sweep(
        trains, lambda variant, place, seed: 0.95 if (variant, place, seed < 2) == ("none", 1, True) else 0.9
    )
    (outcome,) = judge_gates(read_gates(["batch.test_accuracy worse than none"], ["none", "batch"], 5), lucky)
    assert not outcome.failed
    assert outcome.reason.endswith("3 paired seeds")
    few = sweep({name: ["+++"] * 2 for name in trains})
    (outcome,) = judge_gates(read_gates(["batch.test_accuracy worse than none"], ["none", "batch"], 3), few)
    assert (outcome.failed, outcome.reason) == (
        True,
        "a sweep needs 5 seeds for it: some choose the setting, the others compare",
    )


def test_a_study_that_waits_for_a_look_fails_its_gates() -> None:
    waiting = summarize(losses({"batch": effect(0.5, 5)}, num_base=5))
    gate = "batch.test_loss worse than none"
    (outcome,) = judge_gates(read_gates([gate], ["none", "batch"], 20), waiting)
    assert (outcome.failed, "is not complete" in outcome.reason) == (True, True)
    (outcome,) = judge_gates(
        read_gates([gate], ["none", "batch"], 20), summarize(losses({"batch": effect(9, 5)}, num_base=5))
    )
    assert outcome.failed
    assert "95% interval [+6.154" in outcome.reason  # the repeated one: 9 - 6.36 / √5


def test_a_sweep_needs_five_seeds_for_a_verdict() -> None:
    with pytest.raises(GateError, match="4 seeds can't have a verdict in a sweep"):
        read_gates(["none.val_loss worse than batch"], ["none", "batch"], 4, swept=True)
    assert read_gates(["none.val_loss worse than batch"], ["none", "batch"], 5, swept=True)


def test_a_gap_is_a_gate_a_primary_metric_and_a_margin_by_hand() -> None:
    """Test minus train, paired by seed as any metric: the interval by scipy from the differences of the gaps."""
    gaps = {"none": [0.30, 0.34, 0.29, 0.33], "batch": [0.20, 0.21, 0.22, 0.19]}

    def with_gap(variant: str, seed: int, gap: float) -> RunRecord:
        numbers = {"train_loss": 0.1 * seed, "test_loss": 0.1 * seed + gap, "val_loss": 1.0}
        return RunRecord(variant, {}, seed, "c", variant, "finished", final=numbers, best=numbers)

    cells = tuple(
        Cell(name, {}, "c", (0, 1, 2, 3), tuple(with_gap(name, seed, gap) for seed, gap in enumerate(values)))
        for name, values in gaps.items()
    )
    margin = Margin("gap_loss", 0.5)
    summary = summarize(StudyResults("s", "none", (), cells, primary="gap_loss", margin=margin))
    found = next(c for c in summary.comparisons if (c.metric, c.at) == ("gap_loss", "final"))
    differences = [one - other for one, other in zip(gaps["batch"], gaps["none"], strict=True)]
    expected = stats.ttest_1samp(differences, 0).confidence_interval()
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    assert (found.verdict, found.uncorrected) == ("same", "better")
    assert summary.parts == ("train", "val", "test", "gap")
    assert failed("none.gap_loss > 0.3", summary)
    assert not failed("batch.gap_loss > 0.3", summary)
    assert failed("none.gap_loss worse than batch", replace(summary, margin=None))


def test_the_grain_of_a_gap_holds_the_rounding_of_both_shares() -> None:
    counts = {"probe": (20, 20), "val": (5, 5), "test": (15, 15)}
    run = RunRecord("a", {}, 0, "c", "a", "finished", class_counts=counts)
    assert grain_of([run], "gap_accuracy") == pytest.approx(math.hypot(1 / 30, 1 / 40))
    assert grain_of([run], "val_gap_accuracy") == pytest.approx(math.hypot(1 / 10, 1 / 40))
    assert grain_of([run], "gap_loss") is None


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("custom.gap_accuracy < -1.5", "a difference of two shares, from -1 to 1: it can never hold"),
        ("custom.dark_loss < 1", 'unknown metric "dark_loss"'),
    ],
)
def test_a_gate_on_a_gap_that_can_not_hold(gate: str, said: str) -> None:
    with pytest.raises(GateError, match=said):
        read_gates([gate], ["custom"], 5)
