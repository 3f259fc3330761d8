"""Padding that has a part in the outputs for valid positions: found by adding some."""

from __future__ import annotations

from torch import nn

from bnbench.engine.rehearsal.case import Case
from bnbench.engine.rehearsal.trial_outputs import SAMPLES, UNCHANGED, ByMode, changed_outputs

#: A matrix product of another shape may round differently.
TOLERANCE = 1e-4


def padding_of(case: Case, model: nn.Module) -> ByMode:
    """Give the same sequences with as much padding again; the network is left as it is.

    Inputs that carry no padding are not tried, and a network that takes one length alone does not depend on it.
    """
    sizes = case.sizes
    length = sizes.input_shape[0]
    if not sizes.masked or sizes.per_position or length < 2:
        return UNCHANGED
    long = case.inputs(SAMPLES)
    long[:, length // 2 :] = 0  # the token, and the last column, of padding
    short = long[:, : length // 2].contiguous()
    return changed_outputs(model, long, short, slice(None), TOLERANCE)


def why_padding_counts(case: Case, padded: ByMode) -> str:
    """The caution on a network whose outputs depend on padding; "" of any other."""
    if not padded.training and not padded.inference:
        return ""
    settings = case.settings
    owner = f"model: {settings.model.name}" if settings.norm.name == "none" else f"norm: {settings.norm.name}"
    when = {
        (True, False): "in training",
        (False, True): "at inference",
        (True, True): "in training and at inference",
    }[padded.training, padded.inference]
    return (
        f"{case.label}: {when}, the output for a sequence depends on how much padding its batch holds, which {owner} "
        "counts: another length of the batch would be another network. norm: masked_batch leaves padding out, and "
        "layer, rms and dyt look at each position by itself."
    )
