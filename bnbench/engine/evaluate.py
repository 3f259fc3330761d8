"""Evaluation. It changes nothing: not the weights, not the running statistics, not the random streams."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.data.prepared import Prepared
from bnbench.study.records import TestSamples
from bnbench.tasks import Task, task_of

#: Samples in one evaluation batch at most, and input values in it: larger batches allocate too much memory.
EVAL_BATCH, EVAL_VALUES = 1000, 2**20
#: Minimum batch size, even for large inputs.
EVAL_LEAST = 32


class Measured(dict[str, float]):
    """Every metric by its column. samples: the answers on the test samples, where they were evaluated."""

    samples: TestSamples | None = None


def evaluate(model: nn.Module, data: Prepared, splits: Sequence[str], size: int | None = None) -> Measured:
    """Every metric of the task on each of the parts ("train": the fixed probe), e.g. {"val_loss": 0.31, ...}.

    In eval mode, without augmentation. splits: also names of further test sets. size: samples of an evaluation batch,
    where that matters; a part is cut into near-equal batches of at most so many.
    """
    parts = {
        "train": (data.probe_inputs, data.probe_targets),
        "val": (data.val_inputs, data.val_targets),
        "test": (data.test_inputs, data.test_targets),
        **data.test_sets,
    }
    training, measured, task = model.training, Measured(), task_of(data.task)
    model.eval()
    try:
        with left_as_found(data.val_targets.device), torch.inference_mode():
            for split in splits:
                inputs, targets = parts[split]
                outputs, targets = _outputs(model, task, inputs, targets, size), targets.cpu()
                values = task.measure(outputs, targets, data.class_names)
                measured |= {f"{split}_{name}": value for name, value in values}
                if split == "test":
                    measured.samples = task.answers(outputs, targets)
    finally:
        model.train(training)
    return measured


def largest_batch(inputs: Tensor) -> int:
    """Samples of an evaluation batch of such inputs (N, ...) at most."""
    return max(EVAL_LEAST, min(EVAL_BATCH, EVAL_VALUES // max(1, inputs[0].numel())))


def _outputs(model: nn.Module, task: Task, inputs: Tensor, targets: Tensor, size: int | None) -> Tensor:
    """What the task keeps of the outputs for all samples, (N, ...)."""
    # near-equal parts, so that no part is a single sample beside a full one
    count = math.ceil(len(inputs) / (size or largest_batch(inputs)))
    pairs = zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True)
    return torch.cat([task.kept(model(batch), wanted) for batch, wanted in pairs])
