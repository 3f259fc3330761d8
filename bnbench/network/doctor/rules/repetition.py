"""Layers that are called again: at each time step of a recursion, and twice for one batch."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.network.doctor.call_statistics import apart_over_calls
from bnbench.network.doctor.measures import batches_of, has_inputs, site_of, updates_of
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.sites.norm_site import NormSite, NormSites


@rules.register(
    "D21",
    title="batch norm in a recursion",
    cost="One mean and one variance stand for all time steps: inference normalizes early steps by those of late ones.",
    needs=("forward",),
)
def in_recursion(patient: Patient) -> Iterator[Symptom]:
    """What a layer with running statistics gives comes back to it within one forward pass, as in a recurrent network.

    Activations of the first time steps have other statistics than later ones (Cooijmans et al. 2016, arXiv 1603.09025,
    section 4). Training takes each step's own; inference has one set for all, and the last step's weigh most in it.

    Evidence: how far the statistics of the first and the last call lie apart, in standard deviations.

    Meant: a layer that is called at several places without a path from one call to the next is D05.

    Fix: layer norm or RMS norm in the recursion, or one batch norm a time step.

    Threads: jihunchoi/recurrent-batch-normalization-pytorch#1, OlavHN/bnlstm#7
    """
    if not has_inputs(patient):
        return
    for site in patient.norms:
        if site.behaviour.kind not in ("batch", "sync") or not site.behaviour.running or site.calls < 2:
            continue
        if not _comes_back(patient.sites, site):
            continue
        apart = apart_over_calls(patient.model, site, batches_of(patient)[0])
        yield Symptom(
            place=site.name,
            evidence=apart,
            measure=f"standard deviations between the first and the last of {site.calls} calls",
            message="Its output comes back to it in the same forward pass, and all calls share running statistics.",
            fix="nn.LayerNorm here, or one batch norm for each time step",
        )


def _comes_back(sites: NormSites, site: NormSite) -> bool:
    """Whether a path leads from one call of the site to another."""
    calls = [node.index for node in sites.nodes if node.module is site.module and node.kind == "module"]
    inputs = {node.index: node.inputs for node in sites.nodes}
    for start in calls:
        seen, waiting = set[int](), list(inputs.get(start, ()))
        while waiting:
            index = waiting.pop()
            if index in calls:
                return True
            if index not in seen:
                seen.add(index)
                waiting += inputs.get(index, ())
    return False


@rules.register(
    "D26",
    title="statistics moved twice by one batch",
    cost="The effective momentum is larger than the one that is set, and the last batches weigh more.",
    needs=("forward",),
)
def moved_twice(patient: Patient) -> Iterator[Symptom]:
    """One training step moves running statistics more than once: activation checkpointing, or a second forward pass.

    `torch.utils.checkpoint` runs a block again in the backward pass, and the batch norms in it update again. A
    network whose forward calls a part twice with the same inputs does so, too. A forward and a backward pass are run,
    and the updates are counted.

    Evidence: the updates of one training step.

    Meant: a layer that is called with other inputs each time is D05.

    Fix: momentum 1 - sqrt(1 - m) in place of m, or batch norms outside of the checkpointed part.

    Threads: pytorch/pytorch#96136, YOLO-Master#262
    """
    if not has_inputs(patient):
        return
    for name, updates in updates_of(patient).items():
        if not (updates.backward or updates.repeated):
            continue
        site = site_of(patient, name)
        why = (
            "The backward pass runs it again (activation checkpointing)."
            if updates.backward
            else "It is called again with the same inputs."
        )
        yield Symptom(
            place=site.name if site is not None else name,
            evidence=updates.updates,
            measure="updates in one training step",
            message=f"One batch moves its running statistics more than once. {why}",
            fix="keep it out of the part that runs twice, or set momentum to 1 - (1 - m)^(1/2)",
        )
