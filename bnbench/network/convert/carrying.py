"""What a new layer takes over from the old one: gamma, beta, running statistics, hooks, flags; and what is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bnbench.network.convert.placed import norm_of
from bnbench.network.sites.norm_site import NormBehaviour
from bnbench.norms.renorm import BatchRenorm

#: What layers call their gamma and their beta.
GAMMAS, BETAS = ("weight", "gamma", "scale"), ("bias", "beta", "shift")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: What `nn.Module` keeps of hooks. The new layer gets the same dictionaries, so that the user's handles still work.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
#: Attributes that are a layer's own business, or its options.
_USUAL = {
    *vars(nn.Module()),
    *("num_features", "eps", "momentum", "affine", "track_running_stats", "process_group", "reading"),
    *(
        "normalized_shape",
        "elementwise_affine",
        "num_groups",
        "num_channels",
        "hidden_size",
        "variance_epsilon",
    ),
    *("bnbench_norm", "axes", "groups", "in_channels", "then", "layout", "copies", "norm"),
}


@dataclass(frozen=True)
class Roles:
    """The names of a layer's gamma and beta, "" where it has none. offset: it multiplies by offset + gamma.

    statistics: by torch's names, the layer's own.
    """

    gamma: str = ""
    beta: str = ""
    offset: float = 0.0
    statistics: Mapping[str, str] = field(default_factory=dict)


def roles_in(found: NormBehaviour, layer: nn.Module) -> Roles:
    """As trials found them."""
    statistics = statistics_in(layer)
    if found.mean and found.var and found.mean != statistics.get("running_mean"):
        statistics = {"running_mean": found.mean, "running_var": found.var}
    return Roles(found.gamma, found.beta, found.gamma_offset, statistics)


@dataclass
class Carried:
    """What became of each part. gamma, beta: one word or sentence each. lost: what the new layer can't hold."""

    gamma: str = ""
    beta: str = ""
    statistics: str = ""
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Ties:
    """The new parameter of each old one: what was one parameter in two layers stays one."""

    def __init__(self) -> None:
        self._new: dict[tuple[int, float, torch.Size], nn.Parameter] = {}
        self._old: list[Tensor] = []

    def parameter(self, old: Tensor, template: nn.Parameter, shift: float) -> nn.Parameter:
        """The old one itself where the new layer can hold it as it is; else a new one with its value plus shift."""
        if isinstance(old, nn.Parameter) and old.shape == template.shape and not shift:
            return old
        key = (id(old), shift, template.shape)
        if key not in self._new:
            value = old.detach() + shift if shift else old.detach().clone()
            one = value.numel() == 1 < template.numel()
            value = value.reshape(-1).repeat(template.numel()) if one else value.reshape(template.shape)
            made = nn.Parameter(value, requires_grad=isinstance(old, nn.Parameter) and old.requires_grad)
            vars(made).update(vars(old))
            if old.grad is not None:
                made.grad = None if one else old.grad.detach().clone().reshape(template.shape)
            self._new[key] = made
            self._old.append(old)  # so that no other tensor gets its id
        return self._new[key]


def roles_of(layer: nn.Module, channels: int) -> Roles:
    """By names and sizes, for a layer that bnbench made."""
    own = dict(norm_of(layer).named_parameters(recurse=False))
    sized = [name for name, value in own.items() if value.numel() == channels]
    gamma = next((name for name in GAMMAS if name in sized), "")
    beta = next((name for name in BETAS if name in sized), "")
    return Roles(gamma, beta, 0.0, statistics_in(norm_of(layer)))


def carry(old: nn.Module, old_roles: Roles, new: nn.Module, new_roles: Roles, ties: Ties) -> Carried:
    """Give the new layer what the old one has. new: on the device and in the dtype that it stays in."""
    done = Carried()
    shift = old_roles.offset - new_roles.offset
    pair = (old, new)
    done.gamma = _vector(pair, old_roles.gamma, new_roles.gamma, shift, ties, done)
    done.beta = _vector(pair, old_roles.beta, new_roles.beta, 0.0, ties, done)
    _freeze_like(old, new, new_roles)
    done.statistics = _statistics(old, old_roles, new, new_roles, done)
    new.train(old.training)
    return done


def _vector(
    pair: tuple[nn.Module, nn.Module], name: str, new_name: str, shift: float, ties: Ties, done: Carried
) -> str:
    """Gamma or beta, from the old layer to the new one."""
    old, new = pair
    layer = norm_of(new)
    if not name and not new_name:
        return "none"
    if not name:
        start = float(getattr(layer, new_name).detach().flatten()[0]) if not _is_meta(new) else None
        return "new" if start is None else f"new, from {start:g}"
    before = tensor_of(old, name)
    if not new_name:
        done.lost.append(f"{name}: the new layer has none")
        return "lost: it has none"
    after = getattr(layer, new_name)
    if before.numel() == 1 < after.numel():  # one number for all channels
        layer._parameters[new_name] = ties.parameter(before, after, shift)
        done.lost.append(f"{name}: one number, and the new layer has one a channel")
        return "spread"
    if before.numel() != after.numel():
        done.lost.append(f"{name}: of shape {tuple(before.shape)}, and the new one is {tuple(after.shape)}")
        return f"lost: {tuple(before.shape)} does not fit {tuple(after.shape)}"
    layer._parameters[new_name] = ties.parameter(before, after, shift)
    if shift and isinstance(before, nn.Parameter):
        rounding = _rounding(before, tensor_of(layer, new_name), shift)
        done.notes.append(
            f"{name} holds {shift:+g} of what it held: the new layer has another offset{rounding}"
        )
    if not isinstance(before, nn.Parameter):
        done.notes.append(f"{new_name} is a parameter that does not learn, in place of a buffer")
    return "carried"


