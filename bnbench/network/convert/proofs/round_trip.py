"""Proof 3: there and back again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import torch
from torch import Tensor, nn

from bnbench.base.network_records import Proof
from bnbench.network.convert.carrying import statistics_in
from bnbench.network.convert.copying import copied
from bnbench.network.convert.placed import norm_of
from bnbench.network.convert.records import Choices, Replaced, Replacement, inside
from bnbench.network.convert.replacement import replace_norms
from bnbench.network.sites.norm_site import NormSite
from bnbench.norms import norms
from bnbench.norms.norm_layer import NormLayer
from bnbench.norms.renorm import BatchRenorm

NAME = "there and back"
_BATCH = ("batch", "sync")
#: By the kind of the old layer: what stands there again in the end.
_BACK = {
    **{"batch": "batch", "sync": "batch", "frozen": "frozen", "instance": "instance"},
    **{"group": "group", "layer": "layer", "rms": "rms"},
}


def comes_back(model: nn.Module, sites: Sequence[NormSite], done: Replacement, norm: NormLayer) -> Proof:
    """batch -> batch_custom -> batch restores the state_dict bit for bit; so does all that the new layers can hold.

    model: as it was. done: its conversion. What a new layer can hold is read from its own state_dict, and each entry of
    the old one that it has no place for must be in the table.
    """
    mine = [site for site in sites if site.behaviour.kind in _BATCH and not site.refused]
    wrong: list[str] = []
    count = 0
    original = tensors_of(model)
    if mine:
        custom = NormLayer(norms.get("batch_custom"))
        there = replace_norms(copied(model), mine, custom, Choices("batch"))
        returned = return_from(there)
        changed = [item for item in there.sites if item.action == "converted"]
        names = renamed(changed, returned, original)
        back = tensors_of(returned)
        wrong += differing(original, {old: back[new] for old, new in names.items() if new in back}, original)
        new = set(back) - set(names.values())
        wrong += [f"{key} is new" for key in sorted(new) if not key.endswith("num_batches_tracked")]
        count = len(original)
    converted = [item for item in done.sites if item.action == "converted"]
    lost: set[str] = set()
    if converted:
        held, lost = can_hold(converted, original)
        returned = return_from(Replacement(copied(done.model), done.sites))
        names = renamed(converted, returned, original)
        back = tensors_of(returned)
        back = {old: back[new] for old, new in names.items() if new in back}
        wanted = original | {key: value for key, value in gammas(converted, original).items() if key in back}
        wrong += differing(wanted, back, held, in_another_form(converted))
        wrong += [f"{key} is lost and not in the table" for key in sorted(lost - listed(converted, original))]
        count = max(count, len(held))
    if not mine and not converted:
        return Proof(NAME, None, None, "no norm was converted")
    value = f"{count - len(wrong)} of {count} tensors" + (f", {len(lost)} lost and listed" if lost else "")
    through = f"through {norm.entry.name}" if converted else "nothing else was converted"
    text = ("batch -> batch_custom -> batch restores every bit; " if mine else "") + (
        f"{through} comes back what it can hold" if converted else through
    )
    if wrong:
        text = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return Proof(NAME, not wrong, value, text)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by every name, those that are not kept in a state_dict, too."""
    parameters = model.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(model.named_buffers(remove_duplicate=False))}


def return_from(there: Replacement) -> nn.Module:
    """The old kinds of layers in the place of the new ones, in the model itself, and no bias that came with these."""
    model = there.model
    converted = [item for item in there.sites if item.action == "converted"]
    for name in dict.fromkeys(_BACK.values()):
        if sites := [as_new_site(item) for item in converted if _back(item) == name]:
            model = replace_norms(model, sites, NormLayer(norms.get(name)), Choices("all", "keep")).model
    for item in converted:
        for bias in item.biases:
            if bias.action == "given back":
                model.get_submodule(bias.producer).bias = None  # type: ignore[assignment]
    return model


def _back(item: Replaced) -> str:
    """What stands there in the end: a layer that keeps as much as the old one."""
    counts = "num_batches_tracked" in item.old_roles.statistics
    return "batch" if counts else _BACK[item.site.behaviour.kind]


def as_new_site(item: Replaced) -> NormSite:
    """The site with the new layer in it; it is looked at as its old kind, so that the old settings come back."""
    assert item.new is not None
    roles = item.roles
    statistics = [roles.statistics.get(name, "") for name in ("running_mean", "running_var")]
    behaviour = replace(
        item.site.behaviour,
        gamma=roles.gamma,
        beta=roles.beta,
        gamma_offset=roles.offset,
        includes=item.then,
        mean=statistics[0],
        var=statistics[1],
    )
    return replace(item.site, module=item.new, behaviour=behaviour)


