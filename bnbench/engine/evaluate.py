"""Evaluation. It changes nothing: not the weights, not the running statistics, not the random streams."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnbench.base.metrics import Split, accuracy_by_sample, loss_by_sample, measure
from bnbench.base.process_state import left_as_found
from bnbench.data.batches import Prepared
from bnbench.study.records import TestSamples

#: Samples in one evaluation batch at most, and values of them: what a network keeps of larger ones is slow to get.
EVAL_BATCH, EVAL_VALUES = 1000, 2**20
#: So many at least, however large they are.
EVAL_LEAST = 32


class Measured(dict[str, float]):
    """Every metric by its column. samples: the answers on the test samples, where they were looked at."""

    samples: TestSamples | None = None


def evaluate(model: nn.Module, data: Prepared, splits: Sequence[Split]) -> Measured:
    """Every metric on each of the splits ("train": the fixed probe), e.g. {"val_loss": 0.31, ...}.

    In eval mode, without augmentation, averaged over samples in float64.
    """
    samples = {
        "train": (data.probe_images, data.probe_labels),
        "val": (data.val_images, data.val_labels),
        "test": (data.test_images, data.test_labels),
    }
    training, found = model.training, Measured()
    model.eval()
    try:
        with left_as_found(data.val_labels.device), torch.inference_mode():
            for split in splits:
                images, labels = samples[split]
                logits, labels = _logits(model, images), labels.cpu()
                found |= {
                    f"{split}_{name}": value for name, value in measure(logits, labels, data.class_names)
                }
                if split == "test":
                    found.samples = _answers(logits, labels)
    finally:
        model.train(training)
    return found


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """(N, classes) float64."""
    # near-equal parts, so that no part is a single sample beside a full one
    size = max(EVAL_LEAST, min(EVAL_BATCH, EVAL_VALUES // images[0].numel()))
    parts = math.ceil(len(images) / size)
    # on the CPU, as not every device has float64
    return torch.cat([model(part).cpu().double() for part in images.tensor_split(parts)])


def _answers(logits: Tensor, labels: Tensor) -> TestSamples:
    right, loss = (by_sample(logits, labels) for by_sample in (accuracy_by_sample, loss_by_sample))
    digest = hashlib.blake2b(labels.numpy().astype("<i8").tobytes(), digest_size=8).hexdigest()
    return TestSamples(right.to(torch.uint8).numpy(), loss.float().numpy(), digest)
