"""Settings become a model with its initial weights, its optimizer, its schedule and its objective."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bnbench.base.process_state import seeded
from bnbench.base.seeding import derive, generator
from bnbench.data import Sizes
from bnbench.engine.own import Recipe, Use, own_network
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms
from bnbench.optim import losses, optimizers, schedules
from bnbench.optim.clipping import Clipping
from bnbench.optim.trained import freeze
from bnbench.study import Settings
from bnbench.study.layer_names import network_name
from bnbench.tasks import task_of, tasks

CPU = torch.device("cpu")
#: Layers whose weights the initialization draws.
WEIGHTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
#: The option of a task of two networks that is the learning rate of the second one.
DISCRIMINATOR_LR = "discriminator_lr"


def build_model(settings: Settings, sizes: Sizes, seed: int) -> nn.Module:
    """The model on the CPU, in training mode, with weights that depend on the seed and the layers' names alone.

    So a layer that two variants share starts equal in both. The global random state is left as it was.
    seed: the run's; the settings say whether it changes the weights, and the noise to come.
    """
    noise, seed = settings.seed_of("noise", seed), settings.seed_of("init", seed)
    entry = models.get(settings.model.name)
    if entry.facts.whole:
        model = own_network(_recipe(settings, sizes), seed)
    else:
        normalizer = norms.get(settings.norm.name)
        arguments = task_of(settings.task).network_arguments(sizes)
        norm = NormLayer(normalizer, normalizer.typed(settings.norm.options))
        with seeded(derive(seed, "build"), CPU):  # for what a user's own layer draws when it is made
            model = entry.factory(*arguments, norm, **entry.typed(settings.model.options))
    scheme = settings.init.name if settings.init.name != "auto" else entry.facts.init
    if scheme != "own":
        std = settings.init.std if settings.init.name != "auto" else entry.facts.std
        initialise(model, seed, scheme, scale=settings.init.scale, std=std)
    _seed_noise(model, noise)
    freeze(model, settings.train, settings.norm.name)
    if not entry.facts.whole and any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model = model.to(memory_format=torch.channels_last)  # somebody's own code may want x.view(len(x), -1)
    return model.train()


def _recipe(settings: Settings, sizes: Sizes) -> Recipe:
    """What a network that was not written for bnbench is built from."""
    entry, normalizer = models.get(settings.model.name), norms.get(settings.norm.name)
    options = dict(entry.typed(settings.model.options))
    typed = normalizer.typed(settings.norm.options)
    fields = normalizer.options().model_fields
    changed = {name: value for name, value in typed.items() if value != fields[name].default}
    return Recipe(
        name=network_name({"name": settings.model.name, **settings.model.options}),
        factory=entry.factory,
        norm=NormLayer(normalizer, typed),
        use=Use(settings.task.name, task_of(settings.task), sizes),
        replace=options.pop("replace"),
        side=options.pop("image_size"),
        options=options,
        changed=changed,
    )


@torch.no_grad()
def initialise(
    model: nn.Module, seed: int, scheme: str, *, scale: float = 1.0, std: float | None = None
) -> None:
    """Draw the weights of all linear and convolution layers from private streams, one a parameter.

    scheme: "he": N(0, 2/fan_in) (He et al. 2015). "glorot": U(±√(6/(fan_in + fan_out))) (Glorot & Bengio 2010;
    Keras's default). "normal": N(0, std²). "orthogonal": see `orthogonal_`. With these the biases are 0.
    "torch", its default: weights and biases U(±1/√fan_in). Of a transposed convolution, whose weight is (in, out, ...),
    fan_in is out times the kernel's values, as in torch.nn.init.
    scale multiplies the weights, not the biases; so does a layer's own init_factor. Every other layer
    that has a reset_parameters is reset by it, from a stream of its own name. A weight that such a
    layer shares with a later linear one, as an embedding can, stays as it is drawn there.
    """
    drawn: set[int] = set()
    for name, module in model.named_modules():
        if not isinstance(module, WEIGHTS):
            if _reset(module, derive(seed, "init", name)):
                drawn.update(map(id, module.parameters(recurse=False)))
            continue
        if id(module.weight) not in drawn:
            _draw(module.weight, scheme, generator(seed, "init", name, "weight"), std)
            module.weight.mul_(scale * getattr(module, "init_factor", 1.0))
        if module.bias is not None:
            module.bias.zero_()
            if scheme == "torch":
                bound = 1 / math.sqrt(module.weight[0].numel())
                module.bias.uniform_(-bound, bound, generator=generator(seed, "init", name, "bias"))


def _draw(weight: Tensor, scheme: str, draw: torch.Generator, std: float | None) -> None:
    """The weights of one layer, before they are scaled."""
    fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
    if scheme == "orthogonal":
        orthogonal_(weight, draw)
    elif scheme in ("he", "normal"):
        weight.normal_(0.0, math.sqrt(2 / fan_in) if std is None else std, generator=draw)
    else:
        bound = math.sqrt(6 / (fan_in + fan_out)) if scheme == "glorot" else 1 / math.sqrt(fan_in)
        weight.uniform_(-bound, bound, generator=draw)


@torch.no_grad()
def orthogonal_(weight: Tensor, draw: torch.Generator) -> None:
    """Fill with a random orthogonal matrix, uniformly distributed (Saxe et al. 2014, arXiv 1312.6120, section 3).

    weight: (outputs, ...), taken as a matrix (outputs, all the rest): the shorter of its rows and columns are
    orthonormal. Computed in float64 by one thread, so that the number of threads changes no bit.
    """
    rows, columns = len(weight), weight[0].numel()
    gaussian = torch.empty(max(rows, columns), min(rows, columns), dtype=torch.float64).normal_(
        generator=draw
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        q, r = torch.linalg.qr(gaussian)
    finally:
        torch.set_num_threads(threads)
    q *= r.diagonal().sign()  # else the distribution is not uniform (Mezzadri 2007, section 5)
    weight.copy_((q if rows >= columns else q.T).reshape(weight.shape))


def _seed_noise(model: nn.Module, seed: int) -> None:
    """Layers that keep a seed of their own noise have a `reset_noise`: it draws it from the global stream."""
    for name, module in model.named_modules():
        if callable(reset := getattr(module, "reset_noise", None)):
            with seeded(derive(seed, "noise", name), CPU):
                reset()


def _reset(module: nn.Module, seed: int) -> bool:
    """Whether it has a reset_parameters, which is called."""
    reset = getattr(module, "reset_parameters", None)
    if not callable(reset):
        return False
    with seeded(seed, CPU):
        reset()
    return True


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


def two_networks(settings: Settings) -> bool:
    """Whether the task of a study trains two networks against each other."""
    return bool(tasks.get(settings.task.name).facts.two_networks)


def make_optimizers(model: nn.Module, settings: Settings) -> tuple[torch.optim.Optimizer, ...]:
    """One for the whole network. Of two networks: the generator's and the discriminator's, which may have its own lr.

    A model of two has the children `generator` and `discriminator`.
    """
    first = make_optimizer(settings)
    if not two_networks(settings):
        return (first(model),)
    rate, chosen, second = settings.task.options.get(DISCRIMINATOR_LR), settings.optimizer, first
    if rate is not None:
        own = chosen.model_copy(update={"options": {**chosen.options, "lr": rate}})
        second = make_optimizer(settings.model_copy(update={"optimizer": own}))
    generator, discriminator = (model.get_submodule(name) for name in ("generator", "discriminator"))
    return first(generator), second(discriminator)


def clipping_of(settings: Settings) -> Clipping:
    """The clipping of the gradients before each step."""
    return Clipping(settings.clip_norm, settings.clip.ratio)


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