def _rounding(before: Tensor, after: Tensor, shift: float) -> str:
    """By how much a sum is not exact in the layer's number format, in words."""
    if before.is_meta or after.is_meta:
        return ""
    exact = before.detach().double() + shift
    worst = float((exact - after.detach().double().reshape(exact.shape)).abs().max())
    return (
        f"; the sum is rounded to {str(after.dtype).removeprefix('torch.')}, by {worst:.1g} at most"
        * bool(worst)
    )


def _freeze_like(old: nn.Module, new: nn.Module, roles: Roles) -> None:
    """Where nothing in the old layer learns, nothing in the new one does."""
    before = list(old.parameters())
    frozen = bool(before) and not any(parameter.requires_grad for parameter in before)
    if frozen or (not before and roles_of_buffers(old)):
        for parameter in norm_of(new).parameters():
            parameter.requires_grad_(False)


def roles_of_buffers(old: nn.Module) -> bool:
    """Whether its gamma and beta are buffers, as those of a frozen batch norm."""
    return any(name in old._buffers for name in (*GAMMAS, *BETAS))


def _statistics(old: nn.Module, old_roles: Roles, new: nn.Module, new_roles: Roles, done: Carried) -> str:
    """The running ones, where the new layer's mean the same."""
    layer, source = norm_of(new), norm_of(old)
    before, after = old_roles.statistics, new_roles.statistics
    if not before:
        return "new" if after else "none"
    others = [getattr(module, "other_statistics", "") for module in (source, layer)]
    if reason := next(filter(None, others), ""):
        done.lost += [f"{name}: {reason}" for name in before.values()]
        return f"lost: {reason}"
    for name, own in before.items():
        value = tensor_of(source, own)
        if name not in after:
            done.lost.append(f"{own}: the new layer has none")
        elif (now := tensor_of(layer, after[name])).numel() != value.numel():
            done.lost.append(f"{own}: of shape {tuple(value.shape)}")
        else:
            inside, _, last = after[name].rpartition(".")
            form = _in_form(name, value, source, layer)
            layer.get_submodule(inside)._buffers[last] = form.reshape(now.shape)
    held = [name for name in before if name in after]
    if not held:
        return "lost: it has none"
    if isinstance(layer, BatchRenorm) != isinstance(source, BatchRenorm):
        done.notes.append("running_var with eps in it, as batch renormalization keeps it")
    return "carried" if len(held) == len(before) else "carried in part"


def statistics_in(layer: nn.Module) -> dict[str, str]:
    """Torch's names of the running statistics, and where the layer has them; {} without a mean and a variance."""
    names = {name.rpartition(".")[2]: name for name, _ in layer.named_buffers()}
    found = {name: names[name] for name in STATISTICS if name in names}
    return found if {"running_mean", "running_var"} <= set(found) else {}


def tensor_of(layer: nn.Module, name: str) -> Tensor:
    """A parameter or buffer of the layer or of a module in it, by its dotted name."""
    inside, _, last = name.rpartition(".")
    value: Tensor = getattr(layer.get_submodule(inside), last)
    return value


def _in_form(name: str, value: Tensor, old: nn.Module, new: nn.Module) -> Tensor:
    """Batch renormalization keeps the square of the deviation, eps included."""
    if name != "running_var" or isinstance(old, BatchRenorm) == isinstance(new, BatchRenorm):
        return value
    eps = (
        float(getattr(new, "eps", 0.0)) if isinstance(new, BatchRenorm) else -float(getattr(old, "eps", 0.0))
    )
    return (value.double() + eps).to(value.dtype)


def move_hooks(old: nn.Module, new: nn.Module) -> list[str]:
    """Give the new layer the old one's hooks. Returns what was moved, in words."""
    moved: list[str] = []
    for name in _HOOKS:
        hooks = vars(old).get(name)
        if not hooks and name != "_is_full_backward_hook":
            continue
        if name == "_is_full_backward_hook" and hooks is None:
            continue
        if isinstance(hooks, dict):
            for key, hook in hooks.items():
                if type(hook).__name__ == "_WrappedHook" and getattr(hook, "with_module", False):
                    hooks[key] = type(hook)(hook.hook, new)
            words = name.strip("_").removesuffix("s").replace("_", " ")
            if not words.endswith(("kwarg", "called")):
                moved.append(f"{len(hooks)} {words}{'s' if len(hooks) > 1 else ''}")
        vars(new)[name] = hooks
    return moved


def move_attributes(old: nn.Module, new: nn.Module, then: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Give the new layer what a user has written on a layer of torch's. Returns the names moved, and those lost.

    Attributes and children of a class of somebody's own are that class's business: they are lost.
    """
    own = [
        name for name in vars(old) if name not in _USUAL and name not in _HOOKS and not name.startswith("_")
    ]
    if type(old).__module__.partition(".")[0] in ("torch", "bnbench"):
        for name in own:
            vars(new)[name] = vars(old)[name]
        return [f"attribute {name}" for name in own], []
    children = [
        name
        for name, child in old._modules.items()
        if name not in then and child is not None and type(child) is not nn.Identity
    ]
    return [], [*(f"attribute {name}" for name in own), *(f"child {name}" for name in children)]


def like(layer: nn.Module, *near: nn.Module | None) -> None:
    """Move the layer to the device and dtype of the first of these that has a tensor: the old layer, that before it,
    the network.
    """
    for module in near:
        tensors = (*module.parameters(), *module.buffers()) if module is not None else ()
        if floats := [tensor for tensor in tensors if tensor.is_floating_point()]:
            layer.to(device=floats[0].device, dtype=floats[0].dtype)
            return


def _is_meta(module: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
