"""Another normalizer in the place of those of somebody's network. No proofs: see `conversion`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from bnbench.network.convert.activations import activation_to_remove, gives_input_back, must_copy
from bnbench.network.convert.biases import BiasChange, Biases, BiasRule, change_biases, takes_bias_out
from bnbench.network.convert.carrying import (
    Carried,
    Roles,
    Ties,
    carry,
    like,
    move_attributes,
    move_hooks,
    roles_in,
    roles_of,
    tensor_of,
)
from bnbench.network.convert.keeping import assumed_shape, settings_of
from bnbench.network.convert.placed import arranged_shape
from bnbench.network.convert.targets import (
    CannotStandError,
    Plan,
    Targets,
    placed,
    small_shape,
)
from bnbench.network.norm_behaviour import behaviour_of
from bnbench.network.norm_site import Neighbour, NormSite
from bnbench.norms.norm_layer import NormLayer

#: Which normalizations change: batch and sync norms, every one, or one kind.
Source = Literal["batch", "all", "sync", "frozen", "instance", "group", "layer", "rms"]
SOURCES: tuple[Source, ...] = ("batch", "all", "sync", "frozen", "instance", "group", "layer", "rms")


@dataclass(frozen=True)
class Choices:
    """source: which normalizations change. biases: see `biases`. seed: of the biases that come back."""

    source: Source = "batch"
    biases: Biases = "fair"
    seed: int = 0


@dataclass(frozen=True)
class Replaced:
    """One site and what became of it. new: the layer that stands there now, None where the old one still does.

    reason: why it was left or refused. kept: options of the new layer that were the old one's. old_roles, roles: of the
    old and of the new layer's tensors. then: modules of a fused layer that still follow. activation: the one whose
    place the new layer takes, and how many parameters that had, where it was a layer of its own.
    """

    site: NormSite
    action: Literal["converted", "left", "refused"]
    reason: str = ""
    old: nn.Module | None = None
    new: nn.Module | None = None
    carried: Carried = field(default_factory=Carried)
    biases: tuple[BiasChange, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict)
    old_roles: Roles = field(default_factory=Roles)
    roles: Roles = field(default_factory=Roles)
    then: tuple[str, ...] = ()
    activation: str = ""
    activation_parameters: int = 0

    def new_names(self) -> dict[str, str]:
        """The names of the tensors that the new layer has from the old one, by the old names, under every name."""
        pairs = [
            (self.old_roles.gamma, self.roles.gamma, self.carried.gamma),
            (self.old_roles.beta, self.roles.beta, self.carried.beta),
        ]
        if self.carried.statistics.startswith("carried"):
            own = self.roles.statistics
            pairs += [
                (old, own[key], "carried") for key, old in self.old_roles.statistics.items() if key in own
            ]
        pairs += [
            (name, name, "carried")
            for then in self.then
            for name, _ in (self.old.get_submodule(then) if self.old else nn.Module()).named_parameters(then)
        ]
        return {
            inside(prefix, old): inside(prefix, new)
            for prefix in self.site.names
            for old, new, word in pairs
            if old and new and word in ("carried", "spread")
        }


def inside(place: str, name: str) -> str:
    """The name of a tensor of the module at that place, "" for the root."""
    return f"{place}.{name}" if place else name


@dataclass(frozen=True)
class Replacement:
    """The network, which is another module only where its root is a normalization, and each of its sites."""

    model: nn.Module
    sites: tuple[Replaced, ...]


def replace_norms(
    model: nn.Module, sites: Sequence[NormSite], norm: NormLayer, choices: Choices | None = None
) -> Replacement:
    """Put the normalizer in the place of the sites' layers, in the model itself; what can't change is left as it is.

    sites: of `find_norm_sites`, for this model or one that it is a copy of. norm: with the options that the user has
    set alone: eps, momentum, affine and the like are the old layer's where they are not set. Each layer's gamma, beta,
    running statistics, hooks, flags, device and dtype carry over; the biases before it follow the fairness rule.
    """
    choices = choices or Choices()
    targets, ties = Targets(norm), Ties()
    shared = _used_elsewhere(model, [site for site in sites if not not_chosen(site, choices.source)])
    done: list[Replaced] = []
    for site in sites:
        if reason := not_chosen(site, choices.source):
            done.append(Replaced(site, "left", reason))
            continue
        if site.refused:
            done.append(Replaced(site, "refused", site.refused))
            continue
        try:
            _refuse_shared_gamma(model, site, shared)
            replaced = _replace(model, site, targets, ties, choices)
        except CannotStandError as error:
            done.append(Replaced(site, "refused", str(error)))
            continue
        if "" in site.names and replaced.new is not None:
            model = replaced.new
        done.append(replaced)
    return Replacement(model, tuple(done))


def not_chosen(site: NormSite, source: Source) -> str:
    """Why a site is not among those that change; "" where it is."""
    kind = site.behaviour.kind
    if source == "all":
        return (
            "it is a normalization of no kind that bnbench knows"
            if kind == "other" and not site.refused
            else ""
        )
    chosen = ("batch", "sync") if source == "batch" else (source,)
    return (
        ""
        if kind in chosen
        else f"{kind} norm, and {' and '.join(chosen)} norms are converted (--from {source})"
    )


def _replace(model: nn.Module, site: NormSite, targets: Targets, ties: Ties, choices: Choices) -> Replaced:
    """Raises CannotStandError before anything is changed."""
    old = model.get_submodule(site.name)
    _refuse_vectors(site, old)
    then = _then(site, old)
    activation = activation_to_remove(site, targets.norm, then)
    linear = activation is None and targets.norm.includes_activation
    layer, plan, kept = targets.make(site, old, linear)
    inside = then.pop(activation) if isinstance(activation, str) else None
    shape = small_shape((site.shapes or (assumed_shape(site, old),))[0], site.behaviour.channel_axis)
    copies = not then and gives_input_back(placed(layer, plan, {}, False), shape) and must_copy(site)
    like(layer, old, site.producer.module if site.producer else None)
    channels = site.behaviour.num_features
    found = site.behaviour
    roles = roles_in(found, old)
    new_roles = _without_beta(old, layer, roles, _new_roles(layer, plan, targets.norm, channels, shape))
    carried = carry(old, roles, layer, new_roles, ties)
    new = _stand(layer, plan, then, copies, old)
    carried.moved += move_hooks(old, new)
    moved, lost = move_attributes(old, new, tuple(found.includes))
    carried.moved += moved
    if linear:
        carried.notes.append(
            f"no activation follows, so that {targets.norm.entry.name} has none of its own here"
        )
    carried.lost += lost + _lost_settings(site, old, kept, targets.norm)
    for name, _ in inside.named_parameters(str(activation)) if inside is not None else ():
        carried.lost.append(f"{name}: the new layer is its own activation")
    put(model, site, new)
    trained = carried.statistics.startswith("carried") and _was_trained(old)
    seed = None if trained else choices.seed
    rule = BiasRule(choices.biases, takes_bias_out(site), targets.norm.absorbs_bias, seed)
    biases = change_biases(model, site, rule)
    removed, parameters = activation if isinstance(activation, str) else "", 0
    if isinstance(activation, Neighbour):
        removed, parameters = activation.name, _take_out(model, activation.name)
    return Replaced(
        site,
        "converted",
        "",
        old,
        new,
        carried,
        biases,
        kept,
        roles,
        new_roles,
        tuple(then),
        removed,
        parameters,
    )


def _refuse_vectors(site: NormSite, old: nn.Module) -> None:
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
        gamma = "with a gamma for every value" if vectors else "without a gamma"
        raise CannotStandError(
            f"it normalizes over axes {found.axes} {gamma}, and which of the axes holds the channels is not known"
        )


def _used_elsewhere(model: nn.Module, sites: Sequence[NormSite]) -> dict[int, str]:
    """Parameters that modules other than the sites have, too, and the name of one such module."""
    names = {name for site in sites if site.module is not None for name in site.names}
    found: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if name in names or any(name.startswith(f"{other}.") for other in names if other):
            continue
        found |= {id(value): name for value in module.parameters(recurse=False)}
    return found


def _refuse_shared_gamma(model: nn.Module, site: NormSite, shared: dict[int, str]) -> None:
    """1 + gamma becomes gamma: where another module reads the same numbers, that is another network."""
    found = site.behaviour
    if found.gamma and found.gamma_offset:
        other = shared.get(id(tensor_of(model.get_submodule(site.name), found.gamma)))
        if other is not None:
            raise CannotStandError(
                f"it multiplies by {found.gamma_offset:g} + {found.gamma}, and {other or 'the root'} has the same "
                "parameter"
            )


def _then(site: NormSite, old: nn.Module) -> dict[str, nn.Module]:
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
