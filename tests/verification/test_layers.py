"""Layers that are right, that have less, that keep other conventions, or that misbehave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bnbench.base.errors import LayerError
from bnbench.reports.verification import answer_lines
from bnbench.verification.findings import Verification
from bnbench.verification.judge import verify
from bnbench.verification.wishes import INPUTS, Wishes

STUDENTS = Path(__file__).parents[1] / "student_layers.py"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def judged(name: str, **wishes: object) -> Verification:
    return verify(f"{STUDENTS}:{name}", Wishes(**wishes))  # type: ignore[arg-type]


def skipped(found: Verification) -> set[str]:
    return {item.check for item in found.having("skipped")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch", "batch_custom"])
def test_registered_batch_norms_pass_every_check_on_every_input(name: str) -> None:
    found = verify(name, Wishes())
    assert found.passed
    assert {item.status for item in found.findings} == {"passed"}
    assert {item.input for item in found.findings} == set(INPUTS)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("torch.nn:BatchNorm1d", set(INPUTS[2:])),
        ("torch.nn:BatchNorm2d", {*INPUTS[:2], INPUTS[3]}),
        ("torch.nn:BatchNorm3d", set(INPUTS[:3])),
        ("torch.nn:SyncBatchNorm", set()),
        ("bnbench.norms:BatchNorm1d", set(INPUTS[2:])),
        ("bnbench.norms:BatchNorm3d", set(INPUTS[:3])),
    ],
)
def test_layers_of_one_dim_are_judged_on_theirs(name: str, refused: set[str]) -> None:
    found = verify(name, Wishes())
    assert found.passed
    assert {item.input for item in found.having("skipped")} == refused
    assert all("D input" in item.message for item in found.having("skipped"))


@pytest.mark.parametrize("name", ["Right", "ByHand", "Textbook"])
def test_naive_right_layers_pass(name: str) -> None:
    found = judged(name)
    assert found.by_cause() == {}
    assert found.passed
    assert skipped(found) <= {"num_batches_tracked", "exchange with torch", "any"}


def test_the_examples_of_the_docs() -> None:
    right = verify(f"{EXAMPLES / 'right_layer.py'}:BatchNorm", Wishes())
    assert right.passed
    wrong = verify(f"{EXAMPLES / 'wrong_layer.py'}:BatchNorm", Wishes())
    assert [cause.split(":")[0].split(" (")[0] for cause in wrong.by_cause()] == [
        "eps outside the root",
        "mean and variance are treated as constants in the backward pass",
        "momentum is the weight of the old value; it should be the weight of the new, as in torch",
        "running_var is off by n/(n-1)",
        "running statistics not registered as buffers",
    ]
    page = (EXAMPLES.parent / "verify.md").read_text()
    for line in (*answer_lines(right), *answer_lines(wrong)):
        assert line in page


def test_a_file_with_one_layer_needs_no_name() -> None:
    assert verify(str(EXAMPLES / "right_layer.py"), Wishes(dim="1")).passed


@pytest.mark.slow
def test_other_conventions_are_right_where_they_are_declared() -> None:
    assert not judged("KerasLike").passed
    assert judged("KerasLike", weight_of="old", kept="biased").passed
    causes = list(judged("Right", weight_of="old", kept="biased").by_cause())
    assert len(causes) == 2
    assert "momentum is the weight of the new value" in causes[0]
    assert "it is unbiased, as torch has it" in causes[1]


@pytest.mark.slow
def test_values_written_into_a_layer_are_right_where_they_are_declared() -> None:
    assert judged("EpsWritten", eps=1e-5).passed
    assert judged("MomentumWritten", momentum=0.1).passed
    assert judged("Right", eps=0.5, momentum=0.9).passed


def test_a_layer_with_less_is_judged_on_what_it_has() -> None:
    found = judged("Plain")
    assert found.passed
    assert found.parts == {}
    passed = {item.check for item in found.having("passed")}
    assert {"forward", "dx", "gradcheck (float64)", "offset 1e6 (float32)", "exchange with torch"} <= passed
    reasons = {item.check: item.message for item in found.having("skipped") if item.input == "(N, C)"}
    assert reasons["dgamma"] == "the layer has no gamma"
    assert reasons["eval output"] == (
        "the layer has no running mean and no running variance: in eval it uses the batch's"
    )
    assert (
        "does not take it: AssertionError"
        in {item.input: item.message for item in found.having("skipped") if item.check == "any"}[
            "(N, C, H, W)"
        ]
    )


def test_a_dim_that_is_insisted_on_fails_where_the_layer_does_not_take_it(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="takes none of the inputs"):
        judged("Plain", dim="2")
    (tmp_path / "long.py").write_text(
        "from torch import nn\nclass Long(nn.BatchNorm1d):\n    def forward(self, x):\n"
        "        assert x.dim() == 3\n        return super().forward(x)\n"
    )
    found = verify(f"{tmp_path / 'long.py'}", Wishes(dim="1"))
    assert not found.passed
    assert [(item.check, item.input) for item in found.having("failed")] == [("any", "(N, C)")]
    assert verify(f"{tmp_path / 'long.py'}", Wishes()).passed


def test_where_things_are_is_told() -> None:
    assert judged("NotBuffers", dim="1").parts == {
        "gamma": "gamma",
        "beta": "beta",
        "running mean": "moving_mean (plain attribute)",
        "running variance": "moving_var (plain attribute)",
    }


def test_unusual_names_are_found_by_shape(tmp_path: Path) -> None:
    source = (EXAMPLES / "right_layer.py").read_text()
    for old, new in (("gamma", "alef"), ("beta", "bet"), ("running_mean", "gimel"), ("running_var", "dalet")):
        source = source.replace(old, new)
    (tmp_path / "odd.py").write_text(source)
    found = verify(f"{tmp_path / 'odd.py'}:BatchNorm", Wishes(dim="2"))
    assert found.passed
    assert list(found.parts.values()) == ["alef", "bet", "gimel", "dalet"]


def test_an_error_in_forward_fails_the_checks_that_meet_it_and_no_others() -> None:
    found = judged("RaisesInEval", dim="1")
    messages = {item.message for item in found.having("failed")}
    assert messages == {"raised KeyError: 'no statistics'"}
    assert {"forward", "dx", "running_var (3 steps)"} <= {item.check for item in found.having("passed")}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Raises", "(N, C), (N, C, L): RuntimeError: shapes don't match"),
        ("WrongShape", "(N, C): forward returned shape (7, 2) for (7, 5)"),
        ("ReturnsTuple", "(N, C), (N, C, L): forward returned tuple, not a tensor"),
    ],
)
def test_a_layer_that_takes_no_input_is_one_error(name: str, message: str) -> None:
    with pytest.raises(LayerError, match="takes none of the inputs") as error:
        judged(name, dim="1")
    assert message in str(error.value).splitlines()


def test_an_output_that_is_not_finite() -> None:
    found = judged("ReturnsNan", dim="1")
    (forward,) = (
        item for item in found.having("failed") if (item.check, item.input) == ("forward", "(N, C)")
    )
    assert forward.message == "NaN or infinite"
    assert list(found.by_cause()) == [""]


@pytest.mark.slow
def test_normalizers_that_are_no_batch_norm_are_called_by_their_name() -> None:
    assert any("layer normalization" in cause for cause in verify("layer", Wishes()).by_cause())
    assert any("instance normalization" in cause for cause in verify("instance", Wishes()).by_cause())
    none = verify("none", Wishes(dim="1")).by_cause()
    assert set(none) == {"not divided by the standard deviation", "the mean is not subtracted"}


def test_the_same_twice_and_no_global_random_state_touched() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = judged("Shifted", dim="2")
    assert torch.equal(torch.rand(1), expected)
    assert judged("Shifted", dim="2") == first
