"""The next token of a text: tokens (N, T) in, at every position one logit for each token that may come next."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import DataError
from bnbench.base.metrics import Metric
from bnbench.data import Dataset, Sizes
from bnbench.data.tensors import base_of
from bnbench.study.records import TestSamples
from bnbench.tasks import NO_PROGRESS, Task, tasks

if TYPE_CHECKING:
    from bnbench.data.prepared import Preparation, Prepared


#: The metric of the verdict: total nats of a part / ln 2 / characters of the part.
BITS = "bits_per_character"


@dataclass(frozen=True, eq=False)
class TextAid:
    """What the metrics of a text need.

    characters: that each token stands for. counts: of each token in the training text, (size,) int64.
    """

    characters: tuple[int, ...]
    counts: Tensor


@tasks.register(
    "language_model",
    metrics=(
        Metric("loss", "lower"),
        Metric(BITS, "lower"),
        Metric("token_accuracy", "higher", percent=True),
    ),
    losses=("next_token",),
    models=("transformer", "lstm"),
    dataset="stdlib_text",
    unit="windows of a text",
    tokens=True,
    primary=BITS,
    shown=("loss", BITS),
    chance="a validation loss not 1% below the cross-entropy of the training part's shares of each token",
)
class LanguageModel(Task):
    """The next token: loss in nats a token, bits per character whatever a token is, the share of right next tokens."""

    def check(self, dataset: Dataset) -> None:
        """Windows of a text."""
        inputs, tokens = dataset.train_inputs, dataset.tokens
        if dataset.class_names and tokens is not None:
            raise DataError(
                f"task: language_model: the data set has {len(dataset.class_names)} classes.",
                "A language model predicts the next token of one text, which has no labels.",
                "task: text_classification, or a text without labels (.txt).",
            )
        if tokens is None or tokens.padded or inputs.ndim != 2 or dataset.train_targets.shape != inputs.shape:
            raise DataError(
                f"task: language_model: inputs of {inputs.dtype} and shape {tuple(inputs.shape)}, targets of shape "
                f"{tuple(dataset.train_targets.shape)}{', padded' if tokens and tokens.padded else ''}.",
                "It takes windows of one text: tokens (N, T), and for each the next one.",
                "dataset: stdlib_text, or {name: text, path: FILE.txt}; or the task that the data set is made for.",
            )

    def sizes(self, dataset: Dataset) -> Sizes:
        """A logit for each token, at every position."""
        assert dataset.tokens is not None
        size = dataset.tokens.size
        return Sizes(tuple(dataset.train_inputs.shape[1:]), size, vocabulary=size, per_position=True)

    def prepare(self, dataset: Dataset, preparation: Preparation, device: torch.device) -> Prepared:
        """As any task; the validation part is always the text's own, as windows that overlap can't be split."""
        if preparation.sampling.by != "auto":
            raise DataError(
                f"validation.by: {preparation.sampling.by}, and the task is language_model.",
                "The windows of a text overlap, so the validation part is a stretch of text of its own.",
                "leave validation out.",
            )
        return super().prepare(dataset, preparation, device)

    def probe_size(self, dataset: Dataset) -> int:
        """As many windows as the validation part has: both numbers cost the same time."""
        assert dataset.val_targets is not None
        return len(dataset.val_targets)

    def network_arguments(self, sizes: Sizes) -> tuple[Any, ...]:
        """The sizes."""
        return (sizes,)

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Any tokens."""
        text = torch.randint(sizes.num_outputs, (count, sizes.input_shape[0] + 1), generator=draw)
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N, 2) float64 for the N windows: the mean loss in nats, and the share of right next tokens."""
        logits = outputs.float().flatten(0, 1)
        losses = nn.functional.cross_entropy(logits, targets.flatten(), reduction="none")
        least, most = logits.aminmax(dim=-1)  # NaN where one is: faster than to ask each of them
        right = (logits.argmax(-1) == targets.flatten()) & least.isfinite() & most.isfinite()
        both = torch.stack([losses.cpu().double(), right.cpu().double()], -1)
        return both.view(*targets.shape, 2).mean(1)

    def aid(self, dataset: Dataset, device: torch.device) -> TextAid:
        """The characters that each token stands for, and how often it is there."""
        assert dataset.tokens is not None
        held = base_of(dataset.train_targets)
        train = dataset.train_targets if held is None else held
        return TextAid(dataset.tokens.characters, train.flatten().bincount(minlength=dataset.tokens.size))

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """Where a token is a character."""
        return _metrics(outputs, 1.0)

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterable[tuple[str, float]]:
        """Of the `kept` numbers of the windows."""
        return _metrics(outputs, _characters_a_token(targets, data))

    def answered(self, outputs: Tensor, targets: Tensor, data: Prepared) -> TestSamples:
        """The loss of each window in nats a token, and in bits, whose mean is the part's bits per character."""
        loss = outputs[:, 0]
        bits = loss / math.log(2) / _characters_a_token(targets, data)
        digest = hashlib.blake2b(targets.numpy().astype("<i8").tobytes(), digest_size=8).hexdigest()
        return TestSamples(None, loss.float().numpy(), digest, {BITS: bits.float().numpy()})

    def learnt(self, first: Mapping[str, float], last: Mapping[str, float], data: Prepared) -> bool:
        """Whether it beats every guess that ignores what came before, on the windows that are measured."""
        assert isinstance(data.aid, TextAid)
        return last["val_loss"] < (1 - NO_PROGRESS) * chance_loss(data.aid.counts, data.val_targets.cpu())


def _characters_a_token(targets: Tensor, data: Prepared) -> float:
    """How many characters of the text a token of these windows stands for, in the mean."""
    if not isinstance(data.aid, TextAid):  # made up, to time an evaluation
        return 1.0
    return float(torch.tensor(data.aid.characters)[targets].double().mean())


def _metrics(outputs: Tensor, characters_a_token: float) -> Iterator[tuple[str, float]]:
    loss, accuracy = outputs.mean(0).tolist()
    yield "loss", loss
    yield BITS, loss / math.log(2) / characters_a_token if characters_a_token else math.nan
    yield "token_accuracy", accuracy


def chance_loss(counts: Tensor, tokens: Tensor) -> float:
    """The cross-entropy of `tokens`, in nats a token, under the shares of each token in the training text.

    counts: of each token there, (size,). Each counts once more than it is there (Laplace), so that one that the
    training text lacks has a share.
    """
    smoothed = counts.double() + 1
    return float(-(smoothed / smoothed.sum()).log()[tokens.flatten()].mean())
