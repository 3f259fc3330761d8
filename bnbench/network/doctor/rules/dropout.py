"""Dropout before a layer with running statistics."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.network.doctor.measures import has_inputs, may_drop, shifts_of, site_of, tracked_of
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules

#: A ratio of variances nearer to 1 than that changes no output by 2.5 %.
LEAST = 1.05


@rules.register(
    "D16",
    title="dropout before a normalization with running statistics",
    cost="Running variances are taken with dropout on and used with it off: outputs of inference have another scale.",
    needs=("forward",),
)
def dropout_before(patient: Patient) -> Iterator[Symptom]:
    """Dropout changes the variance of what a layer normalizes, in training alone: the variance shift.

    With a rate p the variance of a channel of mean m grows from v to (v + p m²) / (1 - p). The layer's running variance
    is that of training; in inference the inputs have the smaller one (Li et al. 2019, arXiv 1801.05134, section 3). The
    ratio is measured: the network runs in training mode with noise on and off, the layers before use the statistics of
    the batch in both. Noise is dropout, and whatever a forward makes of random numbers where it is training.

    Evidence: the variance in training over the variance in inference, the median of the layer's channels.

    Meant: a ratio of less than 1.05, or whose interval (bootstrap over batches) has the 1, is no finding. Stochastic
    depth (whole branches of a sample) is a note: networks that use it are trained so. Dropout after the last
    normalization, and before layers without running statistics, shifts nothing; nor does noise that stays on in
    inference (a variational autoencoder).

    Fix: dropout after the last normalization, or a normalizer that does the same in both modes (group, layer).

    Threads: luigibonati/mlcolvar#205
    """
    if not has_inputs(patient) or not may_drop(patient):
        return
    names = {layer.name for layer in tracked_of(patient).layers}
    for name, shift in shifts_of(patient).items():
        ratio, site = shift.ratio, site_of(patient, name)
        apart = max(ratio.value, 1 / max(ratio.value, 1e-12)) >= LEAST
        certain = ratio.low > 1 or ratio.high < 1
        if name not in names or not (apart and certain):
            continue
        yield Symptom(
            place=site.name if site is not None else name,
            evidence=ratio.value,
            measure="times the variance of inference in training",
            message="Noise before this layer changes the variance of its inputs in training alone.",
            fix=f"move {shift.by} behind the last normalization, or use group or layer norm here",
            severity="note" if shift.whole else "warning",
        )