def can_hold(
    converted: Sequence[Replaced], original: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Of the old tensors, those that the new layers have a place for, and the names of the others.

    Everything outside the converted layers is held. In them: gamma and beta of the same size, running statistics of
    the same meaning.
    """
    lost: set[str] = set()
    for item in converted:
        assert item.old is not None
        assert item.new is not None
        for name, value in (*item.old.named_parameters(), *item.old.named_buffers()):
            if name.partition(".")[0] not in item.then and not _holds(item, name, value):
                lost |= {inside(prefix, name) for prefix in item.site.names}
        lost |= gone_beside(item, original)
    return {key: value for key, value in original.items() if key not in lost}, lost & set(original)


def _holds(item: Replaced, name: str, value: Tensor) -> bool:
    """Whether the new layer has a place for a tensor of the old one: of the same size, and of the same meaning."""
    assert item.new is not None
    new = norm_of(item.new)
    sizes = {own: tensor.numel() for own, tensor in (*new.named_parameters(), *new.named_buffers())}
    statistic = next((key for key, own in item.old_roles.statistics.items() if own == name), None)
    if statistic is not None:
        means_other = bool(getattr(new, "other_statistics", ""))
        return not means_other and sizes.get(statistics_in(new).get(statistic, "")) == value.numel()
    roles = {item.old_roles.gamma: item.roles.gamma, item.old_roles.beta: item.roles.beta}
    return bool(roles.get(name)) and sizes[roles[name]] == value.numel()


def gone_beside(item: Replaced, original: Mapping[str, Tensor]) -> set[str]:
    """What the table says went with a site: the bias before it, the parameters of the activation after it."""
    prefixes = [f"{bias.producer}.bias" for bias in item.biases if bias.action == "taken out"]
    prefixes += [f"{item.activation}."] if item.activation_parameters else []
    return {key for key in original if key.startswith(tuple(prefixes))} if prefixes else set()


def listed(converted: Sequence[Replaced], original: Mapping[str, Tensor]) -> set[str]:
    """The tensors that the table says are lost."""
    beside = {key for item in converted for key in gone_beside(item, original)}
    return beside | {
        inside(prefix, text.partition(":")[0])
        for item in converted
        for prefix in item.site.names
        for text in item.carried.lost
    }


def renamed(
    converted: Sequence[Replaced], returned: nn.Module, original: Mapping[str, Tensor]
) -> dict[str, str]:
    """From the old names to those in the network that came back: its layers have torch's names."""
    names = {key: key for key in original}
    for item in converted:
        torchs = {item.old_roles.gamma: "weight", item.old_roles.beta: "bias"}
        torchs |= {own: key for key, own in item.old_roles.statistics.items()}
        for prefix in item.site.names:
            names |= {inside(prefix, own): inside(prefix, new) for own, new in torchs.items() if own}
    return names


def gammas(converted: Sequence[Replaced], original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where a layer multiplies by 1 + gamma: what comes back in one that does not, rounded at each sum."""
    found: dict[str, Tensor] = {}
    for item in converted:
        old, new = item.old_roles.offset, item.roles.offset
        if item.old_roles.gamma and item.roles.gamma and (old or new):
            for key in (inside(prefix, item.old_roles.gamma) for prefix in item.site.names):
                there = original[key].detach() + (old - new) if old != new else original[key].detach()
                found[key] = there + new if new else there
    return found


def in_another_form(converted: Sequence[Replaced]) -> set[str]:
    """Tensors that a new layer holds after arithmetic, which rounds there and back: a variance with eps in it."""
    found: set[str] = set()
    for item in converted:
        names: list[str] = []
        if item.old is not None and isinstance(norm_of(item.new or item.old), BatchRenorm):
            names += [own for key, own in item.old_roles.statistics.items() if key == "running_var"]
        found |= {inside(prefix, name) for prefix in item.site.names for name in names}
    return found


def differing(
    original: Mapping[str, Tensor],
    back: Mapping[str, Tensor],
    held: Mapping[str, Tensor],
    rounded: Set[str] = frozenset(),
) -> list[str]:
    """What of the held tensors did not come back bit for bit; of the rounded ones, to the last digits."""
    wrong: list[str] = []
    for key in held:
        if key not in back:
            wrong.append(f"{key} did not come back")
        elif key in rounded and original[key].shape == back[key].shape and not original[key].is_meta:
            if not torch.allclose(original[key], back[key], rtol=1e-5, atol=1e-6):
                wrong.append(f"{key} came back with other numbers")
        elif not same_bits(original[key], back[key]):
            wrong.append(f"{key} came back with other numbers")
    return wrong


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether they have the same numbers, NaN included; of the meta device, the same shape and type."""
    if one.dtype != other.dtype or one.numel() != other.numel():
        return False
    if one.is_meta or other.is_meta:
        return one.is_meta and other.is_meta
    return torch.equal(one.detach().reshape(-1), other.detach().reshape(-1)) or bool(
        (one.detach().isnan() == other.detach().isnan()).all()
        and torch.equal(one.detach().nan_to_num(), other.detach().nan_to_num())
    )
