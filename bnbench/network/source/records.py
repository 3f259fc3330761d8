"""What a network is built with, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

#: From a number of samples to what the network is called with: a tensor; a tuple of its positional arguments; or a
#: dict of its keyword arguments, as Hugging Face's networks take them.
Inputs = Callable[[int], Any]


@dataclass(frozen=True)
class Wanted:
    """What is known of the network's use; None where it is not.

    options: further keyword arguments for its factory. input: the text of --input. seed: of its initial weights.
    shape: of one sample of the data. vocabulary: how many tokens the data has. outputs: a position of the data has so
    many outputs (of an image a pixel), where the network gives outputs of the input's size.
    """

    num_classes: int | None = None
    in_channels: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    input: str | None = None
    seed: int = 0
    shape: tuple[int, ...] | None = None
    vocabulary: int | None = None
    outputs: int | None = None
    task: str = ""


@dataclass(frozen=True)
class LoadedModel:
    """A network that a MODEL word names, on the CPU, as its factory made it.

    source_hash: of its file and all that the file imports beside it, or of the package's version and the word.
    inputs: random ones, the same each time. input_text: their shape, for people. said: sentences on what was decided.
    wanted: what it was built with.
    """

    model: nn.Module
    word: str
    source_hash: str
    inputs: Inputs
    input_text: str
    said: tuple[str, ...] = ()
    wanted: Wanted = field(default_factory=Wanted)


def call(model: nn.Module, inputs: Any) -> Any:
    """The outputs for what `LoadedModel.inputs` gives."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)
