"""The variance of what reaches a normalization in a forward pass, beside its eps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.network.doctor.measures import batches_of, has_inputs
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.trained import eps_of
from bnbench.network.doctor.untouched import called, device_of
from bnbench.network.sites.norm_site import NormSite


def shares_below_eps(patient: Patient, sites: Sequence[NormSite]) -> list[tuple[NormSite, float]]:
    """Sites, and the share of their variances (mean squares, where they do not center) that are at most eps.

    In training mode, on the first batch of data or on made-up inputs. Changes the model: call it in `untouched`.
    """
    if not sites or not has_inputs(patient):
        return []
    shares: list[tuple[NormSite, list[float]]] = [(site, []) for site in sites]
    patient.model.train()
    with torch.no_grad(), ExitStack() as stack:
        for site, found in shares:
            if site.module is not None:
                stack.callback(site.module.register_forward_pre_hook(_recorder(site, found)).remove)
        called(patient.model, batches_of(patient)[0].inputs, device_of(patient.model))
    return [(site, sum(found) / len(found)) for site, found in shares if found]


def _recorder(site: NormSite, found: list[float]) -> Callable[[nn.Module, Any], None]:
    def record(module: nn.Module, inputs: Any) -> None:
        x = inputs[0] if inputs else None
        axes = tuple(
            axis for axis in site.behaviour.axes if isinstance(x, Tensor) and -x.dim() <= axis < x.dim()
        )
        if isinstance(x, Tensor) and axes:
            values = x.detach().double()
            spread = values.var(axes, correction=0) if site.behaviour.centers else values.square().mean(axes)
            found.append(float((spread <= eps_of(site)).double().mean()))

    return record
