"""Normalizations in whose place no other can stand, whatever it is; found before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bnbench.network.convert.carrying import tensor_of
from bnbench.network.convert.targets import CannotStandError
from bnbench.network.sites.norm_site import NormSite


def refuse_vectors(site: NormSite, old: nn.Module) -> None:
    """A gamma that varies along more than the channels fits no layer with one value a channel."""
    found = site.behaviour
    for name in filter(None, (found.gamma, found.beta)):
        value = tensor_of(old, name)
        if value.numel() not in (1, found.num_features):
            raise CannotStandError(
                f"its {name} {tuple(value.shape)} varies along more than the {found.num_features} values of axis "
                f"{found.channel_axis}, and the new layer has one a channel"
            )
    rank = len(site.shapes[0]) if site.shapes else 0
    vectors = [tensor_of(old, name) for name in (found.gamma, found.beta) if name]
    by_channel = any(value.numel() > 1 and sum(size > 1 for size in value.shape) == 1 for value in vectors)
    if found.kind in ("layer", "rms") and rank > 2 and len(found.axes) > 1 and not by_channel:
        single = all(value.numel() == 1 for value in vectors)
        gamma = (
            f"with {'one gamma for all' if single else 'a gamma for every value'}"
            if vectors
            else "without a gamma"
        )
        raise CannotStandError(
            f"it normalizes over axes {found.axes} {gamma}, and which of the axes holds the channels is not known"
        )


def used_elsewhere(model: nn.Module, sites: Sequence[NormSite]) -> dict[int, str]:
    """Parameters that modules other than the sites have, too, and the name of one such module."""
    names = {name for site in sites if site.module is not None for name in site.names}
    found: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if name in names or any(name.startswith(f"{other}.") for other in names if other):
            continue
        found |= {id(value): name for value in module.parameters(recurse=False)}
    return found


def refuse_shared_gamma(model: nn.Module, site: NormSite, shared: dict[int, str]) -> None:
    """1 + gamma becomes gamma: where another module reads the same numbers, that is another network."""
    found = site.behaviour
    if found.gamma and found.gamma_offset:
        other = shared.get(id(tensor_of(model.get_submodule(site.name), found.gamma)))
        if other is not None:
            raise CannotStandError(
                f"it multiplies by {found.gamma_offset:g} + {found.gamma}, and {other or 'the root'} has the same "
                "parameter"
            )


def what_follows(site: NormSite, old: nn.Module) -> dict[str, nn.Module]:
    """What a fused layer does after it normalizes. Raises CannotStandError for what is no module of its own."""
    then: dict[str, nn.Module] = {}
    for name in site.behaviour.includes:
        module = old._modules.get(name)
        if module is None:
            raise CannotStandError(
                f"it applies {name} in its own forward, which is no module that could be kept"
            )
        then[name] = module
    return then
