"""Registration of the layer's tensors: parameters, buffers, initial values and checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from bnbench.verification.checklist import check
from bnbench.verification.checks.training import FROZEN, NO_PARAMETERS
from bnbench.verification.formulas import SCALES
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.parts import has_effect, unknown_parameters
from bnbench.verification.subject import CHANNELS, STATISTICS, Subject
from bnbench.verification.tensors import tensors, unregistered

_STARTS = {"gamma": 1.0, "beta": 0.0, "running_mean": 0.0, "running_var": 1.0}
_NO_BUFFERS = (
    "running statistics not registered as buffers: register_buffer(...), or checkpoints lose them and "
    ".to(device) leaves them behind"
)
_RESHAPED = "the running statistics change their shape in forward: keep the shape that they start with"


_IN_FORWARD = (
    "a layer is made in forward: its gamma, beta and running statistics are new at every call, and nothing "
    "learns; make it in __init__"
)
_OUTSIDE = (
    "forward calls a layer that is kept outside (a global, a closure): torch does not know of it; make it an "
    "attribute"
)
_REPLACED = (
    "gamma or beta is made again in forward: the optimizer holds the one that was there before; change its "
    "numbers, or make it in __init__"
)
_SHARED = "one {} for all channels: batch norm has one per channel, nn.Parameter(torch.{}(num_features))"


@check("every layer is registered")
def registered(subject: Subject) -> None:
    """What the layer is made of is known to torch: nothing in a plain list, nothing made in forward."""
    causes = registration_causes(subject)
    if causes:
        raise Wrong("torch does not know of parts of it: they are not trained, saved or moved", causes=causes)


def registration_causes(subject: Subject) -> tuple[str, ...]:
    """The reasons why torch does not know of parts of the layer."""
    layer = subject.layer()
    subject.output(layer, subject.data("step", 0))  # what is made once, in the first step, may stay
    causes = [
        f"a layer is kept in {place}, which torch does not register: nn.ModuleList or an attribute of its own "
        "registers it"
        for place in unregistered(layer)
    ]
    before = dict(layer.named_parameters())
    first, second = _strangers(subject, layer), _strangers(subject, layer)
    if any(module not in first for module in second):
        causes.append(_IN_FORWARD)
    elif second and not causes:
        causes.append(_OUTSIDE)
    after = dict(layer.named_parameters())
    if any(after.get(name) is not parameter for name, parameter in before.items()):
        causes.append(_REPLACED)
    return tuple(causes)


def _strangers(subject: Subject, layer: nn.Module) -> list[nn.Module]:
    """The modules with tensors that a call of the layer calls, and that are not among its modules."""
    called: list[nn.Module] = []
    handle = register_module_forward_pre_hook(lambda module, inputs: called.append(module))
    try:
        subject.output(layer, subject.data("step", 1))
    finally:
        handle.remove()
    known = set(layer.modules())
    return [module for module in called if module not in known and (module._parameters or module._buffers)]


@check("every parameter is known")
def known(subject: Subject) -> None:
    """Each parameter is gamma or beta; what another one does, nobody has checked."""
    layer = subject.maker()
    unknown = unknown_parameters(layer, subject.parts)
    if not unknown and not registration_causes(subject):
        _no_other_leaves(subject)
    words = []
    for part in unknown:
        shape = tuple(part.read(layer).shape)
        try:
            effect = has_effect(subject.maker, part, subject.data("forward"))
        except Exception:
            effect = True
        words.append(f"{part.path} {shape}, which {'changes' if effect else 'does not change'} the output")
    if words:
        raise Wrong(
            f"neither gamma nor beta, of {CHANNELS} numbers each: {'; '.join(words)}",
            causes=[f"{part.path} is a parameter that batch norm does not have" for part in unknown],
        )


def _no_other_leaves(subject: Subject) -> None:
    """Raises Wrong where the output depends on something learnt that is not in the layer, a global say."""
    layer = subject.layer()
    y = subject.output(layer, subject.data("forward"))
    own = {id(tensor) for _, tensor in tensors(layer)}
    left, seen = [y.grad_fn], set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in own:
            raise Wrong(
                f"the output depends on something learnt, of shape {tuple(leaf.shape)}, that the layer does not own",
                causes=[_OUTSIDE],
            )
        left += [parent for parent, _ in node.next_functions]


@check("gamma, beta per channel")
def per_channel(subject: Subject) -> None:
    """A gamma and a beta for each channel."""
    shared = [role for role in ("gamma", "beta") if subject.is_shared(role)]
    if not {"gamma", "beta"} & set(subject.parts):
        raise Skip("it has neither gamma nor beta")
    if shared:
        starts = {"gamma": "ones", "beta": "zeros"}
        raise Wrong(
            f"1 number for all channels: {', '.join(shared)}",
            causes=[_SHARED.format(role, starts[role]) for role in shared],
        )


@check("gamma, beta are parameters")
def parameters(subject: Subject) -> None:
    """An optimizer sees gamma and beta."""
    present = [role for role in ("gamma", "beta") if role in subject.parts]
    if not present:
        raise Skip("it has neither gamma nor beta")
    unregistered = [role for role in present if subject.parts[role].kind != "parameter"]
    if unregistered:
        raise Wrong(
            f"not among its parameters: {', '.join(unregistered)}",
            causes=registration_causes(subject) or [NO_PARAMETERS],
        )
    frozen = [role for role in present if not subject.parts[role].read(subject.layer()).requires_grad]
    if frozen:
        raise Wrong(f"requires_grad is False: {', '.join(frozen)}", causes=[FROZEN])


@check("statistics are buffers", group="library", needs=STATISTICS)
def buffers(subject: Subject) -> None:
    """The running statistics are in the state_dict, and no optimizer sees them."""
    saved = subject.layer().state_dict()
    if (
        subject.statistics_are == "hidden"
    ):  # part of a larger tensor, or nowhere: what a reloaded layer does shows it
        round_trip(subject)
        return
    paths = {role: subject.parts[role].path if role in subject.parts else "" for role in STATISTICS}
    missing = [role for role in STATISTICS if paths[role] not in saved]
    if missing:
        raise Wrong(
            f"not in the state_dict: {', '.join(missing)}",
            causes=registration_causes(subject) or [_NO_BUFFERS],
        )


@check("initial values")
def initial(subject: Subject) -> None:
    """Gamma 1, beta 0, running mean 0, running variance 1."""
    layer = subject.maker()
    for role, start in _STARTS.items():
        if role in subject.parts:
            try:
                vector = subject.parts[role].vector(layer)
            except (AttributeError, KeyError, IndexError):  # made in the first step
                continue
            if role == "gamma" and _scaled_to_one(subject, vector):
                continue
            if not bool((vector == start).all()):
                value = f"{float(vector[0]):.3g}" if bool((vector == vector[0]).all()) else "not constant"
                raise Wrong(
                    f"{role} starts at {value}, not {start:g}",
                    causes=[f"{role} initialised at {value}, where {start:g} is usual"],
                )


def _scaled_to_one(subject: Subject, gamma: Tensor) -> bool:
    """Whether what is made of gamma in forward, exp(gamma) say, starts at 1."""
    scales = [
        dict(cause.change)["scale"] for cause in subject.forward_causes if "scale" in dict(cause.change)
    ]
    return any(bool((SCALES[scale](gamma) - 1).abs().max() < 1e-3) for scale in scales)


@check("state_dict round trip", group="library")
def round_trip(subject: Subject) -> None:
    """A fresh layer with a trained one's state_dict gives the same output in eval."""
    layer, _ = subject.trained()
    fresh = subject.maker()
    try:
        fresh.load_state_dict(layer.state_dict())
    except RuntimeError as error:
        raise Wrong("a fresh layer can't load its state_dict: other shapes", causes=[_RESHAPED]) from error
    x = subject.data("eval")
    seen, expected = subject.output(fresh.eval(), x), subject.output(layer.eval(), x)
    if not torch.allclose(seen, expected, rtol=0, atol=0, equal_nan=True):
        lost = [
            role
            for role in _STARTS
            if role in subject.parts and subject.parts[role].path not in layer.state_dict()
        ]
        raise Wrong(
            f"a reloaded layer's output differs; its state_dict lacks {', '.join(lost) or 'something that eval uses'}",
            causes=_lost(subject, lost),
        )


