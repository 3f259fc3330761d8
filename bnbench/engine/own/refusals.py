"""Why a network does not fit a task, or a normalizer does not fit a network, each with the fix."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.conv import _ConvNd

from bnbench.base.errors import BnbenchError
from bnbench.engine.own.facts import Use
from bnbench.engine.own.fit import Fit
from bnbench.network.source.arguments import CHANNELS, CLASSES, SIZE, VALUES
from bnbench.network.source.trial import Trial

if TYPE_CHECKING:
    from bnbench.network.convert import Replaced

#: Sites that are named in a message; the others are counted.
_SHOWN = 3


def misfit(name: str, trial: Trial, use: Use, fit: Fit) -> BnbenchError:
    """A network that raises on a batch of the task."""
    shape = " x ".join(map(str, use.sizes.input_shape))
    how = f" ({fit.said()})" if fit.said() else ""
    mode = ", in training mode" if trial.training else ""  # at inference, which is tried first, it does
    return BnbenchError(
        f"model: {name} does not take the data, {shape} a sample{how}{mode}: {trial.fault}",
        fix=_fix(name, trial, use),
    )


def _fix(name: str, trial: Trial, use: Use) -> str:
    """By the layer that raised."""
    images = len(use.sizes.input_shape) == 3 and use.sizes.input_shape[1:] != (1, 1)
    if isinstance(trial.error, TypeError) and "positional argument" in str(trial.error):
        steps = ", or of two, the second called t: the step of each sample" if use.timed else ""
        return f"a forward of one argument, the batch{steps}."
    if not isinstance(trial.error, RuntimeError | ValueError | AssertionError):
        return "mend that line, or name another network."
    if any(word in str(trial.error) for word in ("weight type", "same dtype", "scalar type")):
        return "parameters in float32, without .half() or .double(): precision: of the study chooses another type."
    if isinstance(trial.failed, _ConvNd) and f"to have {trial.failed.in_channels} channels" in str(
        trial.error
    ):
        return f"def __init__(self, {CHANNELS[0]}): an argument of that name is given the data's channels."
    if isinstance(trial.failed, nn.Linear) and not images:
        return f"def __init__(self, {VALUES[0]}): an argument of that name is given the values of a sample."
    if images and name.startswith(("torchvision:", "timm:", "hf:")):
        return "model.image_size=S, to which images are resized (64, or what it was made for); or another architecture."
    if images and isinstance(trial.failed, nn.Linear):
        return _fix_of_linear(trial.failed, trial.got)
    if images:
        first = "mend that line; or, " if not isinstance(trial.error, RuntimeError) else ""
        return (
            f"{first}where it wants images of another size: model.image_size=S, to which images are resized, or "
            f"def __init__(self, {SIZE[0]}), which is given the data's; where it wants features: x = x.flatten(1)."
        )
    return "mend that line, or name another network."


def _fix_of_linear(layer: nn.Linear, got: tuple[int, ...]) -> str:
    """Of a network for images whose linear layer got another number of features."""
    if len(got) > 2:
        return "x = x.flatten(1) before that layer."
    width = f"nn.Linear({got[-1]}, {layer.out_features}) there, or " if got else ""
    return f"{width}nn.AdaptiveAvgPool2d(1) before it; or images of the size that it was made for: model.image_size=S."


def wrong_outputs(name: str, what: str, use: Use) -> BnbenchError:
    """A network whose outputs are not what the task wants."""
    shape, count = use.output_shape(3), use.sizes.num_outputs
    wanted = f"task: {use.name} wants {shape}" if shape else f"task: {use.name} wants one tensor"
    if "further outputs" in what:
        fix = "leave them out (of torchvision: model.options.aux_logits=false): one output is trained here."
    elif not what.startswith("gives ("):
        fix = "a forward that returns one tensor, or a dict with the answer as logits."
    elif shape and shape[-1] == 1 and what.startswith(f"gives {shape[:-1]} "):
        fix = f"an output of {len(shape)} axes: without .squeeze(), or .unsqueeze(-1) at its end."
    elif use.sizes.per_position:
        fix = f"a network of {count} outputs at every position, of the input's size."
    elif shape and what.count(",") > len(shape) - 1:
        fix = "a network of one output vector a sample: another architecture, or nn.AdaptiveAvgPool2d(1) and flatten."
    elif name.startswith(("torchvision:", "timm:", "hf:")):
        fix = "another architecture, that of a classifier."
    else:
        fix = f"def __init__(self, {CLASSES[0]}): an argument of that name is given their number, {count}."
    return BnbenchError(f"model: {name} {what}, and {wanted}.", fix=fix)


def no_norms(name: str, model: nn.Module, source: str = "") -> BnbenchError:
    """A network without anything to replace: every variant would be the same network."""
    what = f"no {source} norm" if source and source != "all" else "no normalizer"
    return BnbenchError(
        f"model: {name}: {type(model).__name__} has {what}.",
        "Each variant's normalizer takes the place of the network's own, so all variants would be one network.",
        "put nn.BatchNorm2d (or 1d) where a normalizer may stand."
        if what == "no normalizer"
        else "model.replace=all, which replaces every normalizer.",
    )


def cannot_stand(name: str, norm: str, model: nn.Module, refused: Sequence[Replaced]) -> BnbenchError:
    """Sites at which no normalizer, or not this one, can stand: each with its file, line and reason."""
    never = [site for site in refused if site.site.refused]
    by_reason: dict[str, list[Replaced]] = {}
    for site in never or refused:
        by_reason.setdefault(site.reason, []).append(site)
    lines = []
    for reason, sites in by_reason.items():
        names = ", ".join(_site(model, each) for each in sites[:_SHOWN])
        more = f" and {len(sites) - _SHOWN} more" if len(sites) > _SHOWN else ""
        lines.append(f"{names}{more}: {reason}")
    places = "\n".join(lines)
    if never:
        count = "a normalizer" if len(never) == 1 else f"{len(never)} normalizers"
        return BnbenchError(
            f"model: {name}: {count} can't be replaced:\n{places}",
            fix=""
            if all("Fix: " in reason for reason in by_reason)
            else "a module in its place, such as nn.BatchNorm2d or nn.LayerNorm, made in __init__.",
        )
    where = "1 site" if len(refused) == 1 else f"{len(refused)} sites"
    return BnbenchError(
        f"model: {name}: norm {norm} can't stand at {where}:\n{places}",
        fix=f"another norm than {norm} in this variant (layer and rms fit nearly everywhere), or another layer there.",
    )


def _site(model: nn.Module, replaced: Replaced) -> str:
    place = place_of(model, replaced.site.name)
    return f"{replaced.site.name or 'the root'}{f' ({place})' if place else ''}"


def place_of(model: nn.Module, name: str) -> str:
    """File and line at which a layer is made: of "self.NAME = " in its owner's class; "" where that is not known."""
    owner_name, _, last = name.partition(":")[0].rpartition(".")
    parts = owner_name.split(".") if owner_name else []
    while True:
        try:
            owner = model.get_submodule(".".join(parts))
        except (AttributeError, RuntimeError):  # a scripted network has none
            return ""
        if not type(owner).__module__.startswith("torch.nn"):
            break
        if not parts:
            return ""
        last = parts.pop()
    try:
        lines, first = inspect.getsourcelines(type(owner))
        file = inspect.getsourcefile(type(owner)) or ""
    except (OSError, TypeError):
        return ""
    pattern = re.compile(rf"\bself\.{re.escape(last)}\s*(:[^=]+)?=|[\"']{re.escape(last)}[\"']")
    line = next((first + index for index, text in enumerate(lines) if pattern.search(text)), first)
    return f"{os.path.relpath(file)}:{line}"
