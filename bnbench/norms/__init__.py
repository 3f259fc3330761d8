"""The normalizers. To add one: one file here, with one factory registered by name.

A factory is `factory(num_features, dim, **options) -> torch.nn.Module`:
    num_features: channels C of the input. dim: 1 for inputs (N, C), 2 for (N, C, H, W); `verify` also
        asks for 3, (N, C, D, H, W).
    keyword-only parameters: the options that a study may set (`norm: {name: batch, eps: 1e-3}`).
Facts given to `register`: see `NormFacts`.

`BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d`, our own layer, are importable from here; they load torch on
first use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnbench.base.registry import Registry

if TYPE_CHECKING:
    from bnbench.norms.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "NormFacts", "norms"]


@dataclass(frozen=True)
class NormFacts:
    """Facts on a normalizer that models need; most concern the few that change more than their own place.

    absorbs_bias: the layer takes out whatever is added to a channel (it subtracts a mean per channel), so that a
        bias right before it can't have any effect: models leave that bias out. None: a trial of the layer decides.
    includes_activation: the layer is its own activation; the block adds no other.
    takes_place: the factory is called as `factory(num_features, dim, place, **options)` (place.py).
    residual_only: the layer does something in residual networks alone; plain ones refuse it.
    queries_and_keys: it acts on the queries and keys of attention alone; networks without attention refuse it.
    weights: a function `(layer, place) -> layer` through which every linear and convolution layer goes.
    steps: a `Steps` (steps.py), where `bnbench explain` can show the layer's numbers.
    takes_mask: forward(x, mask) leaves padding out, mask (N,) or (N, ...), True where valid. None: forward has an
        argument of that name.
    whole_sequences: over tokens (N, T, C) it is given (N, C, T), as its parts are made of samples, not of positions.
    not_over_tokens: why it can't be used over tokens, and the fix; empty where it can.
    """

    absorbs_bias: bool | None = None
    includes_activation: bool = False
    takes_place: bool = False
    residual_only: bool = False
    queries_and_keys: bool = False
    weights: Callable[[Any, Any], Any] | None = None
    steps: Any = None
    takes_mask: bool | None = None
    whole_sequences: bool = False
    not_over_tokens: tuple[str, str] | tuple[()] = ()


norms = Registry("norm", __name__, NormFacts)


def __getattr__(name: str) -> Any:
    if name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
        from bnbench.norms import batch_norm

        return getattr(batch_norm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
