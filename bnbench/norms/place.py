"""The position of a layer in a network, for the few normalizers that depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["trunk", "branch", "branch_end", "query_key", "head"]


@dataclass(frozen=True)
class Place:
    """A place in a network, as `bnbench.models.layers` knows it.

    role: "trunk" (all of a plain network, the stem of a residual one), "branch" (inside a residual
    branch), "branch_end" (the last of a branch: no activation follows, but the sum), "query_key" (the
    queries or keys of attention), "head" (the classifier). branches: residual branches in the whole
    network, 0 in a plain one. branch_layers: layers of weights in each branch. activation: of the
    network, as its model calls it.
    reads_data: whether the layer of weights here is the network's first, so that no activation comes before it.
    attention: whether the network has queries and keys.
    """

    role: Role = "trunk"
    branches: int = 0
    branch_layers: int = 0
    activation: str = "relu"
    reads_data: bool = False
    attention: bool = False


PLAIN = Place()
"""Anywhere in a plain network."""
