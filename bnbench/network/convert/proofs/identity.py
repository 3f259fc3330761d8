"""Proof 2: bnbench's own batch norm in the place of the network's own gives the same numbers."""

from __future__ import annotations

from bnbench.base.network_records import Proof
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.models.layers import NormLayer
from bnbench.network.convert.proofs.trial import CannotRunError, Pass, Trials, relative, run
from bnbench.network.convert.replacement import Choices, replace_norms
from bnbench.norms import norms

TOLERANCE = 1e-12
NAME = "batch = batch_custom"
_BATCH = ("batch", "sync")


def same_as_custom(trials: Trials) -> Proof:
    """Every batch norm becomes `batch_custom`: equal outputs, gradients and running statistics, and equal keys.

    In float64, in training and in inference, with random gamma, beta and running statistics, on random inputs. Of the
    outputs, the gradients and the statistics, each, the largest difference over the largest entry is at most 1e-12.
    """
    mine = [site for site in trials.sites if site.behaviour.kind in _BATCH and not site.refused]
    if not mine:
        return Proof(NAME, None, None, "the network has no batch norm that could be exchanged")
    custom = NormLayer(norms.get("batch_custom"))
    twin = replace_norms(trials.copy(), mine, custom, Choices("batch"))
    left = [item for item in twin.sites if item.action != "converted"]
    keys = [list(trials.model.state_dict()), list(twin.model.state_dict())]
    if keys[0] != keys[1]:
        other = sorted(set(keys[0]) ^ set(keys[1])) or ["another order"]
        return Proof(NAME, False, ", ".join(other[:3]), "the keys of the state_dict differ")
    try:
        inputs, wanted = trials.inputs(), {mode: trials.before(mode) for mode in (True, False)}
    except CannotRunError as error:
        return Proof(NAME, None, None, f"{error}; the keys of the state_dict are equal")
    try:
        worst = max(distance(run(twin.model, inputs, mode), wanted[mode]) for mode in wanted)
    except BaseException as error:  # whatever a user's network raises
        raise_interrupt(error)
        return Proof(NAME, False, None, f"with batch_custom the network does not run: {first_line(error)}")
    text = "outputs, gradients and running statistics in float64, training and inference; equal keys"
    if left:
        text += f"; {len(left)} of {len(mine)} batch norms stayed: {left[0].reason}"
    return Proof(NAME, bool(worst <= TOLERANCE), worst, text)


def distance(given: Pass, wanted: Pass) -> float:
    """The largest relative difference of outputs, of gradients and of running statistics; infinite for NaN."""
    outputs = [dict(zip(map(str, range(len(p.outputs))), p.outputs, strict=True)) for p in (given, wanted)]
    found = [
        relative(*outputs),
        relative(given.gradients, wanted.gradients),
        relative(given.buffers, wanted.buffers),
    ]
    return max(float("inf") if value != value else value for value in found)
