"""How a batch of a task reaches somebody's network, and how its outputs come back, with no line of it rewritten."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.time_channel import split_time, with_time
from bnbench.base.tokens import split_valid, valid_tokens
from bnbench.engine.own.facts import Use
from bnbench.network.source.configured import is_configured
from bnbench.network.source.inputs import STEPS

#: Names of an argument that says which positions hold data.
MASKS = ("mask", "attention_mask", "valid")


@dataclass(frozen=True)
class Fit:
    """What is done to a batch. The network gets `args` of it.

    features: (N, F, 1, 1) becomes (N, F). signal: (N, C, 1, L) or (N, C, L, 1) becomes (N, C, L). repeated: one channel
    becomes three. side: images are resized to it (bilinear). steps: of a diffusion process, with its last channel.
    apart: the steps are a second argument, (N,) whole numbers. mask: a second argument, (N, T), True at what is no
    padding; numbers: the mask is the last column. main, mask_name: names of arguments that are given by name.
    outputs: which of a network's outputs are the answer; "" where it gives one tensor.
    """

    features: bool = False
    signal: bool = False
    repeated: bool = False
    side: int | None = None
    steps: int | None = None
    apart: bool = False
    mask: bool = False
    numbers: bool = False
    main: str = ""
    mask_name: str = ""
    outputs: str = ""

    def arguments(self, x: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """By position and by name, for a batch of the task."""
        second: Tensor | None = None
        if self.steps is not None:
            images, times = split_time(x)
            second = times.long() if self.apart else None
            x = images if self.apart else with_time(images, (times + 1) / self.steps)
        elif self.numbers:
            x, second = split_valid(x)
        elif self.mask:
            second = valid_tokens(x)
        x = self._arranged(x)
        if self.main:
            named = {self.main: x}
            return (), {**named, self.mask_name: second.long()} if second is not None and self.mask else named
        return ((x, second) if second is not None and (self.mask or self.apart) else (x,)), {}

    def _arranged(self, x: Tensor) -> Tensor:
        if self.features:
            return x.flatten(1)
        if self.signal:
            return x.flatten(2)
        if self.repeated:
            x = x.expand(-1, 3, -1, -1).contiguous()
        if self.side is not None:
            x = nn.functional.interpolate(x, size=(self.side, self.side), mode="bilinear", antialias=True)
        return x

    def chosen(self, outputs: Any) -> Any:
        """The answer among the network's outputs."""
        if not self.outputs:
            return outputs
        return outputs[self.outputs] if isinstance(outputs, Mapping) else getattr(outputs, self.outputs)

    def call(self, x: Tensor) -> Any:
        """What a network without this fit is called with: a tensor, a tuple of arguments, a dict of named ones."""
        args, named = self.arguments(x)
        return named or (args if len(args) > 1 else args[0])

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self != Fit()

    def said(self) -> str:
        """What is done, for people; "" where nothing is."""
        parts = [
            "features as (N, F)" if self.features else "",
            "signals as (N, C, L)" if self.signal else "",
            "gray images repeated to three channels" if self.repeated else "",
            f"images resized to {self.side} x {self.side} (bilinear)" if self.side else "",
            "the step as its second argument" if self.apart else "",
            f"the step as a further channel, (t + 1) / {self.steps}" if self.steps and not self.apart else "",
            "its second argument says what is padding" if self.mask else "",
            f"of its outputs {self.outputs}" if self.outputs else "",
        ]
        return ", ".join(filter(None, parts))


class Fitted:
    """The forward that a network's class gets in front of its own; the names of its layers stay as they are."""

    bnbench_fit: Fit

    def forward(self, x: Tensor) -> Any:
        """From a batch of the task to the answer."""
        args, named = self.bnbench_fit.arguments(x)
        return self.bnbench_fit.chosen(super().forward(*args, **named))  # type: ignore[misc]


def fitted(model: nn.Module, fit: Fit) -> nn.Module:
    """The network with that fit: itself, of a class of its own. A plain Sequential of features gets a first Flatten."""
    if not fit.changes:
        return model
    if type(model) is nn.Sequential and replace(fit, features=False) == Fit():
        layers = OrderedDict([("features", nn.Flatten()), *model.named_children()])
        return nn.Sequential(layers).train(model.training)
    kind = type(model)
    model.__class__ = type(
        kind.__name__, (Fitted, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__}
    )
    vars(model)["bnbench_fit"] = fit
    return model


def candidates(model: nn.Module, use: Use, side: int | None) -> Iterator[Fit]:
    """Ways to give a batch to this network, the one with the least change first."""
    base = _arguments(model, use)
    shape = tuple(use.sizes.input_shape)
    if use.sizes.vocabulary is not None or len(shape) != 3:
        yield base
        return
    base = replace(base, side=side)
    if shape[1:] == (1, 1):
        yield replace(base, features=True)
        yield base
        return
    yield base
    if shape[0] == 1 and (base.steps is None or base.apart):  # else the step is a channel beside the gray one
        yield replace(base, repeated=True)
    if 1 in shape[1:]:
        yield replace(base, signal=True)


def _arguments(model: nn.Module, use: Use) -> Fit:
    """The arguments of its forward: the batch, and what comes with it."""
    by_name = is_configured(model)
    numbers = use.sizes.masked and use.sizes.vocabulary is None
    fit = Fit(numbers=numbers)
    if use.timed:
        fit = replace(fit, steps=use.steps, apart=second_argument(model) in STEPS)
    if by_name:
        fit = replace(fit, main=str(getattr(model, "main_input_name", "")), mask_name="attention_mask")
    if use.sizes.masked:
        fit = replace(fit, mask=by_name or takes_mask(model))
    return fit


def takes_mask(model: nn.Module) -> bool:
    """Whether the second argument of its forward is a mask."""
    return second_argument(model) in MASKS


def second_argument(model: nn.Module) -> str:
    """The name of the second argument of its forward, with a default or without; "" where there is none."""
    try:
        names = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return ""
    return names[1] if len(names) > 1 else ""


def tensor_of(outputs: Any) -> tuple[str, str]:
    """Which of a network's outputs is the answer ("" where it gives one tensor), and why none is ("" where one is)."""
    if isinstance(outputs, Tensor):
        return "", ""
    tensors = {key: value for key, value in _named(outputs).items() if isinstance(value, Tensor)}
    kind = type(outputs).__name__
    if not tensors:
        return "", f"gives a {kind} without a tensor by name"
    auxiliary = [key for key in tensors if "aux" in key]
    if auxiliary:
        return "", f"gives a {kind} with further outputs to train by ({', '.join(auxiliary)})"
    for key in ("logits", "out"):
        if key in tensors:
            return key, ""
    if len(tensors) == 1 and not isinstance(outputs, tuple):
        return next(iter(tensors)), ""
    shapes = (f"{'' if key.isdecimal() else f'{key} '}{tuple(value.shape)}" for key, value in tensors.items())
    return "", f"gives a {kind} of {' and '.join(shapes)}"


def _named(outputs: Any) -> Mapping[str, Any]:
    if isinstance(outputs, Mapping):
        return outputs
    if isinstance(outputs, tuple) and hasattr(outputs, "_asdict"):
        named: Mapping[str, Any] = outputs._asdict()
        return named
    if isinstance(outputs, tuple | list):
        return {str(index): value for index, value in enumerate(outputs)}
    return {key: value for key, value in getattr(outputs, "__dict__", {}).items() if not key.startswith("_")}


__all__ = ["Fit", "Fitted", "candidates", "fitted", "tensor_of", "torch"]
