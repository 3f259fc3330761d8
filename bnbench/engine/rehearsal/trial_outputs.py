"""Outputs of a network for a trial: each from the same state, and with no parameter at its initial value."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.norms.behaviour import ModuleState

#: Every parameter moves by noise of this size, so that none that starts at 0 hides what comes before it.
NOISE = 0.05


@contextmanager
def trial_outputs(model: nn.Module, first: Tensor) -> Iterator[Callable[[Tensor, bool], Tensor]]:
    """From inputs, and whether the network trains, to its outputs; it is left as it was.

    first: a batch that it trains on before, as a layer may look at its first batch in another way.
    """
    state, training = ModuleState(model), model.training
    with left_as_found(torch.device("cpu")), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            draw = generator(0, "trial")
            for parameter in model.parameters():
                parameter.add_(NOISE * torch.randn(parameter.shape, generator=draw).to(parameter))
            model.train()(first)
            moved = ModuleState(model)

            def output(inputs: Tensor, trains: bool) -> Tensor:
                moved.restore()
                torch.manual_seed(0)
                y: Tensor = model.train(trains)(inputs)
                return y.clone()

            yield output
        finally:
            model.train(training)
            state.restore()


def differ(y: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether they differ by more than rounding: the tolerance, relative to 1 + their size."""
    return bool(((y - other).abs() > tolerance * (1 + y.abs())).any())
