"""Inputs on which a folded network is compared: random ones, and those that make rounding and padding visible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.user_code import first_line, raise_interrupt

#: From a number of samples to what a network is called with: a tensor, a tuple by position, a mapping by name.
Inputs = Callable[[int], Any]
#: Inputs of the comparison in the network's own precision, and how many run at once.
RANDOM, AT_ONCE = 64, 16


@dataclass(frozen=True)
class Trial:
    """A name for people, and what the network is called with. needed: a network that refuses it is an error."""

    name: str
    batch: Any
    needed: bool = False


def adversarial(inputs: Inputs) -> list[Trial]:
    """Random values, one sample, a large offset, a huge scale, a constant, zeros, and an image that is no square."""
    few = inputs(3)
    trials = [Trial("random", few, needed=True), Trial("one sample", inputs(1))]
    if not _has_real(few):
        return trials
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "large offset": lambda x: x + 100,
        "huge scale": lambda x: x * 1e4,
        "constant": lambda x: torch.full_like(x, 0.5),
        "zeros": torch.zeros_like,
    }
    trials += [Trial(name, change_real(few, change)) for name, change in changes.items()]
    narrow = change_real(few, lambda x: x[..., : x.shape[-1] * 3 // 4] if x.dim() >= 4 else x)
    return [*trials, Trial("not square", narrow)]


def random_batches(inputs: Inputs, number: int = RANDOM) -> list[Any]:
    """Random inputs, drawn at once and then split into batches."""
    drawn = inputs(number)
    return [change_real(drawn, _part(start, number), every=True) for start in range(0, number, AT_ONCE)]


def _part(start: int, number: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x[start : start + AT_ONCE] if x.dim() and len(x) == number else x


def change_real(value: Any, change: Callable[[Tensor], Tensor], *, every: bool = False) -> Any:
    """The same inputs with every real tensor changed; every: all tensors, tokens too."""
    if isinstance(value, Tensor):
        return change(value) if every or value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: change_real(item, change, every=every) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(change_real(item, change, every=every) for item in value)
    return value


def _has_real(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point()
    items = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    )
    return any(map(_has_real, items))


def like(example: Tensor) -> Inputs:
    """Inputs as one batch has them: normal numbers with its mean and spread, or its tokens in another order."""

    def inputs(samples: int) -> Tensor:
        draw = torch.Generator().manual_seed(0)
        values = example.detach().cpu()
        shape = (samples, *values.shape[1:])
        if not values.is_floating_point():
            flat = values.reshape(-1)
            return flat[torch.randint(flat.numel(), shape, generator=draw)]
        wide = values.double()
        spread = wide.std() if values.numel() > 1 else torch.tensor(1.0)
        drawn = torch.randn(shape, generator=draw, dtype=torch.float64)
        return (wide.mean() + drawn * (spread if spread > 0 else 1)).to(values.dtype)

    return inputs


def as_colours(batch: Any) -> Tensor | None:
    """Gray images (N, 1, H, W) as (N, 3, H, W); None for what is no gray image."""
    if isinstance(batch, Tensor) and batch.dim() == 4 and batch.shape[1] == 1:
        return batch.expand(-1, 3, -1, -1).contiguous()
    return None


def fault_on(model: nn.Module, batch: Any, *, itself: bool = False) -> str:
    """What a network raises on a batch, "" where it takes it: a copy in inference mode, or itself as it is."""
    try:
        with torch.no_grad():
            call(model if itself else deepcopy(model).eval(), batch)
    except BaseException as error:  # whatever a user's network raises
        raise_interrupt(error)
        return first_line(error)
    return ""


def call(model: Callable[..., Any], batch: Any) -> Any:
    """The network's output for one tensor, a tuple by position, or a mapping by name."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, (tuple, list)):
        return model(*batch)
    return model(batch)
