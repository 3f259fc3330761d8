"""Another normalizer in the place of those of somebody's network. No proofs: see `conversion`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from bnbench.network.convert.activations import activation_to_remove, gives_input_back, must_copy
from bnbench.network.convert.biases import BiasRule, change_biases, takes_bias_out
from bnbench.network.convert.carrying import (
    Roles,
    Ties,
    carry,
    like,
    move_attributes,
    move_hooks,
    roles_in,
    roles_of,
)
from bnbench.network.convert.fused import without_fused_kernel
from bnbench.network.convert.keeping import assumed_shape, settings_of
from bnbench.network.convert.placed import arranged_shape
from bnbench.network.convert.records import (
    Choices,
    Replaced,
    Replacement,
    not_chosen,
)
from bnbench.network.convert.references import References
from bnbench.network.convert.refusals import refuse_shared_gamma, refuse_vectors, used_elsewhere, what_follows
from bnbench.network.convert.targets import (
    CannotStandError,
    Plan,
    Targets,
    placed,
    small_shape,
)
from bnbench.network.sites.behaviour import behaviour_of
from bnbench.network.sites.norm_site import Neighbour, NormSite
from bnbench.norms.norm_layer import NormLayer

Prepared = tuple[dict[str, nn.Module], Neighbour | str | None, bool, tuple[nn.Module, Plan, dict[str, Any]]]


def replace_norms(
    model: nn.Module, sites: Sequence[NormSite], norm: NormLayer, choices: Choices | None = None
) -> Replacement:
    """Put the normalizer in the place of the sites' layers, in the model itself; what can't change is left as it is.

    sites: of `find_norm_sites`, for this model or one that it is a copy of. norm: with the options that the user has
    set alone: eps, momentum, affine and the like are the old layer's where they are not set. Each layer's gamma, beta,
    running statistics, hooks, flags, device and dtype carry over; the biases before it follow the fairness rule.
    """
    choices = choices or Choices()
    targets, ties, references = Targets(norm), Ties(), References(model)
    impossible = _impossible(model, sites, targets, choices)
    done: list[Replaced] = []
    for site in sites:
        if reason := not_chosen(site, choices.source):
            done.append(Replaced(site, "left", reason))
            continue
        if site.refused:
            done.append(Replaced(site, "refused", site.refused))
            continue
        if reason := impossible.get(site.name, ""):
            done.append(Replaced(site, "refused", reason))
            continue
        try:
            replaced = _replace(model, site, targets, ties, choices)
        except CannotStandError as error:
            done.append(Replaced(site, "refused", str(error)))
            continue
        assert replaced.old is not None
        assert replaced.new is not None
        references.exchange(replaced.old, replaced.new)
        if "" in site.names:
            model = replaced.new
        done.append(replaced)
    if any(item.action == "converted" for item in done):
        without_fused_kernel(model)
    return Replacement(model, tuple(done))


def _impossible(
    model: nn.Module, sites: Sequence[NormSite], targets: Targets, choices: Choices
) -> dict[str, str]:
    """Why a site of 1 + gamma stays, by its name: another module, which may be a site that stays, has its gamma."""
    chosen = {site.name: site for site in sites if not not_chosen(site, choices.source) and not site.refused}
    shifted = [site for site in chosen.values() if site.behaviour.gamma and site.behaviour.gamma_offset]
    found: dict[str, str] = {}
    stay = {site.name for site in chosen.values() if shifted and _stays(model, site, targets)}
    while shifted:
        shared = used_elsewhere(model, [site for name, site in chosen.items() if name not in stay])
        before = len(stay)
        for site in (site for site in shifted if site.name not in stay):
            try:
                refuse_shared_gamma(model, site, shared)
            except CannotStandError as error:
                found[site.name] = str(error)
                stay.add(site.name)
        if len(stay) == before:
            break
    return found


def _stays(model: nn.Module, site: NormSite, targets: Targets) -> bool:
    """Whether no layer of the targets can stand there. Nothing is changed."""
    try:
        _prepared(model.get_submodule(site.name), site, targets)
    except CannotStandError:
        return True
    return False


def _replace(model: nn.Module, site: NormSite, targets: Targets, ties: Ties, choices: Choices) -> Replaced:
    """Raises CannotStandError before anything is changed."""
    old, norm = model.get_submodule(site.name), targets.norm
    then, activation, linear, (layer, plan, kept) = _prepared(old, site, targets)
    dropped = then.pop(activation) if isinstance(activation, str) else None
    shape = small_shape((site.shapes or (assumed_shape(site, old),))[0], site.behaviour.channel_axis)
    copies = not then and gives_input_back(placed(layer, plan, {}, False), shape) and must_copy(site)
    before = site.producer if site.producer and site.producer.kind == "module" else None
    # of this network, which may be a copy in another dtype of the one where the site was found
    like(layer, old, model.get_submodule(before.name) if before else None, model)
    roles = roles_in(site.behaviour, old)
    found = _new_roles(layer, plan, norm, site.behaviour.num_features, shape)
    new_roles = _without_beta(old, layer, roles, found)
    carried = carry(old, roles, layer, new_roles, ties)
    new = _stand(layer, plan, then, copies, old)
    moved, lost = move_attributes(old, new, site.behaviour.includes)
    carried.moved += [*move_hooks(old, new), *moved]
    carried.lost += lost + _lost_settings(site, old, kept, norm)
    if linear:
        carried.notes.append(f"no activation follows, so that {norm.entry.name} has none of its own here")
    for name, _ in dropped.named_parameters(str(activation)) if dropped is not None else ():
        carried.lost.append(f"{name}: the new layer is its own activation")
    put(model, site, new)
    trained = carried.statistics.startswith("carried") and _was_trained(old)
    rule = BiasRule(
        choices.biases, takes_bias_out(site), norm.absorbs_bias, None if trained else choices.seed
    )
    item = Replaced(site, "converted", "", old, new, carried, kept=kept, old_roles=roles, roles=new_roles)
    item = replace(item, biases=change_biases(model, site, rule), then=tuple(then))
    if isinstance(activation, Neighbour):
        return replace(
            item, activation=activation.name, activation_parameters=_take_out(model, activation.name)
        )
    return replace(item, activation=activation or "")


def _prepared(old: nn.Module, site: NormSite, targets: Targets) -> Prepared:
    """What follows in the old layer, the activation whose place the new one takes, whether it has none, and the new
    layer itself. Raises CannotStandError.
    """
    refuse_vectors(site, old)
    then = what_follows(site, old)
    activation = activation_to_remove(site, targets.norm, then)
    linear = activation is None and targets.norm.includes_activation
    return then, activation, linear, targets.make(site, old, linear)


def _new_roles(layer: nn.Module, plan: Plan, norm: NormLayer, channels: int, shape: tuple[int, ...]) -> Roles:
    """By names for bnbench's own; for another's by what they do, where a trial finds that."""
    if not norm.entry.factory.__module__.startswith("bnbench.norms.") or norm.entry.plugin:
        try:
            found = behaviour_of(layer, arranged_shape(shape, plan.layout))
        except ValueError:
            found = None
        if found is not None and found.kind != "other":
            return roles_in(found, layer)
    return roles_of(layer, channels)


def _without_beta(old: nn.Module, layer: nn.Module, roles: Roles, new: Roles) -> Roles:
    """A batch norm that learns a gamma and no beta is followed by one like it."""
    is_batch = isinstance(old, nn.modules.batchnorm._BatchNorm) and isinstance(
        layer, nn.modules.batchnorm._BatchNorm
    )
    if is_batch and roles.gamma and not roles.beta and new.beta:
        layer.register_parameter(new.beta, None)
        return replace(new, beta="")
    return new


def _stand(
    layer: nn.Module, plan: Plan, then: dict[str, nn.Module], copies: bool, old: nn.Module
) -> nn.Module:
    new = placed(layer, plan, then, copies)
    new.training = old.training
    for module in [layer, *layer.modules()]:
        module.train(old.training)
    return new


def _lost_settings(site: NormSite, old: nn.Module, kept: dict[str, Any], norm: NormLayer) -> list[str]:
    """Settings of the old layer that the new one has no place for; those that the user set are not lost."""
    names = set(norm.entry.option_names())
    lost: list[str] = []
    for name, value in settings_of(norm, site, old).items():
        if name in kept or name in norm.options or name in ("axes", "groups"):
            continue
        why = "the new layer has none" if name not in names else "the new layer can't have that"
        lost.append(f"{name}={value}: {why}")
    return lost


def _was_trained(old: nn.Module) -> bool:
    """Whether it has seen batches: then inference means something, and a bias that comes back must not change it."""
    seen = getattr(old, "num_batches_tracked", None)
    return isinstance(seen, Tensor) and not seen.is_meta and bool(seen > 0)


def put(model: nn.Module, site: NormSite, new: nn.Module) -> None:
    """Under every name; the root is for the caller to replace."""
    for name in site.names:
        parent, _, last = name.rpartition(".")
        if name:
            model.get_submodule(parent)._modules[last] = new


def _take_out(model: nn.Module, name: str) -> int:
    """Put an identity in the place of an activation. Returns how many parameters it had."""
    parent, _, last = name.rpartition(".")
    modules = model.get_submodule(parent)._modules
    old = modules[last]
    modules[last] = nn.Identity()
    return sum(value.numel() for value in old.parameters()) if old is not None else 0
