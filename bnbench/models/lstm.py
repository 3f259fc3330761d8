"""LSTM with a normalizer in the cell (Hochreiter & Schmidhuber 1997; Ba, Kiros & Hinton 2016, equations 20 to 22)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.process_state import seeded
from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.layers import NormLayer, classifier
from bnbench.models.sequences import MeanOfPositions, SequenceModule, embedding, sequential

#: Samples and channels with which a normalizer is tried.
_SAMPLES, _CHANNELS = 4, 64


class LSTMLayer(SequenceModule):
    """One layer: (N, T, inputs) to the states (N, T, width), from zeros.

    i, f, g, o = norm(W x) + norm(U h) + b;   c = σ(f) c + σ(i) tanh(g);   h = σ(o) tanh(norm(c))

    The normalizers of W x and U h are over the four gates together, as in Ba et al. 2016, equation 20. b stands behind
    them, so that none absorbs it, and every variant has it. It starts at 0, at 1 for gate f (Jozefowicz et al. 2015).
    A state at padding is the one before it.
    """

    def __init__(self, inputs: int, width: int, norm: NormLayer) -> None:
        super().__init__()
        self.width = width
        self.input = norm.weights(nn.Linear(inputs, 4 * width, bias=False), "none")
        self.hidden = norm.weights(nn.Linear(width, 4 * width, bias=False), "none")
        for weights in (self.input, self.hidden):
            vars(weights)["shifted_later"] = True
        self.bias = nn.Parameter(torch.empty(4 * width))
        self.input_norm, self.hidden_norm = norm.tokens(4 * width), norm.tokens(4 * width)
        self.cell_norm = norm.tokens(width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initial biases."""
        with torch.no_grad():
            self.bias.zero_()[self.width : 2 * self.width] = 1.0

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """All states. mask: (N, T), True where valid."""
        given = self.input_norm(self.input(x), mask) + self.bias
        h = c = x.new_zeros(len(x), self.width)
        states = []
        for time in range(x.shape[1]):
            new_h, new_c = self.step(given[:, time], h, c)
            if mask is not None:
                valid = mask[:, time, None]
                new_h, new_c = torch.where(valid, new_h, h), torch.where(valid, new_c, c)
            h, c = new_h, new_c
            states.append(h)
        return torch.stack(states, 1)

    def step(self, given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The next state and cell, (N, width) each. given: (N, 4 width), what the input and b have given."""
        i, f, g, o = (given + self.hidden_norm(self.hidden(h))).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * self.cell_norm(c).tanh(), c


class LastPosition(SequenceModule):
    """(N, T, C) -> (N, C): the last position; where an LSTM keeps its state at padding, that of the last valid one."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Select."""
        return x[:, -1]


@models.register("lstm", init="torch", tasks=("language_model", "text_classification"))
def lstm(
    sizes: Sizes,
    norm: NormLayer,
    *,
    depth: Annotated[int, Field(ge=1, le=100, description="layers")] = 1,
    width: Annotated[
        int, Field(ge=1, le=100_000, description="values of a state, and of a token's embedding")
    ] = 64,
    pool: Annotated[
        Literal["last", "mean"],
        Field(description="what a class is read from: the last state, or the mean of all"),
    ] = "last",
) -> nn.Module:
    """LSTM with the normalizer in its cell, as layer norm in Ba et al. 2016; without one it is torch's LSTM.

    Takes the normalizers that look at each position of each sequence by itself (layer, rms, group, dyt). Recurrent
    batch normalization (Cooijmans et al. 2016), with statistics of each time step, is not built.
    """
    _check(norm)
    model = sequential(sizes)
    model.add_module("embedding", embedding(sizes, width, norm, bias=True, std=1.0))
    layers = nn.Sequential(*(LSTMLayer(width, width, norm) for _ in range(depth)))
    model.add_module("layers", layers)
    if not sizes.per_position:
        model.add_module("pool", LastPosition() if pool == "last" else MeanOfPositions())
    model.add_module("head", classifier(width, sizes.num_outputs, norm))
    return model


def _check(norm: NormLayer) -> None:
    """Raises BnbenchError for a normalizer that an LSTM's cell can't have."""
    fix = "norm: layer, rms, group or dyt, or model: transformer."
    name = norm.entry.name
    if norm.includes_activation:
        why = "It is its own activation, and the gates of a cell have theirs."
        raise BnbenchError(f"norm {name} is not supported by an lstm.", why, fix)
    if sees_other_samples(norm):
        raise BnbenchError(
            f"norm {name} is not supported by an lstm.",
            "Its statistics are of the batch, and differ from one time step to the next: recurrent batch "
            "normalization (Cooijmans et al. 2016) keeps some for each step, and is not built here.",
            fix,
        )


def sees_other_samples(norm: NormLayer) -> bool:
    """Whether, in training, what becomes of a sample depends on the others of this batch or the last: by a trial."""
    with seeded(0, torch.device("cpu")), torch.no_grad():
        layer = norm.tokens(_CHANNELS).train()
        x = torch.randn(_SAMPLES, 1, _CHANNELS)
        other = torch.cat((x[:1], torch.randn(_SAMPLES - 1, 1, _CHANNELS)))
        state = {key: value.clone() for key, value in layer.state_dict().items()}
        layer(x)
        y = layer(x)[0]
        layer.load_state_dict(state)
        now = layer(other)[0]
        return not (torch.equal(y, layer(x)[0]) and torch.equal(y, now))
