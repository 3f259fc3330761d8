"""The steps that `bnbench explain` shows: against torch's own layers, finite differences and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bnbench.base.errors import BnbenchError, UnknownNameError
from bnbench.norms import norms
from bnbench.norms.steps import BATCH, Steps, _Example, with_steps, work_out


@pytest.mark.parametrize("name", with_steps())
def test_forward_and_backward_are_the_registered_layers(name: str) -> None:
    """The layer itself, built here once more; its gradient by autograd."""
    worked = work_out(name)
    options = {"ghost_size": worked.part} if name == "ghost" else {}
    layer = norms.get(name).factory(len(worked.x[0]), 1, **options).double()
    with torch.no_grad():
        for parameter, row in ((layer.weight, worked.gamma), (getattr(layer, "bias", None), worked.beta)):
            assert (parameter is None) == (row is None)
            if parameter is not None:
                parameter.copy_(torch.tensor(row, dtype=torch.float64))
    x = torch.tensor(worked.x, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    (grad,) = torch.autograd.grad(out, x, torch.tensor(worked.dy, dtype=torch.float64))
    torch.testing.assert_close(out, torch.tensor(worked.y, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(grad, torch.tensor(worked.dx, dtype=torch.float64), atol=1e-12, rtol=0)
    assert worked.largest_gap < 1e-12


def test_batch_norm_by_hand() -> None:
    """Oracle: columns 1, 3, 5, 7 and 10, 30, 20, 40 have the means 4 and 25, and the variances 5 and 125."""
    worked = work_out("batch")
    assert worked.mean == ((4.0, 25.0),)
    assert worked.var == ((5.0, 125.0),)
    assert worked.x_hat[0] == pytest.approx((-3 / np.sqrt(5 + 1e-5), -15 / np.sqrt(125 + 1e-5)))
    assert worked.y[0] == pytest.approx((2 * worked.x_hat[0][0] + 1, 0.5 * worked.x_hat[0][1]))


@pytest.mark.parametrize("name", ["batch", "layer", "rms", "ghost", "batch_mean_only"])
def test_backward_by_finite_differences(name: str) -> None:
    """Of L = Σ dy y, in float64, by the forward formulas alone."""
    worked = work_out(name)
    entry = norms.get(name)
    options = entry.options()(**({"ghost_size": worked.part} if name == "ghost" else {}))
    example = _Example(entry, entry.facts.steps, {f: getattr(options, f) for f in type(options).model_fields})

    def loss(x: np.ndarray) -> float:
        return float((np.array(worked.dy) * example._scaled(example._normalized(x)[2])).sum())

    x, step = np.array(worked.x), 1e-5
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        assert (loss(up) - loss(down)) / (2 * step) == pytest.approx(np.array(worked.dx)[place], abs=1e-7)


def test_the_two_sums_of_a_gradient() -> None:
    """Σ dx is 0; Σ dx x̂ is ε/(σ² + ε) of what it is without the correction: tiny, and not 0."""
    worked = work_out("batch")
    zero, almost = (np.array(rows)[0] for rows in worked.sums)
    assert np.abs(zero).max() < 1e-15
    g = np.array(worked.gamma) * np.array(worked.dy)
    var = np.array(worked.var)[0]
    expected = (g * np.array(worked.x_hat)).sum(0) / np.sqrt(var + 1e-5) * 1e-5 / (var + 1e-5)
    assert almost == pytest.approx(expected, rel=1e-6)
    assert (np.abs(almost) > 0).all()


@pytest.mark.parametrize(("name", "factor", "new"), [("batch", 4 / 3, 0.1), ("batch_keras", 1.0, 0.01)])
def test_running_statistics_after_n_updates(name: str, factor: float, new: float) -> None:
    """Oracle: (1 - (1 - m)^n) of the batch's, and (1 - m)^n of the start, 0 and 1."""
    for one in work_out(name).updated:
        left = (1 - new) ** one.updates
        assert one.mean == pytest.approx(((1 - left) * 4, (1 - left) * 25))
        assert one.var == pytest.approx((left + (1 - left) * factor * 5, left + (1 - left) * factor * 125))


def test_a_batch_of_one_is_beta_and_is_refused_where_its_variance_is_zero() -> None:
    for name in with_steps():
        worked = work_out(name)
        if worked.over_samples:
            assert worked.alone == (worked.beta or (0.0, 0.0),)
            assert "more than 1 value per channel" in worked.refusal
        else:
            assert worked.refusal == ""
            assert worked.alone[0] == pytest.approx(worked.y[0])


def test_a_layer_that_differs_from_its_formulas_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: steps that say that the running variance is biased, of a layer that keeps the unbiased one."""
    entry = norms.get("batch")
    wrong = replace(entry, facts=replace(entry.facts, steps=replace(BATCH, running="biased")))
    monkeypatch.setitem(norms._entries, "batch", wrong)
    with pytest.raises(BnbenchError, match="its layer differs from its formulas by"):
        work_out("batch")
    others: list[Callable[[], Steps]] = [
        lambda: replace(BATCH, centres=False),
        lambda: replace(BATCH, divides=False),
    ]
    for make in others:
        monkeypatch.setitem(norms._entries, "batch", replace(entry, facts=replace(entry.facts, steps=make())))
        with pytest.raises(BnbenchError, match="differs from its formulas"):
            work_out("batch")


def test_names_without_steps_name_those_with_them() -> None:
    with pytest.raises(BnbenchError, match="norm dyt has no steps") as caught:
        work_out("dyt")
    assert "batch, batch_custom" in caught.value.fix
    with pytest.raises(UnknownNameError, match='Did you mean "batch"'):
        work_out("bathc")
