"""Group normalization: every sample over groups of channels (Wu & He 2018, arXiv 1803.08494)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.options import Affine, Eps
from bnbench.norms.steps import Steps

Groups = Annotated[
    Annotated[int, Field(gt=0)] | Literal["auto"],
    Field(description="number of groups, a divisor of the number of channels; auto: at most 32"),
]

MOST_GROUPS = 32
LEAST_CHANNELS = {1: 16, 2: 2}  # in a group; 32 groups and 16 channels are the paper's two settings


@norms.register("group", absorbs_bias=False, steps=Steps("features"))
def group(
    num_features: int,
    dim: int,
    *,
    groups: Groups = "auto",
    eps: Eps = 1e-5,
    affine: Affine = True,
) -> nn.Module:
    """Group normalization: every sample over groups of channels (groups: a number, or auto).

    auto: the largest divisor of C up to 32 that leaves at least 2 channels in a group for (N, C, H, W)
    (with 1 it would be instance normalization), 16 for (N, C), where a group has no positions to
    average over; where there is none, 1.
    Raises BnbenchError for a number that does not divide C, and for (N, C) one that leaves groups of
    a single value: the output would be beta, whatever comes in.
    """
    return nn.GroupNorm(number_of_groups(num_features, dim, groups), num_features, eps, affine)


def number_of_groups(
    num_features: int, dim: int, groups: int | Literal["auto"], *, alone: bool = False
) -> int:
    """The number of groups as a study gives it, checked, or for auto the one that `group` documents.

    alone: whether a group may be a single value of a sample, since other samples are normalized with it.
    """
    if groups == "auto":
        groups = _auto(num_features, dim)
    allowed = _divisors(num_features)
    if num_features % groups:
        raise BnbenchError(
            f"norm.groups={groups} does not divide the {num_features} channels. {_fix(allowed)}"
        )
    if dim == 1 and groups == num_features and not alone:
        raise BnbenchError(
            f"norm.groups={groups} leaves 1 of the {num_features} channels in a group: normalized with "
            f"itself, one value is always beta. {_fix(allowed[:-1])}"
        )
    return groups


def _auto(num_features: int, dim: int) -> int:
    most = max(1, min(MOST_GROUPS, num_features // LEAST_CHANNELS[dim]))
    return max(divisor for divisor in _divisors(num_features) if divisor <= most)


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _fix(allowed: list[int]) -> str:
    if not allowed:
        return "Use another norm."
    return f"Allowed: {', '.join(map(str, allowed))}. Or groups: auto."
