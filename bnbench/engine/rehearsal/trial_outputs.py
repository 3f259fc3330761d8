"""Outputs of a network for a trial: each from the same state, and with no parameter at its initial value."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.norms.behaviour import ModuleState

#: Samples of a trial batch.
SAMPLES = 4
#: Every parameter moves by noise of this size, so that none that starts at 0 hides what comes before it.
NOISE = 0.05


@dataclass(frozen=True)
class ByMode:
    """Whether a trial changes the outputs of a network: in training, and at inference."""

    training: bool = False
    inference: bool = False


UNCHANGED = ByMode()


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


def changed_outputs(
    model: nn.Module, inputs: Tensor, other: Tensor, shared: slice, tolerance: float
) -> ByMode:
    """Whether the outputs at the shared positions differ between two batches of inputs; the network is left as it was.

    shared: positions of the outputs (N, T, ...), or all of outputs without positions. A network that raises is judged
    elsewhere: UNCHANGED.
    """
    try:
        with trial_outputs(model, inputs) as output:
            pairs = [(output(inputs, mode), output(other, mode)) for mode in (True, False)]
            return ByMode(*(differ(y[:, shared], again[:, shared], tolerance) for y, again in pairs))
    except BaseException as error:
        raise_interrupt(error)
        return UNCHANGED
