"""The values that a statistic is taken over: too few, or along the wrong axes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.sites.norm_site import NormSite


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
        small = behaviour.values <= 1 or not behaviour.axes
        lost = _lost(site) if small and behaviour.kind in _OF_A_SAMPLE else ""
        if not lost:
            continue
        given = f" for the input {patient.input_text}" if patient.input_text else " for this input"
        left = "the constant beta" if lost == "all" else "plus or minus gamma"
        yield Symptom(
            place=site.name,
            evidence=1,
            measure="value in each mean",
            message=f"Each statistic is of one value{given}: every output is {left}.",
            fix=_with_more_values(site),
            severity=None if lost == "all" else "warning",
            cost="" if lost == "all" else "The size of the input is lost; its sign is left.",
        )


_OF_A_SAMPLE = ("group", "instance", "layer", "rms", "other")


def _with_more_values(site: NormSite) -> str:
    shape = site.shapes[0]
    grouped = site.behaviour.kind == "instance" or isinstance(site.module, nn.GroupNorm)
    whole = f"nn.GroupNorm(1, {shape[1]})" if grouped and shape[1] > 1 else "more features"
    larger = ", a larger input" if len(shape) > 2 else ""
    return f"{whole}{larger}, or nn.Identity() in its place"


def _lost(site: NormSite) -> Literal["", "size", "all"]:
    """What of the input is lost in every call: all, where two inputs give one output; its size, where signs count."""
    if site.module is None or not site.shapes:
        return ""
    if all(_is_constant(site.module, shape) for shape in site.shapes):
        return "all"
    return "size" if all(_is_constant(site.module, shape, same_signs=True) for shape in site.shapes) else ""


def _is_constant(module: nn.Module, shape: tuple[int, ...], same_signs: bool = False) -> bool:
    draw = torch.Generator().manual_seed(0)
    tensor = next(itertools.chain(module.parameters(), module.buffers()), torch.zeros(()))
    one, other = (3 * torch.randn(shape, generator=draw).to(tensor) for _ in range(2))
    other = other.abs() * (one.sign() if same_signs else -one.sign())
    with torch.no_grad():
        given, also = module(one), module(other)
    if not isinstance(given, Tensor) or not isinstance(also, Tensor):
        return False
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
        if (
            site.behaviour.kind not in ("layer", "rms")
            or not site.shapes
            or not _has_channels_first(patient, site)
        ):
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
            else "Its input is a convolution's (N, C, ...), and it normalizes positions, not channels.",
            fix=_over_channels(shape),
            severity="note" if note else "warning",
            cost="The network takes one size of image." if note else "",
        )


def _over_channels(shape: tuple[int, ...]) -> str:
    channels = shape[1]
    if len(shape) == 4:
        return f"torchvision.models.convnext.LayerNorm2d({channels}), or nn.GroupNorm(1, {channels})"
    return f"nn.LayerNorm({channels}) on x.movedim(1, -1), and back; or nn.GroupNorm(1, {channels})"


#: What keeps the order of axes: activations and the like, by their names.
_ELEMENTWISE = re.compile(
    "relu|gelu|silu|swish|mish|tanh|sigmoid|elu|drop|pool|add|mul|scale|norm|identity|depth", re.IGNORECASE
)


def _has_channels_first(patient: Patient, site: NormSite) -> bool:
    """Whether its input comes from a convolution with no change of the axes between them."""
    nodes = {node.index: node for node in patient.sites.nodes}
    starts = [node for node in nodes.values() if node.module is site.module and node.inputs]
    if not starts:
        return False
    node, dims = nodes[starts[0].inputs[0]], len(site.shapes[0])
    while True:
        if isinstance(node.module, nn.modules.conv._ConvNd):
            return len(node.shape) == dims
        name = node.name if node.kind == "function" else type(node.module).__name__
        if not _ELEMENTWISE.search(name) or len(node.shape) != dims or not node.inputs:
            return False
        node = nodes[node.inputs[0]]
