"""The fairness rule: every variant has the biases that do something, and no other.

Where a normalizer takes out whatever is added to a channel, a bias right before it can't do anything: it goes. Where
there is no such normalizer, the bias comes back. So `none` is a full network, and no variant carries dead weights.

- The blocks of `bnbench.models.layers` ask `needs_bias`. A user's network asks `norm.absorbs_bias`.
- Whether a normalizer absorbs a bias is declared (`NormFacts.absorbs_bias`); where nothing is declared, the layer is
  tried (`absorbs_bias`).
- Where a built network lacks a bias that another variant has, its runs carry a caution (`bnbench.network.biases`).
- The same weight decay for all: what a normalizer owns is spared in every variant, or in none (`owner.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from bnbench.base.files import key_text
from bnbench.base.process_state import seeded
from bnbench.base.user_code import raise_interrupt
from bnbench.norms import behaviour
from bnbench.norms.place import Place

if TYPE_CHECKING:
    from bnbench.base.registry import Entry

#: The layer is tried with that many channels, which groups of any usual number divide, on both kinds of input.
CHANNELS = 64
SHAPES = {1: (8, CHANNELS), 2: (8, CHANNELS, 4, 4)}


def needs_bias(absorbed: bool, norm_position: Literal["before", "after"]) -> bool:
    """Whether a layer of weights needs a bias of its own. norm_position: before or after the activation."""
    return not (absorbed and norm_position == "before")


def absorbs_bias(entry: Entry, options: Mapping[str, Any]) -> bool:
    """Whether a bias right before this normalizer can't have any effect: as declared, or determined by a trial."""
    declared: bool | None = entry.facts.absorbs_bias
    if declared is not None:
        return declared
    return _tried(entry, _Options(options))


class _Options:
    """Options as the key of a cache."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self._key = key_text(values)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Options) and other._key == self._key


@lru_cache(256)
def _tried(entry: Entry, options: _Options) -> bool:
    """Whether it absorbs a bias on every kind of input that it takes, and takes one."""
    answers = [_absorbs(entry, options.values, dim) for dim in SHAPES]
    return True in answers and False not in answers


def _absorbs(entry: Entry, options: Mapping[str, Any], dim: int) -> bool | None:
    """The same for inputs of one kind; None where it does not take them."""
    place = (Place(),) if entry.facts.takes_place else ()
    try:
        with seeded(0, behaviour.CPU):
            layer = entry.factory(CHANNELS, dim, *place, **options)
    except BaseException as error:  # what is wrong is reported where the network is built
        raise_interrupt(error)
        return None
    if not isinstance(layer, nn.Module) or not behaviour.takes(layer, SHAPES[dim]):
        return None
    return behaviour.absorbs_bias(layer, SHAPES[dim])
