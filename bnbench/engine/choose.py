"""The choice of an engine and of threads for a cell: by its settings and the device, never by other cells."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from bnbench.base.process_state import ProcessState, left_as_found
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.data import Sizes
from bnbench.engine.build import make_objective, make_optimizer, two_networks
from bnbench.engine.device import all_threads
from bnbench.engine.sequences import Sequences
from bnbench.engine.stacked.chain import chain
from bnbench.engine.stacked.optimizer import ELEMENTWISE
from bnbench.engine.stacked.plain import is_plain
from bnbench.study import Settings
from bnbench.tasks import task_of

Engine = Literal["stacked", "sequential", "compiled", "keras"]

#: Why two networks with two optimizers train one run after the other, by the engine that was asked for.
TWO_NETWORKS = {
    "stacked": "two networks that train against each other do not stack: each has an optimizer of its own",
    "compiled": "two networks that train against each other are not compiled",
}
#: Parameters times samples of one step, from which a network without convolutions repays a second thread.
WORTH_THREADS = 20_000_000


@dataclass(frozen=True)
class EngineChoice:
    """What trains the runs of a cell.

    reason: why it is not the engine that was asked for, or the fastest one; "" where it is.
    compiles: before its clock starts it traces or compiles the step, which warms it up as well.
    own_threads: it computes in threads that it starts itself, so only the wall clock can time it.
    doubles: a stack of a single run has to get a double, so that its numbers are those of any other stack.
    """

    engine: Engine
    threads: int
    reason: str = ""
    compiles: bool = False
    own_threads: bool = False
    doubles: bool = True


def choose(model: nn.Module, settings: Settings, sizes: Sizes, device: torch.device) -> EngineChoice:
    """The engine of torch for this network and these settings on that device. Leaves the network as it is."""
    sequences = Sequences.of(model, settings.batch_size, sizes)
    small = device.type == "cpu" and _is_small(model, settings.batch_size, sequences)
    threads = 1 if small else all_threads()
    wanted = settings.engine
    if two_networks(settings):
        # on a CPU one thread each, so that runs go to worker processes: their steps are too small for more
        threads = 1 if device.type == "cpu" else all_threads()
        return EngineChoice("sequential", threads, TWO_NETWORKS.get(wanted, ""))
    if wanted == "sequential":
        return EngineChoice("sequential", threads)
    if wanted == "compiled":
        return EngineChoice("compiled", threads, compiles=True)
    if _convolves(model) and wanted == "auto":
        return EngineChoice("sequential", threads, "convolutions keep the device busy one run at a time")
    if not small and device.type == "cpu" and wanted == "auto":
        return EngineChoice("sequential", threads, "its steps are large enough to keep all cores busy")
    reason = sequences.why_no_gain() if sequences and wanted == "auto" else ""
    reason = reason or why_not_stacked(model, settings, sizes, device)
    if reason:
        return EngineChoice("sequential", threads, reason)
    return EngineChoice("stacked", threads, doubles=not (sequences and sequences.stand_alone(device)))


def _convolves(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def _is_small(model: nn.Module, batch_size: int, sequences: Sequences | None) -> bool:
    """Whether one thread serves it best: on small operations threads cost more than they bring.

    The rule looks at the run alone, because the number of threads changes a run's last bits.
    """
    if sequences:
        return not sequences.are_worth_threads
    work = batch_size * count_parameters(model)
    return not _convolves(model) and work < WORTH_THREADS


def count_parameters(model: nn.Module) -> int:
    """How many numbers the network has, whether they are trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def why_not_stacked(model: nn.Module, settings: Settings, sizes: Sizes, device: torch.device) -> str:
    """Why replicas of this model can't train as one; "" where they can."""
    optimizer = make_optimizer(settings)(model)
    if settings.precision != "float32":
        return f"stacks train in float32, not in {settings.precision}"
    if type(model) is not nn.Sequential or not is_plain(model):
        return f"{type(model).__name__} is not a plain Sequential"
    if type(optimizer) not in ELEMENTWISE:
        return f"a stack calls the kernels of SGD, Adam and AdamW alone, and not {type(optimizer).__name__}'s"
    if reason := _why_parameters_do_not_stack(model, optimizer):
        return reason
    if not any(type(layer) is nn.Linear for layer in chain(model)):
        return "no layer would be faster in a stack"
    try:
        copied = copy.deepcopy(model).to(device)
    except BaseException as error:
        raise_interrupt(error)
        return f"it can't be copied: {type(error).__name__}"
    return _why_a_batch_does_not_stack(copied, settings, sizes)


def _why_parameters_do_not_stack(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    parameters = list(model.parameters())
    if len(list(model.named_parameters(remove_duplicate=False))) != len(parameters):
        return "layers share parameters"
    if len(list(model.named_modules(remove_duplicate=False))) != len(list(model.modules())):
        return "a layer is used more than once"
    if any(parameter.dtype != torch.float32 for parameter in parameters):
        return "some parameters are not float32"
    trained = {id(parameter) for parameter in parameters if parameter.requires_grad}
    if trained != {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}:
        return "the optimizer leaves some parameters out"
    return ""


def _why_a_batch_does_not_stack(model: nn.Module, settings: Settings, sizes: Sizes) -> str:
    """One forward and backward of one model show whatever would make replicas depend on each other."""
    device = next(model.parameters()).device
    objective = make_objective(settings)
    inputs, targets = task_of(settings.task).made_up(sizes, 4, generator(0, "stack"))
    with left_as_found(device) as before:
        try:
            objective(model(inputs.to(device)), targets.to(device)).backward()  # type: ignore[no-untyped-call]
        except BaseException as error:
            raise_interrupt(error)
            return f"{type(error).__name__} on a made-up batch: {error}".partition("\n")[0]
        if ProcessState.now(device).has_drawn_since(before):
            return "a layer or the loss draws random numbers"
    if any(parameter.grad is None for parameter in model.parameters() if parameter.requires_grad):
        return "some parameters get no gradient"
    return ""
