"""A task, a loss and a network that do not fit together, although nothing raises."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from bnbench.base.metrics import RECALL
from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.engine.build import CPU, make_objective
from bnbench.engine.rehearsal.case import Case
from bnbench.engine.task_batches import made_up_prepared
from bnbench.norms.behaviour import ModuleState
from bnbench.tasks import Task, task_of

#: Samples of the made-up batch.
SAMPLES = 4


def why_unfit(case: Case, model: nn.Module) -> str:
    """What is wrong with the loss or the metrics on a made-up batch; "" where nothing is.

    Also "" where something raises: its runs crash and say so, and the others go on.
    """
    task = task_of(case.settings.task)
    inputs, targets = task.made_up(case.sizes, SAMPLES, generator(0, "task"))
    state, training = ModuleState(model), model.training
    with left_as_found(CPU), torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outputs = model.eval()(inputs)
            loss = make_objective(case.settings)(outputs, targets)
            data = made_up_prepared(
                case.settings.task, case.sizes, (SAMPLES, SAMPLES), generator(0, "task"), CPU
            )
            names = [name for name, _ in task.measured(task.kept(outputs, targets), targets, data)]
        except BaseException as error:
            raise_interrupt(error)
            return ""
        finally:
            model.train(training)
            state.restore()
    return _loss_fault(case, loss, outputs, targets, [str(each.message) for each in caught]) or _names_fault(
        case, task, names
    )


def _loss_fault(case: Case, loss: Tensor, outputs: Tensor, targets: Tensor, warned: list[str]) -> str:
    name = f"loss: {case.settings.loss.name}"
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        returned = (
            f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        )
        return f"{name} gives {returned}, and a step needs one number. Fix: its mean over the batch."
    if isinstance(outputs, Tensor) and any("target size" in text for text in warned):
        return (
            f"{name}: the network gives {tuple(outputs.shape)} and the targets are {tuple(targets.shape)}, so every "
            "output would be compared with every target. Fix: outputs and targets of one shape."
        )
    return ""


def _names_fault(case: Case, task: Task, measured: list[str]) -> str:
    names = [name for name in measured if not name.startswith(f"{RECALL}:")]
    missing = [name for name in task.facts.names if name not in names]
    extra = [name for name in names if name not in task.facts.names]
    if not missing and not extra:
        return ""
    mismatch = f"does not measure {', '.join(missing)}" if missing else f"measures {', '.join(extra)} as well"
    known = ", ".join(task.facts.names)
    name = case.settings.task.name
    return f"task: {name}: it is registered with the metrics {known}, and {mismatch}. Fix: the same in both."
