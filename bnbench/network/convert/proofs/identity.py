"""Proof 2: bnbench's own batch norm in the place of the network's own gives the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnbench.base.network_records import Proof
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.convert.proofs.trial import (
    MORE_SAMPLES,
    SAMPLES,
    CannotRunError,
    Inputs,
    Pass,
    Trials,
    relative,
    run,
)
from bnbench.network.convert.records import Choices, Replaced, inside
from bnbench.network.convert.replacement import replace_norms
from bnbench.norms import norms
from bnbench.norms.norm_layer import NormLayer

TOLERANCE = 1e-12
NAME = "batch = batch_custom"
_BATCH = ("batch", "sync")


def same_as_custom(trials: Trials) -> Proof:
    """Every batch norm becomes `batch_custom`: equal outputs, gradients and running statistics, and equal keys.

    In float64, in training and in inference, with random gamma, beta and running statistics, on random inputs. Of the
    outputs, the gradients and the statistics, each, the largest difference over the largest entry is at most 1e-12.
    A batch norm over few values multiplies the rounding of layers before it; then a larger batch decides.
    """
    mine = [site for site in trials.sites if site.behaviour.kind in _BATCH and not site.refused]
    if not mine:
        return Proof(NAME, None, None, "the network has no batch norm that could be exchanged")
    custom = NormLayer(norms.get("batch_custom"))
    twin = replace_norms(trials.copy(), mine, custom, Choices("batch"))
    left = [item for item in twin.sites if item.action != "converted"]
    names = {old: new for item in twin.sites for old, new in item.new_names().items()}
    keys = [[names.get(key, key) for key in trials.model.state_dict()], list(twin.model.state_dict())]
    own_names = any(old != new for old, new in names.items())
    if keys[0] != keys[1] and not (own_names and set(keys[0]) <= set(keys[1])):
        other = sorted(set(keys[0]) ^ set(keys[1])) or ["another order"]
        return Proof(NAME, False, ", ".join(other[:3]), "the keys of the state_dict differ")
    # a layer of another class may keep, say, the biased variance: its statistics are not those that torch would keep
    others = own_statistics(twin.sites)
    worst = float("inf")
    try:
        inputs = trials.inputs()
        for samples in (SAMPLES, MORE_SAMPLES):
            wanted = {mode: trials.before(mode, samples).named(names) for mode in (True, False)}
            if samples > SAMPLES:
                twin = replace_norms(trials.copy(), mine, custom, Choices("batch"))
            worst = min(worst, largest_distance(twin.model, inputs, wanted, others, samples))
            if worst <= TOLERANCE:
                break
    except CannotRunError as error:
        return Proof(NAME, None, None, f"{error}; the keys of the state_dict are equal")
    except BaseException as error:  # whatever a user's network raises
        raise_interrupt(error)
        return Proof(NAME, False, None, f"with batch_custom the network does not run: {first_line(error)}")
    same = "equal keys" + ", but for the layers' own names of gamma, beta and statistics" * own_names
    text = f"outputs, gradients and running statistics in float64, training and inference; {same}"
    if others:
        text += "; statistics are not compared where the old layer is of another class than torch's"
    if left:
        text += f"; {len(left)} of {len(mine)} batch norms stayed: {left[0].reason}"
    return Proof(NAME, bool(worst <= TOLERANCE), worst, text)


def largest_distance(
    model: nn.Module, inputs: Inputs, wanted: Mapping[bool, Pass], others: set[str], samples: int
) -> float:
    """Of the passes in training and in inference. others: buffers that are not compared, but taken over."""
    worst = 0.0
    for mode, before in wanted.items():
        given = run(model, inputs, mode, samples)
        worst = max(worst, distance(without(given, others), without(before, others)))
        for name in others:
            model.get_buffer(name).copy_(before.buffers[name])
    return worst


def own_statistics(sites: Sequence[Replaced]) -> set[str]:
    """Names of the running statistics that came from layers of another class than torch's batch norms."""
    return {
        inside(prefix, name)
        for item in sites
        if item.old is not None and not isinstance(item.old, _BatchNorm)
        for prefix in item.site.names
        for key, name in item.roles.statistics.items()
        if key != "num_batches_tracked" and key in item.old_roles.statistics
    }


def without(one: Pass, names: set[str]) -> Pass:
    """A pass without these buffers."""
    return Pass(one.outputs, one.gradients, {k: v for k, v in one.buffers.items() if k not in names})


def distance(given: Pass, wanted: Pass) -> float:
    """The largest relative difference of outputs, of gradients and of running statistics; infinite for NaN."""
    outputs = [dict(zip(map(str, range(len(p.outputs))), p.outputs, strict=True)) for p in (given, wanted)]
    found = [
        relative(*outputs),
        relative(given.gradients, wanted.gradients),
        relative(given.buffers, wanted.buffers),
    ]
    return max(float("inf") if value != value else value for value in found)
