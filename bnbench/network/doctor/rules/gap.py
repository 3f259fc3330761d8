"""The train/eval gap: the first layer where running statistics and those of the data part ways."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.base.gap_records import TrainEvalGap
from bnbench.network.doctor.causes import Case, Cause, likely_cause
from bnbench.network.doctor.gap import Measured
from bnbench.network.doctor.measures import gap_of, padding_of, shifts_of, site_of
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules

#: The key under which the measured gap is kept, for the diagnosis.
RECORD = "train_eval_gap"


@rules.register(
    "D01",
    title="train/eval gap",
    cost="Inference is another function than the one that was trained: accuracy is lost, or changes with the batch.",
    needs=("data",),
)
def train_eval_gap(patient: Patient) -> Iterator[Symptom]:
    """Running statistics differ from those of the data, so that inference does something else than training did.

    The same batches go through the network by its running statistics, by those of each batch, and by precise ones: the
    mean and the total variance of all batches, E[var] + Var[mean], each batch weighted by its values, from one pass in
    which the layers before use the statistics of the batch. Dropout and other noise are off. A layer's gap is the root
    mean square difference of its normalized outputs by running and by precise statistics. The finding stands at the
    first layer, in the order of execution, whose whole interval (95 %, bootstrap over batches) is above the noise
    floor: 95 % of the same between the statistics of two halves of the data lie below that.

    The cause is the likely one, with the number that speaks for it: a checkpoint without buffers, statistics that were
    never updated, a shared layer that sees two distributions, a momentum too small for the steps, dropout or padding
    before the layer, batches too small, a momentum that keeps only the last batch, or inputs unlike those of training.

    Evidence: the gap at that layer, in standard deviations.

    Meant: a gap below 0.1 standard deviations, which momentum 0.1 makes of batches of few values, is no finding. Nor is
    any in a network that was never trained, or in layers that use running statistics in training, too.

    Fix: see the cause; in any case precise statistics: `evaluate: [running, precise]` in a study.

    Threads: pytorch/pytorch#4741, pytorch/pytorch#5406, ultralytics/ultralytics#5891, pengsongyou/openscene#20,
    keras-team/keras#6977
    """
    assert patient.data is not None
    measured = gap_of(patient)
    opened = measured.opened if patient.was_trained else ()
    first = opened[0] if opened else None
    cause = _cause(patient, first.name) if first is not None else Cause("", "", "")
    patient.kept[RECORD] = TrainEvalGap(
        source=patient.data.source,
        batches=len(patient.data.batches),
        samples=patient.data.total,
        definition="batch",
        layers=measured.layers,
        output=measured.output,
        metrics=measured.metrics,
        first=first.name if first is not None else "",
        cause=cause.text,
        evidence=cause.evidence,
        left_out=measured.tracked.left_out,
        judged=patient.was_trained,
    )
    if first is None:
        return
    site = site_of(patient, first.name)
    yield Symptom(
        place=site.name if site is not None else first.name,
        evidence=first.gap.value,
        measure=f"standard deviations between running and precise statistics ({first.gap.low:.2g} to "
        f"{first.gap.high:.2g}; floor {first.floor:.2g})",
        message=f"Training and inference part ways here, and in {len(opened)} of {len(measured.layers)} layers with "
        f"running statistics. Likely cause: {cause.text} ({cause.evidence}).",
        fix=cause.fix,
        severity="warning" if _matters(measured) else "note",
    )


def _matters(measured: Measured) -> bool:
    """Whether the output, or a metric, shows the gap."""
    output = measured.output
    if output is not None and output.running_precise.low > output.floor:
        return True
    return any(metric.running_precise.excludes_zero for metric in measured.metrics)


def _cause(patient: Patient, name: str) -> Cause:
    assert patient.data is not None
    measured, site = gap_of(patient), site_of(patient, name)
    layer = next(layer for layer in measured.tracked.layers if layer.name == name)
    return likely_cause(
        Case(
            layer=layer,
            module=patient.model.get_submodule(name),
            statistics=measured.statistics[name],
            running=measured.running[name],
            momentum=site.behaviour.momentum if site is not None else None,
            is_first=measured.layers[0].name == name,
            data=patient.data,
            checkpoint=patient.checkpoint,
            shift=shifts_of(patient).get(name),
            padding=padding_of(patient),
        )
    )
