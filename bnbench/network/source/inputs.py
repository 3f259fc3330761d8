"""Inputs of a network that no data set gives: as --input says, or as its first layer takes them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bnbench.base.errors import BnbenchError
from bnbench.base.seeding import generator
from bnbench.network.source.records import Inputs

#: Sides of an image that are tried in order, where nothing says one: some networks halve it too often for the first.
SIDES = (64, 128, 224, 299)
#: Positions of a signal, frames of a video, tokens of a text.
POSITIONS, FRAMES, TOKENS = 64, 16, 16
#: Tokens of a vocabulary that nobody names.
VOCABULARY = 100
_SHAPE = re.compile(r"\d+(x\d+)*")
_TOKENS = re.compile(r"tokens:(\d+)(?::(\d+))?")
#: Names of an argument that counts the steps of a diffusion process.
STEPS = ("t", "time", "timestep", "timesteps", "step", "steps", "time_step", "noise_level")
_EXAMPLES = "--input 3x64x64 (an image), --input 30 (features), --input tokens:16 (a text)"


@dataclass(frozen=True)
class One:
    """One argument of a network. shape: of a sample. vocabulary: how many tokens, None of numbers. steps: (N,).

    name: where it is given by name, as to the networks of transformers.
    """

    shape: tuple[int, ...]
    vocabulary: int | None = None
    steps: bool = False
    name: str = ""

    def __str__(self) -> str:
        if self.steps:
            return "steps"
        if self.vocabulary is not None:
            return f"{self.shape[0]} tokens of {self.vocabulary}"
        return " x ".join(map(str, self.shape))

    def make(self, samples: int) -> Tensor:
        """Normal numbers, or tokens, the same each time."""
        draw = generator(0, "input")
        if self.steps:
            return torch.randint(100, (samples,), generator=draw)
        if self.vocabulary is not None:
            return torch.randint(self.vocabulary, (samples, *self.shape), generator=draw)
        return torch.randn(samples, *self.shape, generator=draw)


def read_input(text: str, model: nn.Module) -> tuple[One, ...]:
    """What --input says: shapes or tokens, with commas between several arguments. Raises BnbenchError."""
    return tuple(_read_one(part.strip().lower().replace("×", "x"), text, model) for part in text.split(","))


def _read_one(part: str, text: str, model: nn.Module) -> One:
    if part == "steps":
        return One((), steps=True)
    if match := _TOKENS.fullmatch(part):
        vocabulary = int(match[2]) if match[2] else vocabulary_of(model) or VOCABULARY
        return _checked(One((int(match[1]),), vocabulary), text)
    if _SHAPE.fullmatch(part):
        return _checked(One(tuple(map(int, part.split("x")))), text)
    raise BnbenchError(
        f'--input {text}: "{part}" is no shape of one sample.',
        "The number of samples is not part of it; commas separate the arguments of a network of several.",
        f"for example {_EXAMPLES}.",
    )


def _checked(one: One, text: str) -> One:
    if 0 in one.shape or one.vocabulary == 0:
        raise BnbenchError(f"--input {text}: a size is 0.", fix=f"for example {_EXAMPLES}.")
    return one


def vocabulary_of(model: nn.Module) -> int | None:
    """The tokens of its first embedding."""
    return next((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), None)


def default_inputs(model: nn.Module) -> Iterator[tuple[tuple[One, ...], str]]:
    """What its first layer takes, and why, the likeliest first. Raises BnbenchError where no layer says it."""
    found = list(_candidates(model))
    if not found:
        raise BnbenchError(
            f"{type(model).__name__}: no layer of it says what it takes.", fix=f"for example {_EXAMPLES}."
        )
    more = extra_arguments(model)
    for shapes, vocabulary, why in found:
        for index, shape in enumerate(shapes):
            before = f"; at {' x '.join(map(str, shapes[index - 1][1:]))} it fails" if index else ""
            yield (One(shape, vocabulary), *more), why + before


#: Shapes for one layer, the tokens of its vocabulary, and in words where they come from.
_Taken = tuple[Sequence[tuple[int, ...]], int | None, str]


def _candidates(model: nn.Module) -> Iterator[_Taken]:
    """By the first layer, then by the first of another kind: a network may define its layers in any order."""
    side = getattr(model, "image_size", None)
    kinds: set[type] = set()
    for take in (_by_weights, _by_norm):
        for name, module in model.named_modules():
            taken = take(module, f"{name or 'the root'} ({type(module).__name__})")
            if taken is None or type(module) in kinds:
                continue
            kinds.add(type(module))
            shapes, vocabulary, why = taken
            if isinstance(side, int) and len(shapes[0]) == 3:
                shapes, why = [(shapes[0][0], side, side)], f"{why} at the network's image_size"
            yield shapes, vocabulary, why
        if kinds:
            return


def _by_weights(module: nn.Module, layer: str) -> _Taken | None:
    if isinstance(module, _ConvNd):
        channels = module.in_channels or 3
        return _images(channels, len(module.kernel_size)), None, f"the channels of {layer}"
    if isinstance(module, nn.Linear):
        return [(module.in_features,)], None, f"the features of {layer}"
    if isinstance(module, nn.Embedding):
        return [(TOKENS,)], module.num_embeddings, f"the tokens of {layer}"
    if isinstance(module, nn.RNNBase):
        return [(TOKENS, module.input_size)], None, f"the features of {layer}"
    if isinstance(module, nn.MultiheadAttention):
        return [(TOKENS, module.embed_dim)], None, f"the features of {layer}"
    return None


def _by_norm(module: nn.Module, layer: str) -> _Taken | None:
    """Where there is no layer of weights: a normalizer's channels, in the dimension that its class names."""
    if shape := getattr(module, "normalized_shape", None):
        return [tuple(shape)], None, f"the features of {layer}"
    channels = getattr(module, "num_features", None) or getattr(module, "num_channels", None)
    if not isinstance(channels, int):
        return None
    dimension = next((d for d in (1, 3) if f"{d}d" in type(module).__name__), 2)
    shapes = [(channels,)] if dimension == 1 else _images(channels, dimension)
    return shapes, None, f"the channels of {layer}"


def _images(channels: int, dimension: int) -> list[tuple[int, ...]]:
    if dimension == 1:
        return [(channels, POSITIONS), (channels, 1024)]
    frames = (FRAMES,) if dimension == 3 else ()
    return [(channels, *frames, side, side) for side in SIDES]


def needed_arguments(model: nn.Module) -> list[str]:
    """The arguments of its forward that have no default; [] where it can't be read."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty]


def extra_arguments(model: nn.Module) -> tuple[One, ...]:
    """Behind the first argument: the steps of a diffusion process. Raises BnbenchError for any other one."""
    more = needed_arguments(model)[1:]
    if not more:
        return ()
    if len(more) == 1 and more[0] in STEPS:
        return (One((), steps=True),)
    raise BnbenchError(
        f"{type(model).__name__}: its forward takes {', '.join(needed_arguments(model))}.",
        "Only the first of them is known.",
        "--input with commas between them, such as --input 3x32x32,tokens:16; or a network of one argument.",
    )


def inputs_of(arguments: Sequence[One]) -> Inputs:
    """A tensor of one argument, a tuple of several, a dict of named ones."""

    def inputs(samples: int) -> Any:
        if arguments[0].name:
            return {one.name: one.make(samples) for one in arguments}
        made = tuple(one.make(samples) for one in arguments)
        return made[0] if len(made) == 1 else made

    return inputs
