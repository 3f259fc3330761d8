"""Evaluation. It changes nothing: not the weights, not the running statistics, not the random streams."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnbench.data.batches import Prepared
from bnbench.engine.process_state import left_as_found
from bnbench.metrics import Split, measure

#: Samples in one evaluation batch at most, and values of them: what a network keeps of larger ones is slow to get.
EVAL_BATCH, EVAL_VALUES = 1000, 2**20
#: So many at least, however large they are.
EVAL_LEAST = 32


def evaluate(model: nn.Module, data: Prepared, splits: Sequence[Split]) -> dict[str, float]:
    """Every metric on each of the splits ("train": the fixed probe), e.g. {"val_loss": 0.31, ...}.

    In eval mode, without augmentation, averaged over samples in float64.
    """
    samples = {
        "train": (data.probe_images, data.probe_labels),
        "val": (data.val_images, data.val_labels),
        "test": (data.test_images, data.test_labels),
    }
    training = model.training
    model.eval()
    try:
        with left_as_found(data.val_labels.device), torch.inference_mode():
            return {
                f"{split}_{name}": value
                for split in splits
                for name, value in _split_metrics(model, *samples[split], data.class_names).items()
            }
    finally:
        model.train(training)


def _split_metrics(
    model: nn.Module, images: Tensor, labels: Tensor, class_names: Sequence[str]
) -> dict[str, float]:
    # near-equal parts, so that no part is a single sample beside a full one
    size = max(EVAL_LEAST, min(EVAL_BATCH, EVAL_VALUES // images[0].numel()))
    parts = math.ceil(len(labels) / size)
    # on the CPU, as not every device has float64
    logits = torch.cat([model(part).cpu().double() for part in images.tensor_split(parts)])
    return dict(measure(logits, labels.cpu(), class_names))
