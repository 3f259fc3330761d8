"""What a task's data say to a network that was not written for bnbench, and what its outputs must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bnbench.base.errors import BnbenchError
from bnbench.base.task_facts import TaskFacts
from bnbench.base.time_channel import Timed
from bnbench.data import Sizes
from bnbench.network.source.records import Wanted

if TYPE_CHECKING:
    from bnbench.tasks import Task

#: Tasks whose networks give more than one tensor, and what it is.
_MORE_THAN_ONE = {"elbo": "gives a distribution of codes and one of images"}


@dataclass(frozen=True)
class Use:
    """A task as a network sees it. name: of the task. timed: images come with the step of a diffusion process.

    steps: of that process. batch: a made-up batch of so many samples. outputs: the shape that is wanted for one.
    """

    name: str
    task: Task
    sizes: Sizes

    @property
    def timed(self) -> bool:
        """Whether images come with the step of a diffusion process."""
        return isinstance(self.task.network_arguments(self.sizes)[0], Timed)

    @property
    def steps(self) -> int:
        """Of that process."""
        return int(getattr(self.task, "steps", 1))

    @property
    def tokens(self) -> bool:
        """Whether inputs are tokens."""
        return self.sizes.vocabulary is not None

    def inputs(self, samples: int) -> Tensor:
        """Of a made-up batch, the same each time."""
        inputs, _ = self.task.made_up(self.sizes, samples, torch.Generator().manual_seed(0))
        return inputs

    def wanted(self) -> Wanted:
        """The facts for its factory."""
        shape, sizes = tuple(self.sizes.input_shape), self.sizes
        same = self._gives_inputs_back()
        numbers = sizes.masked and not self.tokens  # (T, C + 1): the last column says what is padding
        channels = shape[-1] - 1 if numbers else None if self.tokens else shape[0]
        return Wanted(
            num_classes=None if (sizes.per_position and not self.tokens) or same else sizes.num_outputs,
            in_channels=channels,
            shape=(shape[0], shape[-1] - 1) if numbers else shape,
            vocabulary=sizes.vocabulary,
            outputs=shape[0] if same else sizes.num_outputs if sizes.per_position else None,
            task=self.name,
        )

    def output_shape(self, samples: int) -> tuple[int, ...] | None:
        """What the network must give for so many samples; None where the task alone knows."""
        shape, outputs = tuple(self.sizes.input_shape), self.sizes.num_outputs
        if self._gives_inputs_back():
            return (samples, *shape)
        if self.sizes.per_position:
            return (samples, *shape, outputs) if self.tokens else (samples, outputs, *shape[1:])
        return (samples, outputs)

    def _gives_inputs_back(self) -> bool:
        """Whether targets are images, as those of an autoencoder."""
        facts: TaskFacts = self.task.facts
        return "pixel_mse" in facts.losses

    def refuse(self, model: str) -> None:
        """Raises BnbenchError for a task that takes no network of one output."""
        facts: TaskFacts = self.task.facts
        if facts.two_networks:
            why = "It trains two networks against each other, and this is one."
        elif more := next((text for loss, text in _MORE_THAN_ONE.items() if loss in facts.losses), ""):
            why = f"Its network {more}, and this one gives one tensor."
        else:
            return
        fix = f"model: {facts.models[0]}, or another task." if facts.models else "another task."
        raise BnbenchError(f"model: {model} does not fit task: {self.name}.", why, fix)
