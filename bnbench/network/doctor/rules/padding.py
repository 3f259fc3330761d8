"""Padding inside statistics."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.network.doctor.measures import padding_of
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules


@rules.register(
    "D25",
    title="padding inside statistics",
    cost="What becomes of a sequence depends on how long the other sequences of its batch are.",
    needs=("data",),
)
def padding_inside(patient: Patient) -> Iterator[Symptom]:
    """A normalization takes its statistics over padded positions, too: more padding moves the valid ones.

    The same sequences go through the network with less and with more padding at the end, in training mode with noise
    off. The finding stands at the first normalization, in the order of execution, that gives other outputs at positions
    whose inputs were equal.

    Evidence: the largest difference there, in standard deviations of the layer's output.

    Meant: only data with padding is judged: sequences of a task whose data carry it. A network that moves valid
    positions without a normalization (a mean over all positions) is no finding.

    Fix: a normalizer that takes the mask (`masked_batch`), or one of each position (`layer`, `rms`).

    Threads: pytorch/pytorch#70529, pytorch/pytorch#81985, pytorch/audio#4205, sIncerass/powernorm#13
    """
    effect = padding_of(patient)
    if effect is None or not effect.name:
        return
    yield Symptom(
        place=effect.name,
        evidence=effect.moved,
        measure="standard deviations, by which more padding moves a valid position",
        message=f"Padded positions are part of its statistics. The network's output moves by {effect.output:.2g} "
        "standard deviations.",
        fix="norm: masked_batch, which takes the mask, or nn.LayerNorm",
    )
