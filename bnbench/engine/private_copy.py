"""A private copy of one replica with its optimizer, from any torch stepper: to step it changes nothing of the run."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from bnbench.base.errors import BnbenchError
from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.engine.stacked.optimizer import FusedStep, can_be_fused
from bnbench.engine.stacked.stack import Stack
from bnbench.engine.steppers.base import Stepper
from bnbench.engine.steppers.sequential import Sequential
from bnbench.engine.steppers.stacked import Stacked


def private_copy(stepper: Stepper, index: int, factor: float) -> Sequential:
    """A stepper of its own for replica `index`: the model, the optimizer and its state as they are now.

    factor: the schedule's factor on the learning rates for the step to come. The copy is a sequential
    stepper: its `step` makes the update that the run would make with the same batch, and its `update` clips
    the gradients that are there and lets the optimizer step. From a sequential stepper the bits are the
    same; from a stacked or compiled one they agree to rounding, since their matrix products add in another order.
    Raises BnbenchError for a network or optimizer that can't be copied, and for a framework other than torch.
    """
    if not isinstance(stepper, Sequential | Stacked):
        raise BnbenchError(
            f"A network that trains in engine {stepper.engine} can't be copied with its optimizer.",
            "The measures that need a copy take steps with PyTorch's optimizers.",
            "framework: torch, or a probe without gradient_shift, landscape and hessian.",
        )
    device = next(stepper.models[index].parameters()).device
    with left_as_found(device):
        try:
            twin = _of_stack(stepper, index) if isinstance(stepper, Stacked) else _of_one(stepper)
        except BaseException as error:
            raise_interrupt(error)
            raise BnbenchError(
                f"{type(stepper.models[index]).__name__} can't be copied with its optimizer: {text_of(error)}",
                "A probe works on a copy, so that it changes no number of the run.",
                "no tensors with a history as attributes of a layer, and no optimizer whose step is replaced.",
            ) from error
    twin.scale_rates(factor)
    return twin


def _of_one(stepper: Sequential) -> Sequential:
    """Whatever the optimizer keeps comes along, not its state_dict alone: plugins have counters of their own."""
    if "step" in vars(stepper.optimizer):
        raise TypeError("the optimizer's step was replaced, as torch's learning-rate schedulers do")
    memo: dict[int, Any] = {}
    model = copy.deepcopy(stepper.model, memo)
    twin = Sequential(model, stepper.settings, stepper.device)
    optimizer = type(stepper.optimizer).__new__(type(stepper.optimizer))
    vars(optimizer).update(copy.deepcopy(vars(stepper.optimizer), memo))
    twin.optimizer, twin.objective = optimizer, copy.deepcopy(stepper.objective, memo)
    return twin


class _FromStack(Sequential):
    """Steps by the optimizer's kernels alone, as its stack does: torch's own `step` imports the compiler first."""

    def move(self) -> None:
        """One step, from the gradients that the parameters have now; the optimizer's state moves."""
        if not can_be_fused(self.optimizer):
            return super().move()
        step, kept = FusedStep(self.optimizer), self.optimizer.state
        for group, named in zip(step.groups, step.named, strict=True):
            for name, tensors in named.items():
                for parameter, tensor in zip(group["params"], tensors, strict=True):
                    if name in kept[parameter]:
                        tensor.copy_(kept[parameter][name])
                    kept[parameter][name] = tensor
        with torch.no_grad():
            step()


def _of_stack(stepper: Stacked, index: int) -> Sequential:
    """The replica's part of everything that the stack keeps in one tensor."""
    stack, model = stepper.stack, copy.deepcopy(stepper.models[index])
    twin = _FromStack(model, stepper.settings, next(model.parameters()).device)
    for group, options in enumerate(twin.optimizer.param_groups):
        for name, value in stack.optimizer_state(group).items():
            for parameter, part in zip(options["params"], _parts(stack, group, value, index), strict=True):
                twin.optimizer.state[parameter][name] = part
    return twin


def _parts(stack: Stack, group: int, value: Any, index: int) -> list[Any]:
    """A moment of each parameter of a group, or the counter that they share, once for each."""
    count = len(stack.parameters.parts(group, stack.parameters.flats[group].detach()))
    if not isinstance(value, Tensor):
        return [value] * count
    if value.dim() == 0:
        return [value.clone() for _ in range(count)]
    return [part[index].clone() for part in stack.parameters.parts(group, value)]
