"""Every usual mistake, planted alone in a student's layer: found, and called by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnbench.verification.findings import Verification
from bnbench.verification.judge import verify
from bnbench.verification.wishes import INPUTS, Wishes

STUDENTS = Path(__file__).parents[1] / "student_layers.py"

# The class, the words that must name it, and the checks that fail (no others may)
_FORWARD = {"forward", "dx", "dgamma", "eval output"}
_RUNNING = {"running_mean (3 steps)", "running_var (3 steps)"}
_OFFSETS = {"offset 1e2 (float32)", "offset 1e4 (float32)", "offset 1e6 (float32)"}
PLANTED = [
    ("EpsOutside", "eps outside the root", _FORWARD | {"constant channel"}),
    ("EpsMissing", "eps is missing", _FORWARD | {"constant channel"}),
    ("EpsWritten", "eps is 1e-05, not 0.001", _FORWARD),
    ("NoRoot", "the square root is missing", _FORWARD),
    ("NoMean", "the mean is not subtracted", _FORWARD),
    ("LayerNorm", "layer normalization", {"forward", "dx", "dgamma", "NaN stays in its channel"}),
    ("Swapped", "gamma and beta are swapped", _FORWARD | {"dbeta"}),
    ("GammaUnused", "gamma is not applied", _FORWARD),
    ("BetaFirst", "beta is added before gamma", {"forward", "dgamma", "dbeta", "eval output"}),
    ("OnePlusGamma", "1 + gamma", {"forward", "dx", "eval output"}),
    ("OnePass", "E[x^2]-E[x]^2 loses its digits", _OFFSETS),
    ("OnePassClamped", "E[x^2]-E[x]^2 loses its digits", _OFFSETS),
    ("MeanConstant", "the mean is treated as a constant", {"dx", "gradcheck (float64)"}),
    ("VarConstant", "the variance is treated as a constant", {"dx", "gradcheck (float64)"}),
    ("BothConstant", "mean and variance are treated as constants", {"dx", "gradcheck (float64)"}),
    ("DxWithoutGamma", "dx is not multiplied by gamma", {"dx", "gradcheck (float64)"}),
    ("GradientMeans", "averaged over the batch", {"dgamma", "dbeta"}),
    ("GradientBatchMeans", "averaged over the batch", {"dgamma", "dbeta"}),
    ("DgammaCentred", "without the division by the deviation", {"dgamma"}),
    ("DgammaRaw", "dgamma uses x, where", {"dgamma"}),
    ("GradientsSwapped", "the gradients of gamma and beta are swapped", {"dgamma", "dbeta"}),
    ("StoredBiased", "running_var is off by n/(n-1): torch stores the unbiased", {"running_var (3 steps)"}),
    ("StoredBySamples", "n counts the positions too", {"running_var (3 steps)"}),
    ("StoredTwice", "multiplied by n/(n-1) twice", {"running_var (3 steps)"}),
    ("StoredDeviation", "holds the standard deviation", {"running_var (3 steps)"}),
    ("MomentumOld", "momentum is the weight of the old value", _RUNNING),
    ("MomentumWritten", "weight is 0.1, not 0.3", _RUNNING),
    ("LastBatch", "the last batch's", _RUNNING),
    ("NeverMoves", "never move", _RUNNING),
    ("Summed", "the old value is not decayed", _RUNNING),
    ("Averaged", "plain average over all batches", _RUNNING),
    ("Twice", "updated twice a step", _RUNNING),
    ("NotDetached", "statistics not detached", {"statistics detached"}),
    ("RunningInTraining", "the running statistics are used in training", {"forward", "dx", "dgamma"}),
    ("BatchInEval", "batch statistics are used in eval", {"eval output", "one sample in eval"}),
    ("UpdatesInEval", "running statistics updated in eval", {"eval changes nothing"}),
    ("CorrectedInEval", "multiplied by n/(n-1) once more in eval", {"eval output", "one sample in eval"}),
    (
        "ByGradMode",
        "torch.is_grad_enabled()",
        {"eval output", "one sample in eval", "eval changes nothing", "statistics under no_grad"},
    ),
    (
        "NotParameters",
        "not registered as parameters",
        {"gamma, beta are parameters", "state_dict round trip"},
    ),
    ("NotBuffers", "not registered as buffers", {"statistics are buffers", "state_dict round trip"}),
    ("GammaZero", "gamma initialised at 0", {"initial values"}),
    ("VarZero", "running_var initialised at 0", {"initial values"}),
    ("CounterStuck", "num_batches_tracked is never counted", {"num_batches_tracked"}),
    ("HalfNotGivenBack", "half inputs are not given back", {"float16 in and out", "bfloat16 in and out"}),
    ("HalfStatistics", "computed in half precision", {"float16 in and out", "bfloat16 in and out"}),
    ("SingleOnly", "computed in float32", {"float64 throughout"}),
    ("OneValueGivesNan", "n - 1 is 0", {"one value in training"}),
    ("View", ".view() needs contiguous", {"non-contiguous input", "channels_last"}),
]


def judged(name: str, **wishes: object) -> Verification:
    return verify(f"{STUDENTS}:{name}", Wishes(**wishes))  # type: ignore[arg-type]


def failed(found: Verification) -> set[str]:
    return {item.check for item in found.having("failed")}


@pytest.mark.parametrize(("name", "words", "checks"), PLANTED, ids=[name for name, _, _ in PLANTED])
def test_a_planted_mistake_is_named_and_nothing_else_is(name: str, words: str, checks: set[str]) -> None:
    found = judged(name, dim="2")
    assert len(found.by_cause()) == 1
    (cause,) = found.by_cause()
    assert words in cause
    assert failed(found) == checks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "inputs"),
    [
        ("PerPosition", "per position", set(INPUTS[1:])),
        ("NoWidth", "leave out the last axis", {"(N, C, H, W)"}),
        ("AllTogether", "for all channels together", set(INPUTS)),
    ],
)
def test_wrong_axes(name: str, words: str, inputs: set[str]) -> None:
    found = judged(name)
    for check in ("forward", "dx", "dgamma", "running_mean (3 steps)", "running_var (3 steps)"):
        items = [item for item in found.having("failed") if item.check == check]
        assert {item.input for item in items} == inputs
        assert all(len(item.causes) == 1 and words in item.causes[0] for item in items)
    others = [cause for cause in found.by_cause() if words not in cause]
    assert all("change their shape" in cause for cause in others)


def test_unbiased_in_training_also_meets_one_value() -> None:
    """x.var() of one value is NaN: two findings, as there are two faults."""
    found = judged("UnbiasedInTraining", dim="1")
    assert [cause.split(":")[0] for cause in found.by_cause()] == [
        "normalized with the unbiased variance in training",
        "n - 1 is 0 for one value per channel",
    ]


def test_an_input_changed_in_place() -> None:
    found = judged("InPlace", dim="2")
    assert any("the input is changed in place" in cause for cause in found.by_cause())
    assert all("in place" in cause for cause in found.by_cause())
    assert not failed(found) & {"forward", "eval output", *_RUNNING}


def test_an_output_cut_from_the_graph() -> None:
    found = judged("Cut", dim="2")
    assert failed(found) == {"dx", "dgamma", "dbeta", "eval dx", "gradcheck (float64)"}
    assert all("cut from the graph" in cause for cause in found.by_cause())


@pytest.mark.parametrize(
    ("name", "both"),
    [
        ("UnbiasedAndMeanConstant", ("normalized with the unbiased", "the mean is treated as a constant")),
        ("EpsOutsideAndStoredBiased", ("eps outside", "running_var is off by n/(n-1)")),
        ("SwappedAndEpsOutside", ("eps outside", "gamma and beta are swapped")),
        ("MomentumOldAndStoredBiased", ("weight of the old value", "running_var is off by n/(n-1)")),
    ],
)
def test_two_mistakes_at_once_are_both_named(name: str, both: tuple[str, str]) -> None:
    causes = list(judged(name, dim="2").by_cause())
    for words in both:
        assert sum(words in cause for cause in causes) == 1
    assert all(any(words in cause for words in (*both, "n - 1 is 0")) for cause in causes)


def test_a_mistake_that_nobody_makes_has_a_size_and_no_name() -> None:
    found = judged("Shifted", dim="2")
    assert failed(found) == _FORWARD
    assert list(found.by_cause()) == [""]
    assert all(item.size and item.size > 0.1 and item.causes == () for item in found.having("failed"))


def test_sizes_are_relative_to_what_is_right() -> None:
    """A running mean that stays at 0 misses all of it: an error of 1."""
    items = [item for item in judged("NeverMoves").having("failed") if item.check == "running_mean (3 steps)"]
    assert [item.size for item in items] == [1.0, 1.0, 1.0, 1.0]
    assert {item.tolerance for item in items} == {1e-4}
