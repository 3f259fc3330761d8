"""The LSTM against torch's cell, and its layer-normalized cell against the equations of Ba et al. 2016.

Oracles: torch.nn.LSTMCell and torch.nn.LSTM with the same weights, in float64; the equations in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.data import Sizes
from bnbench.engine.build import initialise
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.models.lstm import LSTMLayer
from bnbench.norms import norms

WIDTH, LENGTH, LETTERS = 6, 5, 9
TEXT = Sizes((LENGTH,), LETTERS, vocabulary=LETTERS, per_position=True)
CLASSES = Sizes((LENGTH,), 3, vocabulary=LETTERS, masked=True)


def layer(norm: str) -> LSTMLayer:
    torch.manual_seed(0)
    made = LSTMLayer(4, WIDTH, NormLayer(norms.get(norm))).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def made(sizes: Sizes, norm: str = "layer", **options: Any) -> nn.Module:
    model: nn.Module = models.get("lstm").factory(sizes, NormLayer(norms.get(norm)), width=WIDTH, **options)
    initialise(model, 0, "torch")
    return model


def data(count: int = 3) -> Tensor:
    return torch.randn(count, LENGTH, 4, generator=torch.Generator().manual_seed(1)).double()


def test_without_a_normalizer_it_is_torchs_cell_and_torchs_lstm() -> None:
    """Every state, the loss and every gradient, to 1e-12."""
    ours = layer("none")
    theirs, cell = nn.LSTM(4, WIDTH, batch_first=True).double(), nn.LSTMCell(4, WIDTH).double()
    with torch.no_grad():
        for each, suffix in ((theirs, "_l0"), (cell, "")):
            each.get_parameter(f"weight_ih{suffix}").copy_(ours.input.weight)
            each.get_parameter(f"weight_hh{suffix}").copy_(ours.hidden.weight)
            each.get_parameter(f"bias_ih{suffix}").copy_(ours.bias)
            each.get_parameter(f"bias_hh{suffix}").zero_()
    x = data()
    states, expected = ours(x), theirs(x)[0]
    close(states, expected)
    h = c = x.new_zeros(3, WIDTH)
    for time in range(LENGTH):
        h, c = cell(x[:, time], (h, c))
        close(states[:, time], h)
    states.square().mean().backward()
    expected.square().mean().backward()
    for parameter, name in (
        (ours.input.weight, "weight_ih"),
        (ours.hidden.weight, "weight_hh"),
        (ours.bias, "bias_ih"),
    ):
        close(parameter.grad, theirs.get_parameter(f"{name}_l0").grad)


def close(one: Tensor | None, other: Tensor | None) -> None:
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layer_norm(x: np.ndarray, norm: nn.Module, centre: bool) -> np.ndarray:
    """LN(x; alpha, beta) of Ba et al. 2016, equation 15, with eps under the root; RMS norm without centring."""
    x = x - x.mean(-1, keepdims=True) if centre else x
    y = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * norm.weight.detach().numpy()
    return y + norm.bias.detach().numpy() if centre else y


@pytest.mark.parametrize(("norm", "centre"), [("layer", True), ("rms", False)])
def test_the_normalized_cell_is_that_of_the_paper(norm: str, centre: bool) -> None:
    """Equations 20 to 22 of Ba et al. 2016, time step by time step, to 1e-12."""
    ours, x = layer(norm), data()
    weights = {name: value.detach().numpy() for name, value in ours.named_parameters()}
    h = c = np.zeros((3, WIDTH))
    states = ours(x)
    for time in range(LENGTH):
        from_state = layer_norm(h @ weights["hidden.weight"].T, ours.hidden_norm.layer, centre)
        from_input = layer_norm(x[:, time].numpy() @ weights["input.weight"].T, ours.input_norm.layer, centre)
        i, f, g, o = np.split(from_state + from_input + weights["bias"], 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(layer_norm(c, ours.cell_norm.layer, centre))
        close(states[:, time].detach(), torch.from_numpy(h))


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_padding_changes_nothing(pool: str) -> None:
    model = made(CLASSES, pool=pool, depth=2).double()
    tokens = torch.randint(1, LETTERS, (4, 3))
    close(model(nn.functional.pad(tokens, (0, 2))), model(tokens))


def test_a_later_token_changes_no_earlier_output() -> None:
    model = made(TEXT)
    tokens = torch.randint(LETTERS, (4, LENGTH))
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % LETTERS
    changed = (model(tokens) - model(other)).abs().amax((0, 2))
    assert changed[-1] > 0
    assert not changed[:-1].any()


def test_biases_start_at_0_and_at_1_for_the_forget_gate() -> None:
    bias = made(TEXT).get_parameter("layers.0.bias")
    assert bias.tolist() == [0.0] * WIDTH + [1.0] * WIDTH + [0.0] * 2 * WIDTH


@pytest.mark.parametrize(
    ("norm", "why"),
    [
        *(
            (name, "statistics are of the batch")
            for name in ("batch", "masked_batch", "power", "lp", "renorm")
        ),
        ("population", "statistics are of the batch"),
        ("evonorm_s0", "its own activation"),
        ("skipinit", "residual branches"),
        ("qk", "queries and keys"),
        ("instance", "over its T positions"),
    ],
)
def test_normalizers_that_its_cell_can_not_have_are_refused_with_the_reason(norm: str, why: str) -> None:
    with pytest.raises(BnbenchError, match=why):
        made(TEXT, norm)
