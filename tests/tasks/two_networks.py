"""A plugin with a task of its own: a generator against a critic, two networks in one module, one step for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnbench.base.metrics import Metric
from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.optim import losses
from bnbench.tasks import Task, tasks


@tasks.register(
    "generate",
    metrics=(Metric("loss", "lower"), Metric("fooled", "higher", percent=True)),
    losses=("both",),
    primary="fooled",
)
class Generate(Task):
    """Images like those of a data set; its labels are left alone."""

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise."""
        return torch.randn((count, *sizes.input_shape), generator=draw), torch.zeros(count, dtype=torch.long)

    def network_arguments(self, sizes: Sizes) -> tuple[Any, ...]:
        """The shape of an image alone."""
        return (sizes.input_shape,)

    def kept(self, outputs: Any, targets: Tensor) -> Tensor:
        """The critic's marks for real and made images, (N, 2)."""
        return torch.stack(outputs[:2], 1).cpu().double()

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """How well the critic tells them apart."""
        real, made = outputs.unbind(1)
        yield "loss", float((nn.functional.softplus(-real) + nn.functional.softplus(made)).mean())
        yield "fooled", float((made > 0).double().mean())


@losses.register("both", tasks=("generate",))
def both() -> Callable[[Any, Tensor], Tensor]:
    """The critic's loss, and the generator's."""

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        real, made, seen = outputs
        critic = (nn.functional.softplus(-real) + nn.functional.softplus(made)).mean()
        return critic + nn.functional.softplus(-seen).mean()

    return loss


class _Pair(nn.Module):
    def __init__(self, values: int, norm: NormLayer) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 8), norm(8, 1), nn.ReLU(), nn.Linear(8, values))
        self.critic = nn.Sequential(nn.Linear(values, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Marks for real images; for made ones, as the critic learns; and as the generator learns."""
        real = images.flatten(1)
        made = self.generator(torch.randn(len(real), 4).to(real.device))
        still = {name: value.detach() for name, value in self.critic.named_parameters()}
        seen: Tensor = functional_call(self.critic, still, (made,))
        return self.critic(real)[:, 0], self.critic(made.detach())[:, 0], seen[:, 0]


@models.register("pair", init="torch")
def pair(input_shape: tuple[int, ...], norm: NormLayer) -> nn.Module:
    """A generator and a critic."""
    return _Pair(prod(input_shape), norm)
