"""Settings become a model with its initial weights, its optimizer, its schedule and its objective."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bnbench.base.process_state import seeded
from bnbench.base.seeding import derive, generator
from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms
from bnbench.optim import losses, optimizers, schedules
from bnbench.study import Settings
from bnbench.tasks import task_of

CPU = torch.device("cpu")


def build_model(settings: Settings, sizes: Sizes, seed: int) -> nn.Module:
    """The model on the CPU, in training mode, with weights that depend on the seed and the layers' names alone.

    So a layer that two variants share starts equal in both. The global random state is left as it was.
    seed: the run's; the settings say whether it changes the weights, and the noise to come.
    """
    noise, seed = settings.seed_of("noise", seed), settings.seed_of("init", seed)
    entry = models.get(settings.model.name)
    normalizer = norms.get(settings.norm.name)
    arguments = task_of(settings.task).network_arguments(sizes)
    norm = NormLayer(normalizer, normalizer.typed(settings.norm.options))
    with seeded(derive(seed, "build"), CPU):  # for what a user's own layer draws when it is made
        model: nn.Module = entry.factory(*arguments, norm, **entry.typed(settings.model.options))
    scheme = settings.init.name if settings.init.name != "auto" else entry.facts.init
    if scheme != "own":
        initialise(model, seed, scheme, scale=settings.init.scale)
    _seed_noise(model, noise)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model = model.to(memory_format=torch.channels_last)
    return model.train()


@torch.no_grad()
def initialise(model: nn.Module, seed: int, scheme: str, *, scale: float = 1.0) -> None:
    """Draw the weights of all linear and convolution layers from private streams, one a parameter.

    scheme: "he": N(0, 2/fan_in), biases 0 (He et al. 2015). "glorot": U(±√(6/(fan_in + fan_out))), biases 0
    (Glorot & Bengio 2010; Keras's default). "torch", its default: weights and biases U(±1/√fan_in).
    scale multiplies the weights, not the biases; so does a layer's own init_factor. Every other layer
    that has a reset_parameters is reset by it, from a stream of its own name.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            _reset(module, derive(seed, "init", name))
            continue
        fan_in, fan_out = module.weight[0].numel(), module.weight[:, 0].numel()
        bound = math.sqrt(6 / (fan_in + fan_out)) if scheme == "glorot" else 1 / math.sqrt(fan_in)
        draw = generator(seed, "init", name, "weight")
        if scheme == "he":
            module.weight.normal_(0.0, math.sqrt(2 / fan_in), generator=draw)
        else:
            module.weight.uniform_(-bound, bound, generator=draw)
        module.weight.mul_(scale * getattr(module, "init_factor", 1.0))
        if module.bias is not None:
            module.bias.zero_()
            if scheme not in ("he", "glorot"):
                module.bias.uniform_(-bound, bound, generator=generator(seed, "init", name, "bias"))


def _seed_noise(model: nn.Module, seed: int) -> None:
    """Layers that keep a seed of their own noise have a `reset_noise`: it draws it from the global stream."""
    for name, module in model.named_modules():
        if callable(reset := getattr(module, "reset_noise", None)):
            with seeded(derive(seed, "noise", name), CPU):
                reset()


def _reset(module: nn.Module, seed: int) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        with seeded(seed, CPU):
            reset()


def layer_list(model: nn.Module) -> tuple[str, ...]:
    """One line a layer, as built: "blocks.0.linear: Linear(in_features=784, ...)"."""
    return tuple(
        f"{name}: {module}"
        for name, module in model.named_modules()
        if not list(module.children()) and not isinstance(module, nn.Identity)
    )


def make_optimizer(settings: Settings) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """From a model to its optimizer."""
    entry = optimizers.get(settings.optimizer.name)
    return lambda model: entry.factory(model, **entry.typed(settings.optimizer.options))


def make_objective(settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
    """From the outputs for a batch and its targets to the scalar that is minimised."""
    entry = losses.get(settings.loss.name)
    objective: Callable[[Tensor, Tensor], Tensor] = entry.factory(**entry.typed(settings.loss.options))
    return objective


def make_schedule(settings: Settings, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """From a step to the factor on the learning rate."""
    entry = schedules.get(settings.schedule.name)
    factor: Callable[[int], float] = entry.factory(
        total_steps, steps_per_epoch, **entry.typed(settings.schedule.options)
    )
    return factor
