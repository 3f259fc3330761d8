"""Evaluation. It changes nothing: not the weights, not the running statistics, not the random streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.data.prepared import Prepared
from bnbench.engine.ranks.evaluate import answers_of_ranks
from bnbench.engine.task_batches import evaluation_batches
from bnbench.study.records import TestSamples
from bnbench.tasks import Task, task_of


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
                batches = evaluation_batches(task, parts[split], split, data.sizes, size)
                outputs, targets = answers_of_ranks(model, task, batches, size is not None) or _answers(
                    model, task, batches
                )
                if not task.makes_batches:
                    targets = parts[split][1]
                targets = targets.cpu()
                values = task.measured(outputs, targets, data)
                measured |= {f"{split}_{name}": value for name, value in values}
                if split == "test":
                    measured.samples = task.answered(outputs, targets, data)
                    last = task.at_end(model, data, generator(0, "end of a run"))
                    measured |= {f"{split}_{name}": value for name, value in last.items()}
    finally:
        model.train(training)
    return measured


def _answers(model: nn.Module, task: Task, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What the task keeps of the outputs for all samples, (N, ...), and the targets of the batches."""
    pairs = ((task.kept(model(inputs), targets), targets) for inputs, targets in batches)
    kept, targets = zip(*pairs, strict=True)
    return torch.cat(kept), torch.cat(targets)
