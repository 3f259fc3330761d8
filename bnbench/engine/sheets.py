"""What a trained network makes, to be looked at: the images of `Task.samples`, in every way of inference."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.engine.inference import Evaluation
from bnbench.engine.steppers.base import autocast
from bnbench.tasks import Task, task_of


def sheets(evaluation: Evaluation, model: nn.Module) -> tuple[dict[str, Any], tuple[str, ...]]:
    """By way of inference ("" for the study's own): uint8 images (K, C, H, W) as an array; and notes.

    The random numbers are the same for all runs, so variants show the same latent vectors. A task whose `samples`
    raises gives a note: the run is trained and measured, and no picture is worth it.
    """
    task, found = task_of(evaluation.settings.task), dict[str, Any]()
    if type(task).samples is Task.samples:
        return {}, ()
    try:
        ways: dict[str, AbstractContextManager[object]] = {"": nullcontext(), **evaluation.entered(model)}
        for name, entered in ways.items():
            images = _made(evaluation, task, model, entered)
            if images is not None:
                found[name] = images
    except BaseException as error:
        raise_interrupt(error)
        name = evaluation.settings.task.name
        return found, (f"no sheet of samples: the task {name} raised {text_of(error)}",)
    return found, ()


def _made(
    evaluation: Evaluation, task: Task, model: nn.Module, entered: AbstractContextManager[object]
) -> Any | None:
    training, settings, device = model.training, evaluation.settings, evaluation.device
    model.eval()
    try:
        with entered, left_as_found(device), torch.inference_mode(), autocast(settings, device):
            made = task.samples(model, evaluation.data, generator(0, "samples"))
    finally:
        model.train(training)
    if made is None:
        return None
    shown = made.detach().float().nan_to_num(0.0).clamp(0, 1)
    return (255 * shown).round().to(torch.uint8).cpu().numpy()
