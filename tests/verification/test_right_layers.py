"""Right layers in many ways of writing: the mathematics passes, whatever they lack as a library layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnbench.base.errors import LayerError
from bnbench.verification.findings import Verification
from bnbench.verification.judge import verify
from bnbench.verification.wishes import INPUTS, Wishes

LAYERS = Path(__file__).parents[1] / "right_layers.py"


def judged(name: str, **wishes: object) -> Verification:
    return verify(f"{LAYERS}:{name}", Wishes(**wishes))  # type: ignore[arg-type]


# The class, the inputs that it takes, and library checks that fail (some of them, for those that promise little)
RIGHT: list[tuple[str, tuple[str, ...]]] = [
    ("Einsum", INPUTS),
    ("VarMean", INPUTS[2:3]),
    ("OnePassDouble", INPUTS),
    ("Functional", INPUTS),
    ("ByInstanceNorm", INPUTS),
    ("NumpyStyle", INPUTS[:1]),
    ("D2l", (INPUTS[0], INPUTS[2])),
    ("FoldedAffine", INPUTS),
    ("Matmul", INPUTS),
    ("DimBranches", INPUTS),
    ("HiddenStatistics", INPUTS),
    ("ImagesByBroadcast", INPUTS[2:3]),
    ("Cumulative", INPUTS[:2]),
    ("Cached", INPUTS),
    ("StackedStatistics", INPUTS),
    ("OddNames", INPUTS),
    ("NoneAtFirst", INPUTS),
    ("SingleOnly", INPUTS),
    ("Lazy", INPUTS[2:3]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "inputs"), RIGHT, ids=[name for name, _ in RIGHT])
def test_the_mathematics_passes(name: str, inputs: tuple[str, ...]) -> None:
    found = judged(name)
    assert found.having("failed", "mathematics") == []
    assert found.passed
    assert {item.input for item in found.having("passed")} == set(inputs)


@pytest.mark.parametrize("name", ["Functional", "DimBranches", "Cumulative", "StackedStatistics", "OddNames"])
def test_some_are_library_layers_too(name: str) -> None:
    assert judged(name).strictly_passed


def test_a_textbook_layer_is_not_a_library_layer() -> None:
    found = judged("D2l")
    assert not found.strictly_passed
    assert {item.check for item in found.having("failed")} == {
        "statistics are buffers",
        "state_dict round trip",
        "one value in training",
        "empty batch",
        "float16 in and out",
        "bfloat16 in and out",
    }


def test_values_that_are_written_in_are_measured_and_reported() -> None:
    found = judged("D2l")
    assert (found.conventions["eps"], found.conventions["eps_from"]) == (2e-4, "measured")
    assert (found.conventions["momentum"], found.conventions["momentum_from"]) == (0.05, "measured")
    assert "eps is written in: 0.0002 (measured; no argument sets another)." in found.notes
    assert judged("Cumulative").conventions["momentum"] is None
    assert judged("Cumulative", momentum="none").conventions["momentum_from"] == "--momentum"


def test_measured_values_are_not_taken_where_others_were_asked_for() -> None:
    assert not judged("D2l", eps=1e-3).passed
    (cause,) = judged("D2l", eps=1e-3, dim="2").by_cause().keys() & {
        "eps is 0.0002, not 0.001: written into the layer (--eps 0.0002, if it is meant)"
    }
    assert cause


def test_momentum_none_is_passed_to_the_layer_and_held_to() -> None:
    assert verify("torch.nn:BatchNorm2d", Wishes(momentum="none")).strictly_passed
    assert verify("batch_custom", Wishes(momentum="none")).strictly_passed
    steady = judged("D2l", momentum="none", dim="2")
    assert any("it is 1 / (batches so far) for --momentum none" in cause for cause in steady.by_cause())
    with pytest.raises(LayerError, match="NoneType"):  # it can't add with None
        judged("Einsum", momentum="none")


def test_statistics_that_no_tensor_shows_are_measured() -> None:
    found = judged("HiddenStatistics")
    assert any("measured from its outputs in eval" in note for note in found.notes)
    assert "running_var (3 steps)" in {item.check for item in found.having("passed")}


def test_a_cache_of_the_batch_s_statistics_is_not_a_running_one() -> None:
    assert set(judged("Cached").parts) == {"gamma", "beta"}
