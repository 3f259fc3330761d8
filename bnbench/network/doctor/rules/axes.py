"""The values that a statistic is taken over: too few, or along the wrong axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import nn

from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.norm_site import NormSite


@rules.register(
    "D19",
    title="one value in a group",
    severity="error",
    needs=("forward",),
    cost="A value minus itself is 0: the layer gives the constant beta, and everything before it is lost.",
)
def one_value(patient: Patient) -> Iterator[Symptom]:
    """A group, instance or layer norm takes its mean over a single value.

    GroupNorm(4, 4) on inputs (N, 4) has one value in each group; so has an instance norm on a map of 1 x 1. Centered,
    that is 0 for every input.

    Evidence: the number of values that a mean is taken over, for this input.

    Meant: a batch norm on a map of 1 x 1 (as in squeeze-and-excitation) takes its mean over the batch: no finding. So
    is GroupNorm(1, C). An RMS norm of one value gives its sign: a warning.

    Fix: fewer groups; a larger input; no normalization there.

    Threads: meta-pytorch/opacus#567
    """
    for site in patient.norms:
        behaviour = site.behaviour
        if behaviour.kind not in ("group", "instance", "layer", "rms") or not site.shapes:
            continue
        if (behaviour.values > 1 and behaviour.axes) or not _erases(site):
            continue
        given = f" for the input {patient.input_text}" if patient.input_text else " for this input"
        yield Symptom(
            place=site.name,
            evidence=1,
            measure="value in each mean",
            message=f"Each statistic is of one value{given}"
            + (
                ": every output is the constant beta."
                if _centers(site)
                else ": each output is plus or minus gamma."
            ),
            fix="nn.GroupNorm(1, channels), a larger input, or nn.Identity() in its place",
            severity=None if _centers(site) else "warning",
            cost="" if _centers(site) else "The size of the input is lost; its sign is left.",
        )


def _centers(site: NormSite) -> bool:
    return site.behaviour.centers and site.behaviour.kind != "rms"


def _erases(site: NormSite) -> bool:
    """Whether two inputs give one output in every call; where it does not center, two of the same signs."""
    return site.module is not None and all(_is_constant(site.module, site, shape) for shape in site.shapes)


def _is_constant(module: nn.Module, site: NormSite, shape: tuple[int, ...]) -> bool:
    draw = torch.Generator().manual_seed(0)
    tensor = next(itertools.chain(module.parameters(), module.buffers()), torch.zeros(()))
    one, other = (3 * torch.randn(shape, generator=draw).to(tensor) for _ in range(2))
    if not _centers(site):
        other = other.abs() * one.sign()
    with torch.no_grad():
        given, also = module(one), module(other)
    return bool(((given - also).abs() <= 1e-3 * (1 + given.abs())).all())


@rules.register(
    "D20",
    title="layer norm over spatial axes",
    needs=("forward",),
    cost="Positions of one row are normalized together in place of the channels: contrast along the row is lost, and "
    "gamma belongs to columns.",
)
def spatial_axes(patient: Patient) -> Iterator[Symptom]:
    """A layer norm whose input is the output of a convolution (N, C, H, W) normalizes the last axis: the width.

    nn.LayerNorm(C) works on the last axis. Before it, (N, C, H, W) has to become (N, H, W, C). Where the width
    happens to equal the number of channels, nothing raises.

    Evidence: the number of values of one row that each mean is taken over.

    Meant: layer norms behind a permutation, norms of channels written for (N, C, H, W) (LayerNorm2d), and layer norms
    over all axes of a sample are no finding; the last is a note, since gamma has a value for each position and the
    network takes one size of image.

    Fix: permute before and after it, torchvision.models.convnext.LayerNorm2d, or nn.GroupNorm(1, C).

    Threads: none is known.
    """
    for site in patient.norms:
        if site.behaviour.kind not in ("layer", "rms") or not site.shapes or site.producer is None:
            continue
        producer = site.producer
        if not isinstance(producer.module, nn.modules.conv._ConvNd) or producer.through:
            continue
        shape = site.shapes[0]
        dims = len(shape)
        axes = {axis % dims for axis in site.behaviour.axes}
        spatial = axes - {0, 1}
        if dims < 3 or not spatial:
            continue
        note = 1 in axes
        yield Symptom(
            place=site.name,
            evidence=site.behaviour.values if note else shape[-1],
            measure="values in each mean" if note else "values in each mean, of one channel",
            message="It normalizes each sample as a whole, and gamma has a value for each position."
            if note
            else "Its input is a convolution's (N, C, ...), and it normalizes the last axis, not the channels.",
            fix=f"torchvision.models.convnext.LayerNorm2d({shape[1]}), or nn.GroupNorm(1, {shape[1]})",
            severity="note" if note else "warning",
            cost="The network takes one size of image." if note else "",
        )
