"""Why a network does not fit a task, or a normalizer does not fit a network, each with the fix."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.network.own.facts import Use
from bnbench.network.own.fit import Fit
from bnbench.network.source.arguments import CLASSES

if TYPE_CHECKING:
    from bnbench.network.convert import Replaced

#: Sites that are named in a message; the others are counted.
_SHOWN = 3


def misfit(name: str, fault: str, use: Use, fit: Fit) -> BnbenchError:
    """A network that raises on a batch of the task."""
    shape = " x ".join(map(str, use.sizes.input_shape))
    how = f" ({fit.said()})" if fit.said() else ""
    channels = "in_channels in its signature, which is given the data's channels"
    return BnbenchError(
        f"model: {name} does not take the data, {shape} a sample{how}: {fault}",
        fix=f"{channels}; model.image_size, to which images are resized; or another network."
        if len(use.sizes.input_shape) == 3
        else "a network that takes such samples.",
    )


def wrong_outputs(name: str, what: str, use: Use) -> BnbenchError:
    """A network whose outputs are not what the task wants."""
    shape = use.output_shape(3)
    count = use.sizes.num_outputs
    wanted = f"task: {use.name} wants {shape}" if shape else f"task: {use.name} wants one tensor"
    classes = (
        f"{count} outputs: {CLASSES[0]} in its signature is given that number; or model.{CLASSES[0]}={count}."
    )
    if "further outputs" in what:
        fix = "leave them out (for torchvision: options: {aux_logits: false}); one output is trained here."
    elif "gives (" in what and not use.sizes.per_position:
        fix = classes
    elif use.sizes.per_position:
        fix = f"a network of {count} outputs at every position, of the input's size."
    else:
        fix = "a forward that returns one tensor."
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
    """A normalizer that can't stand at some sites: each with its file, line and reason."""
    by_reason: dict[str, list[Replaced]] = {}
    for site in refused:
        by_reason.setdefault(site.reason, []).append(site)
    lines = []
    for reason, sites in by_reason.items():
        names = ", ".join(_site(model, each) for each in sites[:_SHOWN])
        more = f" and {len(sites) - _SHOWN} more" if len(sites) > _SHOWN else ""
        lines.append(f"{names}{more}: {reason}")
    return BnbenchError(
        f"model: {name}: norm {norm} can't stand at {len(refused)} of its sites:\n" + "\n".join(lines),
        fix=f"another norm than {norm} in this variant, or another layer at these sites.",
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
        except AttributeError:
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
