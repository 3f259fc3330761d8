"""A plugin with a task of its own: the next letter of a text. Inputs are tokens, a sample has as many targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.metrics import Metric
from bnbench.data import Dataset, Sizes, datasets
from bnbench.data.tensors import fingerprint
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.optim import losses
from bnbench.tasks import Task, tasks

LETTERS = 5


@tasks.register(
    "next_letter",
    metrics=(Metric("loss", "lower"), Metric("bits", "lower")),
    losses=("cross_entropy_by_letter",),
    primary="bits",
    chance="no better than the shares of the letters",
)
class NextLetter(Task):
    """The next letter: cross-entropy in nats and in bits a letter."""

    def sizes(self, dataset: Dataset) -> Sizes:
        """As many outputs as there are letters."""
        return Sizes(tuple(dataset.train_inputs.shape[1:]), LETTERS, vocabulary=LETTERS)

    def network_arguments(self, sizes: Sizes) -> tuple[Any, ...]:
        """Length of a text, and how many letters there are."""
        return sizes.input_shape[0], sizes.vocabulary

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Any letters."""
        tokens = torch.randint(LETTERS, (2, count, *sizes.input_shape), generator=draw)
        return tokens[0], tokens[1]

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each text, not the outputs for each letter."""
        logits = outputs.double()
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return losses.mean(1).cpu()

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """Of the losses of the texts."""
        yield "loss", float(outputs.mean())
        yield "bits", float(outputs.mean() / math.log(2))

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """Below the entropy of the letters' shares by 5 %."""
        shares = targets.flatten().bincount(minlength=LETTERS).double() / targets.numel()
        return last["val_loss"] < 0.95 * float(torch.special.entr(shares).sum())


@losses.register("cross_entropy_by_letter", tasks=("next_letter",))
def cross_entropy_by_letter() -> Callable[[Tensor, Tensor], Tensor]:
    """Mean over all letters."""
    return lambda logits, targets: nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


@datasets.register("alphabet", task="next_letter")
def alphabet(data_dir: Path, *, order: bool = True) -> Dataset:
    """Texts in which a letter is followed by the next one, nine times in ten; without order: by any."""
    draw = torch.Generator().manual_seed(0)
    jumps = torch.randint(LETTERS, (400, 9), generator=draw)
    steps = torch.where(torch.rand(400, 9, generator=draw) < 0.9, 1, jumps) if order else jumps
    texts = steps.cumsum(1) % LETTERS
    inputs, targets = texts[:, :-1].contiguous(), texts[:, 1:].contiguous()
    parts = inputs[:300], targets[:300], inputs[300:], targets[300:]
    return Dataset(*parts, class_names=(), fingerprint=fingerprint(*parts))


class _Letters(nn.Module):
    def __init__(self, vocabulary: int, width: int, norm: NormLayer) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.hidden = nn.Linear(width, width, bias=not norm.absorbs_bias)
        self.norm, self.head = norm(width, 1), nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) letters to (N, T, vocabulary)."""
        x: Tensor = self.norm(self.hidden(self.embedding(tokens)).flatten(0, 1)).relu()
        out: Tensor = self.head(x).unflatten(0, tokens.shape)  # type: ignore[no-untyped-call]
        return out


@models.register("letters", init="torch")
def letters(length: int, vocabulary: int, norm: NormLayer, *, width: int = 16) -> nn.Module:
    """An embedding and one hidden layer, at every place of the text."""
    return _Letters(vocabulary, width, norm)
