"""What the layer is made of: parameters, buffers, how they start, and whether a checkpoint keeps them."""

from __future__ import annotations

import torch
from torch import nn

from bnbench.verify.checklist import check
from bnbench.verify.checks.statistics import STATISTICS
from bnbench.verify.checks.training import NO_PARAMETERS
from bnbench.verify.outcome import Skip, Wrong
from bnbench.verify.subject import CHANNELS, Subject

_STARTS = {"gamma": 1.0, "beta": 0.0, "running_mean": 0.0, "running_var": 1.0}
_TORCH_NAMES = {"gamma": "weight", "beta": "bias", **{name: name for name in STATISTICS}}
_NO_BUFFERS = (
    "running statistics not registered as buffers: register_buffer(...), or checkpoints lose them and "
    ".to(device) leaves them behind"
)
_RESHAPED = "the running statistics change their shape in forward: keep the shape that they start with"


@check("gamma, beta are parameters")
def parameters(subject: Subject) -> None:
    """An optimizer sees gamma and beta."""
    present = [role for role in ("gamma", "beta") if role in subject.parts]
    if not present:
        raise Skip("it has neither gamma nor beta")
    plain = [role for role in present if subject.parts[role].kind != "parameter"]
    if plain:
        raise Wrong(
            f"not among its parameters: {', '.join(plain)}",
            causes=[NO_PARAMETERS],
        )
    frozen = [role for role in present if not subject.parts[role].read(subject.layer()).requires_grad]
    if frozen:
        raise Wrong(
            f"requires_grad is False: {', '.join(frozen)}", causes=["gamma or beta is frozen from the start"]
        )


@check("statistics are buffers", needs=STATISTICS)
def buffers(subject: Subject) -> None:
    """The running statistics are in the state_dict, and no optimizer sees them."""
    saved = subject.layer().state_dict()
    missing = [role for role in STATISTICS if subject.parts[role].path not in saved]
    if missing:
        raise Wrong(
            f"not in the state_dict: {', '.join(missing)}",
            causes=[_NO_BUFFERS],
        )


@check("initial values")
def initial(subject: Subject) -> None:
    """Gamma 1, beta 0, running mean 0, running variance 1."""
    layer = subject.maker()
    for role, start in _STARTS.items():
        if role in subject.parts:
            vector = subject.parts[role].vector(layer)
            if not bool((vector == start).all()):
                shown = f"{float(vector[0]):.3g}" if bool((vector == vector[0]).all()) else "not constant"
                raise Wrong(
                    f"{role} starts at {shown}, not {start:g}",
                    causes=[f"{role} initialised at {shown}, where {start:g} is usual"],
                )


@check("state_dict round trip")
def round_trip(subject: Subject) -> None:
    """A fresh layer with a trained one's state_dict gives the same output in eval."""
    layer, _ = subject.trained()
    fresh = subject.maker()
    try:
        fresh.load_state_dict(layer.state_dict())
    except RuntimeError as error:
        wide = [str(cause) for cause in subject.forward_causes if "axes" in dict(cause.change)] or [_RESHAPED]
        raise Wrong("a fresh layer can't load its state_dict: other shapes", causes=wide) from error
    x = subject.data("eval")
    seen, expected = subject.output(fresh.eval(), x), subject.output(layer.eval(), x)
    if not torch.allclose(seen, expected, rtol=0, atol=0, equal_nan=True):
        lost = [
            role
            for role in _STARTS
            if role in subject.parts and subject.parts[role].path not in layer.state_dict()
        ]
        raise Wrong(
            f"a reloaded layer's output differs; its state_dict lacks {', '.join(lost) or 'nothing that is known'}",
            causes=[_NO_BUFFERS] if set(lost) & set(STATISTICS) else [NO_PARAMETERS] if lost else [],
        )


@check("exchange with torch")
def exchange(subject: Subject) -> None:
    """torch.nn.BatchNorm's state_dict loads, and gives torch's output in eval; and back again."""
    if subject.outputs_are_wrong:
        raise Skip("the output is wrong already")
    peer = _peer(subject)
    layer = subject.maker()
    theirs, ours = set(peer.state_dict()), set(layer.state_dict())
    if ours | {"num_batches_tracked"} != theirs | {"num_batches_tracked"}:
        raise Skip(f"its state_dict has other names: {', '.join(sorted(ours)) or 'none'}")
    state = {key: value for key, value in peer.state_dict().items() if key in ours}
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
    made = nn.BatchNorm2d if subject.rank == 4 else nn.BatchNorm1d
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
