"""Arguments of a network's factory: facts of the data, by their usual names, and options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bnbench.base.errors import BnbenchError, nearest
from bnbench.network.source.records import Wanted

#: The names under which a factory is given what the data say.
CLASSES = ("num_classes", "n_classes", "nclasses", "num_class", "nb_classes", "num_labels", "n_labels")
OUTPUTS = ("num_outputs", "n_outputs", "output_dim", "out_dim", "output_size", "out_features")
PIXEL_OUTPUTS = ("out_channels", "out_chans", "out_ch", "output_channels")
CHANNELS = ("in_channels", "in_chans", "in_ch", "in_chan", "input_channels", "num_channels", "n_channels")
VALUES = ("in_features", "input_dim", "in_dim", "input_features")
FEATURES = ("input_size", "num_features", "n_features")
SIZE = ("image_size", "img_size")
SHAPE = ("input_shape",)
VOCABULARY = ("vocab_size", "vocabulary_size", "vocabulary", "n_vocab", "num_tokens", "n_tokens", "ntoken")
LENGTH = ("sequence_length", "seq_len", "seq_length", "max_len", "max_length", "block_size", "context_length")

#: All of them: a network's argument of such a name is given what the data say, where the user gives it nothing.
KNOWN = frozenset(
    (*CLASSES, *OUTPUTS, *PIXEL_OUTPUTS, *CHANNELS, *VALUES, *FEATURES, *SIZE, *SHAPE, *VOCABULARY, *LENGTH)
)


def known_values(wanted: Wanted) -> dict[str, Any]:
    """What the data say, by every name that a factory may have for it."""
    values: dict[str, Any] = {}
    outputs = wanted.num_classes if wanted.num_classes is not None else wanted.outputs
    for names, value in ((CLASSES, outputs), (OUTPUTS, outputs), (PIXEL_OUTPUTS, wanted.outputs)):
        values |= dict.fromkeys(names, value)
    values |= dict.fromkeys(CHANNELS, wanted.in_channels)
    shape = wanted.shape
    if shape is not None and wanted.vocabulary is None:
        values |= dict.fromkeys(SHAPE, shape)
        values |= dict.fromkeys(VALUES, math.prod(shape))
        if len(shape) == 3 and shape[1:] == (1, 1):
            values |= dict.fromkeys((*FEATURES, *CHANNELS), shape[0])
        elif len(shape) == 3:
            values |= dict.fromkeys(SIZE, shape[1] if shape[1] == shape[2] else shape[1:])
    if wanted.vocabulary is not None:
        values |= dict.fromkeys(VOCABULARY, wanted.vocabulary)
        values |= dict.fromkeys(LENGTH, shape[0] if shape else None)
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Signature:
    """The parameters of a factory that can be given by name; open: it takes any other name, too."""

    name: str
    parameters: Mapping[str, inspect.Parameter]
    open: bool = False

    @classmethod
    def of(cls, name: str, factory: Callable[..., Any]) -> Signature:
        """Of a class or a function; open where it can't be read."""
        try:
            parameters = inspect.signature(factory).parameters
        except (TypeError, ValueError):
            return cls(name, {}, open=True)
        kinds = {p.kind for p in parameters.values()}
        named = {
            key: p for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        return cls(name, named, inspect.Parameter.VAR_KEYWORD in kinds)

    def arguments(self, wanted: Wanted, place: str, how: str) -> dict[str, Any]:
        """By name: what the data say under the names that it has, and every option.

        how: an option is given, with {} for the word. Raises BnbenchError for an unknown option, and for a parameter
        that nothing gives.
        """
        values = known_values(wanted)
        arguments = {name: values[name] for name in self.parameters if name in values}
        for name, value in wanted.options.items():
            if name not in self.parameters and not self.open:
                guess = nearest(name, self.parameters)
                hint = f' Did you mean "{guess}"?' if guess else ""
                takes = f"It takes {', '.join(self.parameters) or 'no argument'}."
                raise BnbenchError(
                    f"{place}: {self.name} has no argument {name}.{hint}", takes, "leave it out."
                )
            arguments[name] = value
        missing = [
            name for name, p in self.parameters.items() if p.default is p.empty and name not in arguments
        ]
        if missing:
            raise BnbenchError(
                f"{place}: {self.name} needs {', '.join(missing)}, which nothing gives.",
                _why_missing(missing, wanted),
                f"{how.format(missing[0] + '=...')}; or a default in its signature.",
            )
        return arguments


def _why_missing(missing: list[str], wanted: Wanted) -> str:
    """What is given by the data, and under which names."""
    if set(missing) & {*CLASSES, *OUTPUTS} and wanted.num_classes is None and wanted.outputs is None:
        return "The number of classes comes from the data, or from --num-classes."
    known = ", ".join(dict.fromkeys(known_values(wanted))) or "nothing"
    return f"Known from the data, by these names: {known}."


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """For example "Net(num_classes=10, in_channels=3)"."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
