"""Mistakes beyond the usual ones, each planted alone: named, and never passed where it is not understood."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bnbench.base.errors import LayerError
from bnbench.verification.findings import Verification
from bnbench.verification.judge import verify
from bnbench.verification.wishes import INPUTS, Wishes

pytestmark = pytest.mark.slow
HERE = Path(__file__).parents[1]
GHOST = "ghost batch normalization: statistics of"
FOREIGN = "a parameter that batch norm does not have"
OUTSIDE = "a layer that is kept outside"


@pytest.fixture(autouse=True)
def neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])


def judged(name: str, **wishes: object) -> Verification:
    return verify(f"{HERE / 'wrong_layers.py'}:{name}", Wishes(**wishes))  # type: ignore[arg-type]


def mathematical_causes(found: Verification) -> list[str]:
    causes = (cause for item in found.having("failed", "mathematics") for cause in item.causes or ("",))
    return list(dict.fromkeys(causes))


# The class, and words of each cause of the mathematics, in any order
PLANTED: list[tuple[str, list[str]]] = [
    ("EpsOdd", ["eps is 3.7e-06, not 0.001"]),
    ("EpsHuge", ["eps is 0.5, not 1e-05"]),
    ("Frozen", ["gamma or beta is frozen from the start"]),
    ("MomentumOdd", ["weight is 0.037, not 0.3"]),
    ("EpsOutsideWritten", ["eps outside the root", "eps is 0.002, not 0.001"]),
    ("FirstReplaces", ["the first batch's statistics replace"]),
    ("DebiasedStored", ["the running statistics are debiased"]),
    ("DebiasedInEval", ["in eval the running statistics are debiased"]),
    ("InverseStored", ["running_var holds 1 / sqrt(var + eps)"]),
    ("InverseThroughout", ["running_var holds 1 / sqrt(var + eps)", "taken for 1 / sqrt(var + eps)"]),
    ("DeviationThroughout", ["holds the standard deviation", "taken for the standard deviation"]),
    ("DividesByRsqrt", ["divided by rsqrt"]),
    ("Activated", ["an activation is inside the layer (relu)"]),
    ("ActivatedTanh", ["an activation is inside the layer (tanh)"]),
    ("ActivatedGelu", ["an activation is inside the layer (gelu)"]),
    ("ActivatedLeaky", ["an activation is inside the layer (leaky relu (0.2))"]),
    ("LastAxis", ["features are expected on the last axis"]),
    ("LastAxisPlain", ["features are expected on the last axis"]),
    ("Ghost", [f"{GHOST} parts of 16 samples"]),
    ("GhostLarge", [f"{GHOST} parts of 128 samples"]),
    ("GhostSmall", [f"{GHOST} parts of 3 samples"]),
    ("GhostChunks", [f"{GHOST} 4 parts"]),
    ("SharedGamma", ["one gamma for all channels"]),
    ("SharedGammaOddName", ["one gamma for all channels"]),
    ("SharedBoth", ["one gamma for all channels", "one beta for all channels"]),
    ("UnknownName", [f"zeta is {FOREIGN}"]),
    ("UnusedParameter", [f"spare is {FOREIGN}"]),
    ("Elementwise", [f"gamma is {FOREIGN}"]),
    ("Stacked", [f"table is {FOREIGN}"]),
    ("HiddenBiased", ["running_var is off by n/(n-1)"]),
    ("InList", ["a layer is kept in self.norms (list)"]),
    ("InDict", ["a layer is kept in self.norms (dict)"]),
    ("MadeInForward", ["a layer is made in forward"]),
    ("ParameterInForward", ["gamma or beta is made again in forward"]),
    ("InClosure", [OUTSIDE]),
    ("GlobalGamma", [OUTSIDE]),
    ("ParameterList", ["not registered as parameters"]),
    ("ExpGamma", ["the scale is exp(gamma), where it is gamma"]),
    ("SoftplusGamma", ["the scale is softplus(gamma)"]),
    ("InverseGamma", ["the scale is 1 / gamma"]),
    ("FirstGamma", ["the first channel's gamma, for all channels"]),
    ("BetaSubtracted", ["beta is subtracted"]),
    ("EpsTwice", ["eps is added twice: the root holds var + 0.002"]),
    ("EpsTwiceInEval", ["eps is 0.002 in eval, where it is 0.001"]),
    ("VarianceClamped", ["sqrt(max(var, eps))"]),
    ("BatchMeanInEval", ["the batch's mean is used in eval"]),
    ("BatchVarianceInEval", ["the batch's variance is used in eval"]),
    ("UpdatesBeforeEval", ["running statistics updated in eval"]),
    ("CutInEval", ["x is cut from the graph in eval"]),
    ("BranchWrong", ["normalized with the unbiased variance in training"]),
]


@pytest.mark.parametrize(("name", "words"), PLANTED, ids=[name for name, _ in PLANTED])
def test_a_mistake_is_named_on_every_input_and_nothing_else_is(name: str, words: list[str]) -> None:
    found = judged(name)
    assert not found.passed
    causes = mathematical_causes(found)
    assert len(causes) == len(words), causes
    for word in words:
        assert sum(word in cause for cause in causes) == 1, causes


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("StopsAfterFive", "30 steps"),
        ("OtherAfterTen", "30 steps"),
        ("NormalizedClamped", "larger batch"),
        ("OutputClamped", "large values in eval"),
    ],
)
def test_what_shows_late_or_far_out_is_found(name: str, check: str) -> None:
    found = judged(name)
    failed = [item for item in found.having("failed", "mathematics") if item.check == check]
    assert {item.input for item in failed} == set(INPUTS)
    assert all(item.causes == () for item in failed)


@pytest.mark.parametrize("name", ["NanEps", "EndlessEps", "NanMomentum"])
def test_numbers_that_are_none_fail_and_travel(name: str) -> None:
    found = judged(name, dim="1")
    assert not found.passed
    json.dumps(found.to_json(), allow_nan=False)


def test_outputs_that_are_no_real_numbers_are_not_taken() -> None:
    with pytest.raises(LayerError, match="takes none of the inputs") as error:
        judged("Complex")
    assert "forward returned a complex64 tensor" in error.value.why


def test_another_precision_than_the_input_s_is_a_fault_of_a_library_layer() -> None:
    found = judged("InDouble", dim="2")
    assert found.passed
    assert "the output is cast to float64" in found.by_cause()


def test_noise_in_eval_is_called_random() -> None:
    causes = mathematical_causes(judged("NoiseInEval", dim="2"))
    assert any("something random is in the layer" in cause for cause in causes)


def test_noise_is_called_random() -> None:
    (finding,) = (item for item in judged("Noise", dim="2").having("failed") if item.check.startswith("same"))
    assert "something random is in the layer" in finding.causes[0]


def test_a_layer_in_a_global_is_found() -> None:
    assert any(OUTSIDE in cause for cause in mathematical_causes(judged("InGlobal", dim="1")))


@pytest.mark.parametrize(
    ("name", "what"),
    [("SetsGradMode", "whether gradients are recorded"), ("DefaultDtype", "torch's default dtype")],
)
def test_changed_settings_of_torch_are_named_and_do_not_reach_other_checks(name: str, what: str) -> None:
    found = judged(name, dim="2")
    (settings,) = (item for item in found.findings if item.check == "torch's settings")
    assert what in settings.message
    assert {"forward", "dx", "running_var (3 steps)"} <= {item.check for item in found.having("passed")}


def test_what_is_wrong_on_images_alone_is_named_there_alone() -> None:
    found = judged("BranchWrong")
    assert {item.input for item in found.having("failed", "mathematics")} == {"(N, C, H, W)"}


def test_a_cause_that_does_not_fit_everywhere_is_not_named(tmp_path: Path) -> None:
    """Unbiased for (N, C), another mistake for the rest: no single formula fits forward on all inputs."""
    (tmp_path / "mixed.py").write_text(
        "import torch\nfrom student_layers import Right\n\n\nclass Mixed(Right):\n"
        "    def statistics(self, x, axes):\n"
        "        mean, var = super().statistics(x, axes)\n"
        "        return (mean, var * 7 / 6) if x.dim() == 2 else (1.37 * mean, var)\n"
    )
    found = verify(f"{tmp_path / 'mixed.py'}", Wishes())
    forward = [item for item in found.having("failed") if item.check == "forward"]
    assert len(forward) == 4
    assert all(item.causes == () for item in forward)


def test_features_last_are_right_where_n_c_alone_is_asked_for() -> None:
    found = judged("LastAxis", dim="1")
    assert found.passed
    assert "it takes (N, L, C)" in found.having("skipped")[-1].message or any(
        "it takes (N, L, C)" in item.message for item in found.having("skipped")
    )
