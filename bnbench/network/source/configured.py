"""Inputs of networks of transformers, which are given by name: what their configuration says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from bnbench.network.source.inputs import SIDES, TOKENS, One, default_inputs, inputs_of


def is_configured(model: nn.Module) -> bool:
    """Whether it is a network of transformers."""
    return hasattr(model, "config") and isinstance(getattr(model, "main_input_name", None), str)


def named(model: nn.Module, arguments: Sequence[One]) -> tuple[One, ...]:
    """The arguments with the names that such a network has for them; of any other network as they are."""
    if not is_configured(model):
        return tuple(arguments)
    config: Any = model.config
    names = [str(model.main_input_name)]
    tokens = arguments[0].vocabulary is not None
    if tokens and getattr(config, "is_encoder_decoder", False) and len(arguments) == 1:
        arguments = (*arguments, arguments[0])
    names += ["decoder_input_ids"] * (len(arguments) - 1)
    return tuple(replace(one, name=name) for one, name in zip(arguments, names, strict=True))


def of_configuration(model: nn.Module) -> Iterator[tuple[tuple[One, ...], str]]:
    """Tokens or images, as the configuration has them; else what the first layer takes."""
    config: Any = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    vocabulary = getattr(text, "vocab_size", None)
    if model.main_input_name == "input_ids" and isinstance(vocabulary, int):
        longest = getattr(text, "max_position_embeddings", None)
        length = min(TOKENS, longest) if isinstance(longest, int) and longest > 0 else TOKENS
        yield named(model, (One((length,), vocabulary),)), "the configuration's tokens"
        return
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if isinstance(channels, int) and isinstance(size, int | list | tuple):
        sides = (size, size) if isinstance(size, int) else tuple(size)[-2:]
        yield named(model, (One((channels, *sides)),)), "the configuration's images"
    elif isinstance(channels, int):
        for side in SIDES:
            yield named(model, (One((channels, side, side)),)), "the configuration's channels"
    else:
        for arguments, why in default_inputs(model):
            yield named(model, arguments), why


__all__ = ["inputs_of", "is_configured", "named", "of_configuration"]
