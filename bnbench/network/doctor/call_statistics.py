"""The statistics of each call of a layer that a forward pass calls several times."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.network.doctor.data import DataBatch
from bnbench.network.doctor.gap import square_gap
from bnbench.network.doctor.passes import training_flags
from bnbench.network.doctor.untouched import called, untouched
from bnbench.network.sites.norm_site import NormSite
from bnbench.network.ways import input_statistics


def apart_over_calls(model: nn.Module, site: NormSite, batch: DataBatch) -> float:
    """How far the inputs of the first and the last call lie apart in training, in standard deviations."""
    assert site.module is not None
    calls: list[tuple[Tensor, Tensor]] = []

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        _, mean, var = input_statistics(arguments)
        calls.append((mean, var))

    with untouched(model) as device, torch.no_grad(), ExitStack() as stack:
        training_flags(model)
        stack.callback(site.module.register_forward_pre_hook(hook).remove)
        called(model, batch.inputs, device)
    if len(calls) < 2:
        return 0.0
    return math.sqrt(float(square_gap(calls[0], calls[-1], site.behaviour.eps or 0.0)))
