"""Private randomness: every stream has a name, and is derived from a seed and that name alone.

So the weights of a layer, the order of an epoch and its augmentation do not depend on which
variant asks, on what was drawn before, or on any global state.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *stream: object) -> int:
    """A 63-bit seed for the stream of that name, e.g. derive(3, "order", epoch)."""
    text = "/".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *stream: object) -> torch.Generator:
    """A CPU generator for the stream of that name (see `derive`)."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *stream))
