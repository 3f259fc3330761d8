"""Tokens and their padding: which positions of a batch of sequences hold data.

A batch of tokens is (N, T) int64. Where sequences differ in length the shorter ones end in `PAD`; where nothing is
padded, as in a language model's windows, no token is called that, and 0 is a token like any other (`Sizes.masked` tells
the two apart). A batch of sequences of numbers is (N, T, C + 1) float32: its last column is 1 at a position that holds
data and 0 at padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: The token of padding.
PAD = 0


def valid_tokens(tokens: Tensor) -> Tensor:
    """(..., T) bool: True where a position of padded tokens (..., T) holds data."""
    return tokens != PAD


def split_valid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences of numbers (..., T, C + 1) as their numbers (..., T, C) and their mask (..., T) bool, True where valid.

    The mask is the last column, which is 1 or 0 and is never normalised.
    """
    return x[..., :-1], x[..., -1] > 0.5
