"""Proofs 1 and 4: every normalization is accounted for, and so is every parameter."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bnbench.base.network_records import Proof
from bnbench.network.convert.carrying import tensor_of
from bnbench.network.convert.records import Replaced, Replacement
from bnbench.network.sites.norm_site import NormSite

#: What `Carried` says of a vector that the new layer has as the old one had it.
_CARRIED, _NEW, _SPREAD = "carried", "new", "spread"


def count_sites(found: Sequence[NormSite], done: Replacement, before: nn.Module) -> Proof:
    """Found = converted + left, each left one with a reason; and the network says the same.

    before: the network as it was. Every name of a converted site must lead to its new layer, no old layer may stand
    anywhere, and every name of a site that was left must lead to a layer of the class that stood there.
    """
    changed = [item for item in done.sites if item.action == "converted"]
    left = [item for item in done.sites if item.action != "converted"]
    wrong = [f"{item.site.name}: left without a reason" for item in left if not item.reason]
    standing = dict(done.model.named_modules(remove_duplicate=False))
    names = {id(module): name for name, module in standing.items()}
    for item in changed:
        wrong += [
            f"{name or 'the root'}: the new layer does not stand there"
            for name in item.site.names
            if standing.get(name) is not item.new
        ]
        if id(item.old) in names:
            wrong.append(f"{names[id(item.old)]}: the old layer still stands there")
        everywhere = [name for name, module in standing.items() if module is item.new]
        wrong += [f"{name}: the new layer of {item.site.name} stands there, too"
                  for name in everywhere if name not in item.site.names]  # fmt: skip
    originals = dict(before.named_modules(remove_duplicate=False))
    for item in left:
        if item.site.module is None:
            continue
        wrong += [
            f"{name}: another layer stands there, though it was left"
            for name in item.site.names
            if type(standing.get(name)) is not type(originals.get(name))
        ]
    counted = len({site.name for site in found}) == len(found) == len(changed) + len(left)
    value = f"{len(found)} = {len(changed)} + {len(left)}"
    passed = counted and not wrong
    text = "found = converted + left, each left one with its reason, and each name leads to its layer"
    return Proof("all norms counted", passed, value, text if passed else _first(wrong, "the numbers differ"))


def count_parameters(before: nn.Module, done: Replacement) -> Proof:
    """The count after is the count before, plus and minus what the table says of each site."""
    old, new = _count(before.parameters()), _count(done.model.parameters())
    came, went = explained(before, done)
    expected = old + sum(came.values()) - sum(went.values())
    plus = "".join(f" + {number:,} {what}" for what, number in came.items() if number)
    minus = "".join(f" - {number:,} {what}" for what, number in went.items() if number)
    value = f"{old:,}{plus}{minus} = {expected:,}"
    if expected == new:
        return Proof(
            "parameters explained", True, value, "parameters before, what came, what went, and after"
        )
    return Proof(
        "parameters explained", False, value, f"the network has {new:,}: {new - expected:+,} unexplained"
    )


def explained(before: nn.Module, done: Replacement) -> tuple[dict[str, int], dict[str, int]]:
    """What came and what went, by the table's words alone; a parameter that two layers share counts once."""
    came = dict.fromkeys(("biases given back", "gamma", "beta", "of new layers"), 0)
    went = dict.fromkeys(("biases taken out", "gamma", "beta", "of old layers", "of activations"), 0)
    inside = {id(module) for item in done.sites if item.old is not None for module in item.old.modules()}
    elsewhere = {
        id(value) for module in done.model.modules() if id(module) not in inside
        for value in module.parameters(recurse=False)
    }  # fmt: skip
    seen: set[int] = set()
    for item in done.sites:
        if item.old is None or item.new is None:
            continue
        roles = {item.site.behaviour.gamma: "gamma", item.site.behaviour.beta: "beta"}
        words = {"gamma": item.carried.gamma, "beta": item.carried.beta}
        for name, value in item.old.named_parameters():
            role = roles.get(name, "of old layers")
            word = words.get(role, "")
            kept = word == _CARRIED or name.partition(".")[0] in item.then
            if id(value) in seen or kept:
                seen.add(id(value))
                continue
            seen.add(id(value))
            if id(value) not in elsewhere or word == _SPREAD:
                went[role] += value.numel()
        _came(item, words, came)
        for bias in item.biases:
            came["biases given back"] += bias.size if bias.action == "given back" else 0
            went["biases taken out"] += bias.size if bias.action == "taken out" else 0
        went["of activations"] += item.activation_parameters
    return came, went


def _came(item: Replaced, words: dict[str, str], came: dict[str, int]) -> None:
    """Parameters of a new layer that no old one had."""
    assert item.new is not None
    assert item.old is not None
    names = {item.roles.gamma: "gamma", item.roles.beta: "beta"}
    olds = {"gamma": item.site.behaviour.gamma, "beta": item.site.behaviour.beta}
    for name, value in item.new.named_parameters():
        role = names.get(name, "of new layers")
        if name.partition(".")[0] in item.then:
            continue
        word = words.get(role, _NEW)
        was_buffer = word == _CARRIED and not isinstance(tensor_of(item.old, olds[role]), nn.Parameter)
        if word.startswith((_NEW, _SPREAD)) or was_buffer:
            came[role] += value.numel()


def _count(parameters: object) -> int:
    found: dict[int, Tensor] = {id(value): value for value in parameters}  # type: ignore[attr-defined]
    return sum(value.numel() for value in found.values())


def _first(wrong: Sequence[str], otherwise: str) -> str:
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(wrong[:3]) + more if wrong else otherwise
