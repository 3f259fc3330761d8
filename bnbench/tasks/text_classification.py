"""Texts as tokens (N, T), or sequences of numbers (N, T, C + 1), shorter ones padded; each of one class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.task_facts import IMAGE_CLASSIFICATION
from bnbench.base.tokens import PAD
from bnbench.data import Dataset, Sizes
from bnbench.tasks import tasks
from bnbench.tasks.classifying import Classifying

_FACTS = IMAGE_CLASSIFICATION


@tasks.register(
    "text_classification",
    metrics=_FACTS.metrics,
    losses=_FACTS.losses,
    models=("transformer", "textcnn", "lstm"),
    dataset="text_topics",
    tokens=True,
    primary=_FACTS.primary,
    shown=_FACTS.shown,
    per_class=True,
    chance=_FACTS.chance,
)
class TextClassification(Classifying):
    """Texts, or sequences of numbers, each of one class: the metrics of image classification."""

    def check(self, dataset: Dataset) -> None:
        """Padded tokens or padded sequences, and one class a sample."""
        inputs, targets = dataset.train_inputs, dataset.train_targets
        text = dataset.tokens is not None and dataset.tokens.padded and inputs.ndim == 2
        numbers = dataset.tokens is None and inputs.ndim == 3 and inputs.is_floating_point()
        if dataset.tokens is not None and not dataset.class_names:
            raise DataError(
                "task: text_classification: the data set is one text without labels.",
                "Each text has a class here.",
                "task: language_model, or a .csv, .tsv or .jsonl with text and label.",
            )
        if not (text or numbers) or targets.ndim != 1 or not dataset.class_names:
            raise DataError(
                f"task: text_classification: inputs of {inputs.dtype} and shape {tuple(inputs.shape)}, targets of "
                f"shape {tuple(targets.shape)}, {len(dataset.class_names)} classes.",
                "It takes padded texts, tokens (N, T), or padded sequences, (N, T, C + 1), and one class a sample.",
                "dataset: text_topics, {name: text, path: FILE.csv} or {name: sequences, path: FILE.npz}; or the task "
                "that the data set is made for.",
            )

    def sizes(self, dataset: Dataset) -> Sizes:
        """One output a class."""
        shape, tokens = tuple(dataset.train_inputs.shape[1:]), dataset.tokens
        return Sizes(shape, len(dataset.class_names), vocabulary=tokens.size if tokens else None, masked=True)

    def network_arguments(self, sizes: Sizes) -> tuple[Any, ...]:
        """The sizes."""
        return (sizes,)

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Any tokens or noise, and any classes. The lengths of the texts differ, from one token to all."""
        length = sizes.input_shape[0]
        ends = torch.randint(1, length + 1, (count, 1), generator=draw)
        ends[0] = length
        valid = torch.arange(length) < ends
        if sizes.vocabulary:
            inputs = torch.randint(1, sizes.vocabulary, (count, length), generator=draw).where(valid, PAD)
        else:
            noise = torch.randn((count, *sizes.input_shape), generator=draw)
            noise[..., -1] = 1
            inputs = noise * valid.unsqueeze(-1)
        return inputs, torch.randint(sizes.num_outputs, (count,), generator=draw)
