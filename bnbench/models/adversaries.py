"""A generator and a discriminator in one module: the network of the task `gan`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

#: Columns of the outputs before the made image: see `Adversaries.forward`.
LOGITS = 3


class Adversaries(nn.Module):
    """Two networks that train against each other.

    generator: latent vectors (N, Z) to images (N, C, H, W). discriminator: images to the logits that they are real,
    N of them in any shape. input_shape: (C, H, W). real_and_fake: "separate": real and made images go through the
    discriminator in two passes, each normalized by its own batch statistics; "joint": in one pass, as one batch of 2N
    with the real ones first. Without a normalizer over the batch both are the same.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        input_shape: Sequence[int],
        real_and_fake: Literal["separate", "joint"] = "separate",
    ) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.input_shape, self.real_and_fake = tuple(input_shape), real_and_fake

    def apart(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The images (N, C, H, W) and the latent vectors (N, Z) of inputs (N, C H W + Z), which hold both."""
        values = prod(self.input_shape)
        return inputs[:, :values].reshape(-1, *self.input_shape), inputs[:, values:]

    def judge(self, real: Tensor, made: Tensor, *, frozen: bool = False) -> tuple[Tensor, Tensor]:
        """The discriminator's logits (N,) for real and for made images, (N, C, H, W) each.

        frozen: its parameters count as constants, so that gradients reach the images alone.
        """
        if self.real_and_fake == "joint":
            logits = self._logits(torch.cat([real, made]), frozen)
            return logits[: len(real)], logits[len(real) :]
        return self._logits(real, frozen), self._logits(made, frozen)

    def fooled(self, real: Tensor, made: Tensor, *, frozen: bool = False) -> Tensor:
        """The logits (N,) for made images alone, as the generator's loss needs them.

        separate: one pass with the made images; the real ones are left out. joint: one pass with both.
        """
        if self.real_and_fake == "joint":
            return self.judge(real, made, frozen=frozen)[1]
        return self._logits(made, frozen)

    def _logits(self, images: Tensor, frozen: bool) -> Tensor:
        if not frozen:
            logits: Tensor = self.discriminator(images)
        else:
            still = {name: value.detach() for name, value in self.discriminator.named_parameters()}
            logits = functional_call(self.discriminator, still, (images,))
        return logits.flatten()

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C H W + Z) to (N, 3 + C H W): three logits, then the made image.

        The logits: of the real image; of the made one as the discriminator learns from it (no gradient reaches the
        generator); of the made one as the generator learns from it (no gradient reaches the discriminator). In eval
        mode the last two are one number, from one pass. In train mode the passes are those of one training step: one
        of the generator, and three of the discriminator (joint: two).
        """
        real, latents = self.apart(inputs)
        made = self.generator(latents)
        of_real, of_made = self.judge(real, made.detach() if self.training else made)
        seen = self.fooled(real, made, frozen=True) if self.training else of_made
        return torch.cat([torch.stack([of_real, of_made, seen], 1), made.flatten(1)], 1)
