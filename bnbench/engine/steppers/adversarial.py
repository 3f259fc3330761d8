"""Two networks that train against each other, each with an optimizer of its own: the steps of a GAN."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.engine.build import DISCRIMINATOR_LR, clipping_of, make_objective, make_optimizers
from bnbench.engine.steppers.base import Stepper, autocast, is_reset
from bnbench.models.adversaries import Adversaries
from bnbench.norms.batch_virtual import VirtualBatchNorm, with_reference
from bnbench.optim.clipping import clip_
from bnbench.study import Settings

#: The discriminator has won a step where its loss is below WON_LOSS and it is right on every image of the batch;
#: a run is told of where it won this share of the steps.
WON_LOSS, WON_SHARE = 0.1, 0.5
#: The option of the task that says how many steps of the discriminator one of the generator follows.
_STEPS = "discriminator_steps"


def check_networks(model: nn.Module, settings: Settings) -> None:
    """Raises BnbenchError where two networks can't train as the settings say."""
    if not isinstance(model, Adversaries):
        raise BnbenchError(
            f"model {settings.model.name}: {type(model).__name__}, with the task {settings.task.name}.",
            "This task trains two networks: a bnbench.models.adversaries.Adversaries.",
            "model: dcgan.",
        )
    objective = make_objective(settings)
    if not (callable(getattr(objective, "generator", None)) and hasattr(objective, "discriminator")):
        raise BnbenchError(
            f"loss: {settings.loss.name} is one number, and the task {settings.task.name} minimises two.",
            fix="loss: non_saturating, or a loss with the methods discriminator(real, made) and generator(made).",
        )
    for name in ("generator", "discriminator"):
        if not any(parameter.requires_grad for parameter in getattr(model, name).parameters()):
            raise BnbenchError(
                f"train: {settings.train}: the {name} has no parameter that learns.",
                "Two networks that train against each other both learn.",
                "train: all, or model.norm_in: both with train: norm.",
            )
    if settings.task.options.get(DISCRIMINATOR_LR) is not None and "lr" not in settings.optimizer.options:
        raise BnbenchError(
            f"task.{DISCRIMINATOR_LR}: the optimizer {settings.optimizer.name} has no learning rate lr.",
            fix=f"leave {DISCRIMINATOR_LR} out, or optimizer: {{name: adam, lr: 2e-4}}.",
        )
    make_optimizers(model, settings)


class Adversarial(Stepper):
    """One step: the discriminator's update with a batch of real and made images, then the generator's.

    As DCGAN's training loop, the generator is run once a step, in train mode, and its images serve both updates. In
    train mode the discriminator is run, where real and made images are separate, three times (real, made, and made
    again after its own update), where they are joint twice (both, and both again). Every one of these passes moves
    running statistics. With `discriminator_steps: k` the generator learns in every k-th step; in the others its one
    pass still moves its running statistics, and the discriminator's last pass is left out.

    Gradients are clipped for each network by its own norms. Where a network has virtual batch norms, the images or
    latent vectors of the first batch of training are their reference batch: it goes through the network once more
    before each of its passes.
    """

    engine = "sequential"

    def __init__(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        super().__init__([model])
        assert isinstance(model, Adversaries)
        self.model, self.settings, self.device = model, settings, device
        self.optimizers = make_optimizers(model, settings)
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.objective: Any = make_objective(settings)
        self.every = int(settings.task.options.get(_STEPS, 1))
        self._virtual = {
            id(network): any(isinstance(module, VirtualBatchNorm) for module in network.modules())
            for network in (model.generator, model.discriminator)
        }
        self._reference: tuple[Tensor, Tensor] | None = None
        self.steps, self._won = 0, torch.zeros((), dtype=torch.int64, device=device)

    def scale_rates(self, factor: float) -> None:
        """Every group of both optimizers keeps its own rate, times the factor."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One step; the sum of both losses, each before its own update, (1,)."""
        model, (of_generator, of_discriminator) = self.model, self.optimizers
        self.steps += 1
        both_learn = self.steps % self.every == 0
        with autocast(self.settings, self.device):
            real, latents = model.apart(inputs[0])
            if self._reference is None:
                self._reference = real.clone(), latents.clone()
            with torch.set_grad_enabled(both_learn), self._with_reference(model.generator, 1):
                made = model.generator(latents)
            with self._with_reference(model.discriminator, 0):
                of_real, of_made = model.judge(real, made.detach())
            loss = self.objective.discriminator(of_real, of_made)
        self._note_win(loss, of_real, of_made)
        self._update(model.discriminator, of_discriminator, loss)
        if not both_learn:
            against = self.objective.generator(of_made)
            return _sum_of(loss, against)
        with autocast(self.settings, self.device), self._with_reference(model.discriminator, 0):
            against = self.objective.generator(model.fooled(real, made))
        self._update(model.generator, of_generator, against)
        return _sum_of(loss, against)

    def _with_reference(self, network: nn.Module, place: int) -> AbstractContextManager[object]:
        """Inside, virtual batch norms have the statistics of the reference batch; place: of images 0, of latents 1."""
        if self._reference is None or not self._virtual[id(network)]:
            return nullcontext()
        return with_reference(network, self._reference[place])

    def _update(self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Move this network alone: gradients reach no parameter of the other one."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=[each for each in network.parameters() if each.requires_grad])  # type: ignore[no-untyped-call]
        clip_(network, clipping_of(self.settings))
        optimizer.step()

    def _note_win(self, loss: Tensor, of_real: Tensor, of_made: Tensor) -> None:
        """Count on the device, so that no step waits for it."""
        self._won += (loss.detach() < WON_LOSS) & (of_real > 0).all() & (of_made < 0).all()

    def kept(self, index: int) -> dict[str, Any]:
        """Both networks, both optimizers, the reference batch, and in how many steps the discriminator won."""
        return {
            "model": self.model,
            "optimizers": list(self.optimizers),
            "objective": self.objective,
            "steps": self.steps,
            "won": self._won.clone(),
            "reference": self._reference,
        }

    def keeps_grad(self, parameter: Tensor) -> bool:
        """Where neither optimizer drops it."""
        return not any(is_reset(parameter, optimizer) for optimizer in self.optimizers)

    def put_back(self, index: int, kept: dict[str, Any]) -> None:
        """What is no object of its own."""
        self.steps, self._reference = kept["steps"], kept["reference"]
        self._won.copy_(kept["won"])

    def cautions(self, model: nn.Module) -> Sequence[str]:
        """That the discriminator won in too many steps for the generator to learn from it."""
        if not self.steps or int(self._won) < WON_SHARE * self.steps:
            return ()
        return (
            f"the discriminator wins: in at least {WON_SHARE:.0%} of the steps of a run its loss is below {WON_LOSS:g} "
            "and it is right on every image of the batch. Its gradient then says little about how to make better "
            "images. A smaller task.discriminator_lr, or a narrower discriminator, keeps it in reach.",
        )


def _sum_of(loss: Tensor, other: Tensor) -> Tensor:
    """Of two scalars, (1,)."""
    return (loss.detach() + other.detach()).unsqueeze(0)
