"""Proof 5: one step of training changes exactly the parameters that it should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from bnbench.base.network_records import Proof
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.models.layers import NormLayer
from bnbench.network.convert.proofs.trial import CannotRunError, Pass, Trials, largest, run
from bnbench.network.convert.replacement import Choices, Replacement, replace_norms

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
    base = dict(trials.model.named_parameters())
    changed = replace_norms(trials.copy(), trials.sites, norm, choices)
    try:
        gradients = run(changed.model, inputs, True).gradients
    except BaseException as error:  # whatever a user's network raises
        raise_interrupt(error)
        return Proof(NAME, False, None, f"the converted network does not run: {first_line(error)}")
    moved = step(changed.model, gradients)
    should, may = expected(base, before, changed, norm.absorbs_bias)
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


def step(model: nn.Module, gradients: dict[str, Tensor]) -> set[str]:
    """The names of the parameters that one step changes."""
    scale = largest(list(gradients.values()))
    moved: set[str] = set()
    for name, value in model.named_parameters():
        before = value.detach().clone()
        if name in gradients:
            torch.optim.SGD([value], lr=1 / scale if scale else 1.0).step()
        if not torch.equal(before, value):
            moved.add(name)
    return moved


def expected(
    base: Mapping[str, Tensor], before: Pass, changed: Replacement, absorbs: bool
) -> tuple[set[str], set[str]]:
    """The parameters that should change, and those that may: what has a gradient of zero in one of the networks.

    absorbs: the new layers take out what is added to a channel, by a bias or by a beta anywhere before them.
    """
    scale = largest(list(before.gradients.values()))
    used = {
        name
        for name, value in before.gradients.items()
        if value.numel() and float(value.abs().max()) > _ROUNDING * scale
    }
    came = new_parameters(changed)
    should, may = set[str](), set[str]()
    beside = {f"{bias.producer}.bias" for item in changed.sites for bias in item.biases if bias.producer}
    before = before.named(
        names := {old: new for item in changed.sites for old, new in item.new_names().items()}
    )
    base = {names.get(name, name): value for name, value in base.items()}
    for name, value in changed.model.named_parameters():
        if not value.requires_grad:
            continue
        if (
            name in came
        ):  # a later layer may take out what it adds: then its gradient is the rounding of a zero
            (should if value.grad is None or bool(value.grad.any()) else may).add(name)
        elif (
            name in used
            and name not in beside
            and not (absorbs and value.dim() == 1 and value.grad is not None)
        ):
            should.add(name)
        elif name in before.gradients:
            may.add(name)  # a bias that does nothing in one of the two; a gradient of zero
    return should, may


def new_parameters(changed: Replacement) -> set[str]:
    """Names of the parameters that came with new layers or as biases, where they should learn."""
    found: set[str] = set()
    for item in changed.sites:
        if item.new is None:
            continue
        roles = ((item.roles.gamma, item.carried.gamma), (item.roles.beta, item.carried.beta))
        carried = {name for name, word in roles if word == "carried"}
        for name, _ in item.new.named_parameters():
            if name.partition(".")[0] not in item.then and name not in carried:
                found.add(f"{item.site.name}.{name}".lstrip("."))
        found |= {f"{bias.producer}.bias" for bias in item.biases if bias.action == "given back"}
    return found & set(_names(changed.model.named_parameters()))


def _names(pairs: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, _ in pairs]
