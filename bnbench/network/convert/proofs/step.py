"""Proof 5: one step of training changes exactly the parameters that it should."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bnbench.base.network_records import Proof
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.convert.carrying import STATISTICS
from bnbench.network.convert.proofs.trial import CannotRunError, Inputs, Pass, Trials, largest, run
from bnbench.network.convert.records import Choices, Replacement, inside
from bnbench.network.convert.replacement import replace_norms
from bnbench.norms.norm_layer import NormLayer

NAME = "one step"
#: Of the largest gradient: what is below is the rounding of a zero.
_ROUNDING = 1e-13


def one_step(trials: Trials, norm: NormLayer, choices: Choices) -> Proof:
    """Plain gradient descent on a made-up loss, random inputs, in float64, in training mode.

    Should change: what has a gradient in the network as it was, and every parameter that came and learns. Should not:
    what is frozen, and what the network as it was does not use. What has a gradient of zero in one of the two, as a
    bias before a batch norm, may do either.
    """
    if not any(site.module is not None and not site.refused for site in trials.sites):
        return Proof(NAME, None, None, "no norm can be converted")
    try:
        inputs, before = trials.inputs(), trials.before(True)
    except CannotRunError as error:
        return Proof(NAME, None, None, str(error))
    changed = replace_norms(trials.copy(), trials.sites, norm, choices)
    try:
        gradients = run(changed.model, inputs, True).gradients
    except BaseException as error:  # whatever a user's network raises
        raise_interrupt(error)
        return Proof(NAME, False, None, f"the converted network does not run: {first_line(error)}")
    moved = step(changed.model, gradients)
    should, may = expected(before, changed, zeros(gradients), norm.absorbs_bias)
    if (
        should - moved
    ):  # a dead or saturated unit has no gradient here, and has one where the weights are others
        moved |= elsewhere(changed.model, inputs) & should
    wrong = [f"{name} should change and does not" for name in sorted(should - moved)]
    wrong += [f"{name} changes and should not" for name in sorted(moved - should - may)]
    wrong += [
        f"{name} is not finite" for name, value in gradients.items() if not bool(value.isfinite().all())
    ]
    total = len(list(changed.model.parameters()))
    value = f"{len(moved)} of {total} parameters change"
    text = (
        "plain gradient descent on a made-up loss: what learns changes, and nothing that is frozen or unused"
    )
    if wrong:
        text = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return Proof(NAME, not wrong, value, text)


@torch.no_grad()
def step(model: nn.Module, gradients: dict[str, Tensor]) -> set[str]:
    """The names of the parameters that one step of plain gradient descent changes. The largest change is 1."""
    scale = largest(list(gradients.values()))
    moved: set[str] = set()
    for name, value in model.named_parameters():
        before = value.detach().clone()
        if name in gradients and scale:
            value.add_(gradients[name], alpha=-1 / scale)
        if not torch.equal(before, value):
            moved.add(name)
    return moved


def elsewhere(model: nn.Module, inputs: Inputs) -> set[str]:
    """The parameters that one step would change where all of them, and the running statistics, are of usual sizes."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in {id(value): value for value in model.parameters()}.values():
            if value.is_floating_point():
                fresh = torch.rand(value.shape, generator=draw, dtype=torch.float64)
                size = (3 / max(value[0].numel(), 1)) ** 0.5 if value.dim() > 1 else 1.0
                value.copy_((2 * fresh - 1) * size if value.dim() > 1 else 0.2 + 0.6 * fresh)
        for name, buffer in model.named_buffers():
            if name.endswith(STATISTICS[:2]) and buffer.is_floating_point():
                buffer.fill_(1.0 if name.endswith(STATISTICS[1]) else 0.0)
    try:
        gradients = run(model, inputs, True).gradients
    except BaseException as error:  # whatever a user's network raises
        raise_interrupt(error)
        return set()
    return step(model, gradients)


def expected(before: Pass, changed: Replacement, zero: set[str], absorbs: bool) -> tuple[set[str], set[str]]:
    """The parameters that should change, and those that may: what has a gradient of zero in one of the networks.

    zero: those whose gradient is zero in the new network. absorbs: its layers take out what is added to a channel, by
    a bias or by a beta anywhere before them.
    """
    still = unlearned(before, changed)
    before = before.named({old: new for item in changed.sites for old, new in item.new_names().items()})
    used = set(before.gradients) - zeros(before.gradients)
    came, idle = new_parameters(changed), new_parameters(changed, uncalled=True)
    lost = {id(value) for item in changed.sites if item.old for value in item.old.parameters()}
    lost -= {id(value) for item in changed.sites if item.new for value in item.new.parameters()}
    beside = {f"{bias.producer}.bias" for item in changed.sites for bias in item.biases if bias.producer}
    should, may = set[str](), set[str]()
    for name, value in changed.model.named_parameters():
        if not value.requires_grad or not (name in came or name in before.gradients):
            continue
        # whether a pass of training calls it was not seen; its old layer did not learn; or it alone read it
        if name in idle | still or id(value) in lost:
            may.add(name)
            continue
        shifts = name in zero and value.dim() == 1 and (absorbs or name in came)
        may_be_zero = shifts or (name not in came and (name in beside or name not in used))
        (may if may_be_zero else should).add(name)
    return should, may


def zeros(gradients: Mapping[str, Tensor]) -> set[str]:
    """The names of those that are zero, or the rounding of a zero."""
    least = _ROUNDING * largest(list(gradients.values()))
    return {name for name, value in gradients.items() if largest([value]) <= least}


def unlearned(before: Pass, changed: Replacement) -> set[str]:
    """Parameters of new layers whose old layer has some that should learn, and got no gradient."""
    found: set[str] = set()
    for item in changed.sites:
        if item.old is None or item.new is None:
            continue
        own = [inside(item.site.name, name) for name, p in item.old.named_parameters() if p.requires_grad]
        if own and not any(name in before.gradients for name in own):
            found |= {inside(item.site.name, name) for name, _ in item.new.named_parameters()}
    return found


def new_parameters(changed: Replacement, *, uncalled: bool = False) -> set[str]:
    """Names of the parameters that came with new layers or as biases, where they should learn.

    uncalled: those of the layers alone that the observed pass did not call.
    """
    found: set[str] = set()
    for item in changed.sites:
        if item.new is None or (uncalled and item.site.calls):
            continue
        roles = ((item.roles.gamma, item.carried.gamma), (item.roles.beta, item.carried.beta))
        carried = {name for name, word in roles if word == "carried"}
        for name, _ in item.new.named_parameters():
            if name.partition(".")[0] not in item.then and name not in carried:
                found.add(inside(item.site.name, name))
        found |= {f"{bias.producer}.bias" for bias in item.biases if bias.action == "given back"}
    return found & {name for name, _ in changed.model.named_parameters()}