def _lost(subject: Subject, lost: list[str]) -> list[str]:
    if set(lost) & set(STATISTICS) or subject.statistics_are == "hidden":
        return [*registration_causes(subject), _NO_BUFFERS][:1]
    return [NO_PARAMETERS] if lost else []


@check("exchange with torch", group="library")
def exchange(subject: Subject) -> None:
    """torch.nn.BatchNorm's state_dict loads, and gives torch's output in eval; and back again."""
    if subject.outputs_are_wrong:
        raise Skip("the output is wrong already")
    peer = _peer(subject)
    layer = subject.maker()
    torch_names, layer_names = set(peer.state_dict()), set(layer.state_dict())
    if layer_names | {"num_batches_tracked"} != torch_names | {"num_batches_tracked"}:
        raise Skip(f"its state_dict has other names: {', '.join(sorted(layer_names)) or 'none'}")
    if subject.statistics_are == "hidden":
        raise Skip("its running statistics are not in its state_dict")
    state = {key: value for key, value in peer.state_dict().items() if key in layer_names}
    own = layer.state_dict()
    shapes = [f"{key} {tuple(own[key].shape)}" for key in state if own[key].shape != state[key].shape]
    if shapes:
        raise Wrong(f"torch's state_dict does not load, its vectors are ({CHANNELS},): {', '.join(shapes)}")
    layer.load_state_dict(state)
    back = _peer(subject)
    back.load_state_dict({**back.state_dict(), **layer.state_dict()})
    x = subject.data("eval")
    expected = peer.eval()(x)
    for name, other in (("with torch's state_dict the layer", layer), ("torch with its state_dict", back)):
        if not torch.allclose(subject.output(other.eval(), x), expected, rtol=1e-4, atol=1e-4):
            raise Wrong(f"{name} gives another output in eval")


def _peer(subject: Subject) -> nn.Module:
    """torch's layer with what this one has, after a batch, its gamma and beta not 1 and 0."""
    made = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(subject.rank, nn.BatchNorm1d)
    has = subject.parts
    peer = made(
        CHANNELS,
        subject.rules.eps,
        affine="gamma" in has,
        track_running_stats="running_mean" in has,
    )
    if "gamma" in has and "beta" not in has:
        peer.register_parameter("bias", None)
    for name, values in (("weight", subject.gamma), ("bias", subject.beta)):
        if getattr(peer, name, None) is not None:
            with torch.no_grad():
                getattr(peer, name).copy_(values)
    peer(subject.data("step", 0))
    return peer
