"""Data for the doctor: batches of a study, of a loader or of a tensor, and what is known of the training on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from bnbench.base.errors import BnbenchError
from bnbench.base.tokens import PAD, split_valid, valid_tokens

#: Batches that are looked at, and samples of them at most: enough for an interval, few enough to wait for.
BATCHES, SAMPLES = 16, 2048
#: Small batches: more of them, until there are so many samples.
MOST_BATCHES, LEAST_SAMPLES = 64, 256
#: Samples of a batch that is cut from a tensor.
CUT = 32
_WANTED = "an iterable of batches (inputs, or (inputs, targets)), or a tensor (samples, ...)."


@dataclass(frozen=True)
class DataBatch:
    """Inputs as the network takes them (a tensor, a tuple, or a dict of keyword arguments), and targets or None."""

    inputs: Any
    targets: Any
    size: int


@dataclass(frozen=True, eq=False)
class PatientData:
    """What the rules with data look at.

    source: its name, for the output. batch_size: samples of a training step, None where it is not known. samples: of
    the training part. last_size: samples of the last batch of an epoch. steps: that are planned. objective: from the
    outputs and the targets of a batch to the loss. metrics: from the same to numbers that are means over samples.
    padded: some sequences with less and with more padding at the end, None where data has none.
    said: what was done to fit it to the network.
    """

    source: str
    batches: tuple[DataBatch, ...]
    batch_size: int | None = None
    samples: int | None = None
    last_size: int | None = None
    steps: int | None = None
    objective: Callable[[Any, Any], Tensor] | None = None
    objective_name: str = ""
    metrics: Callable[[Any, Any], Mapping[str, float]] | None = None
    padded: tuple[Any, Any] | None = None
    said: tuple[str, ...] = ()

    @property
    def inputs(self) -> Callable[[int], Any] | None:
        """From a number of samples to the first of them, from the start again where there are fewer; None where inputs
        are no tensors of one shape."""
        tensors = [batch.inputs for batch in self.batches]
        if not all(isinstance(x, Tensor) and x.shape[1:] == tensors[0].shape[1:] for x in tensors):
            return None
        known = torch.cat(tensors[:4])
        return lambda samples: known[torch.arange(samples) % len(known)]

    @property
    def total(self) -> int:
        """Samples that are looked at."""
        return sum(batch.size for batch in self.batches)


def is_enough(batches: int, samples: int) -> bool:
    """Whether so many batches, with so many samples, are enough to look at."""
    if samples >= SAMPLES or batches >= MOST_BATCHES:
        return True
    return batches >= BATCHES and samples >= LEAST_SAMPLES


def data_of(given: object) -> PatientData:
    """Data as it is given in Python: a tensor, a DataLoader, or an iterable of batches. The first of it are looked at.

    Of a DataLoader the batch size, the number of samples and
    the last batch are known, too. Raises BnbenchError where it holds no batch.
    """
    if isinstance(given, PatientData):
        return given
    if isinstance(given, Tensor):
        return _of_tensor(given, SAMPLES)
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise BnbenchError(f"data: a {type(given).__name__} has no batches.", fix=f"data: {_WANTED}")
    found: list[DataBatch] = []
    for one in given:
        found.append(_batch(one))
        if is_enough(len(found), sum(batch.size for batch in found)):
            break
    if not found:
        raise BnbenchError("data: it holds no batch.", fix=f"data: {_WANTED}")
    known = _of_loader(given) or _of_list(given)
    size = known.get("batch_size") or found[0].size
    metrics = usual_metrics if all(_labelled(batch) for batch in found) else None
    return PatientData(
        f"a {type(given).__name__}", tuple(found), metrics=metrics, **{**known, "batch_size": size}
    )


class Stream:
    """Batches that are read while they are used: a data set need not fit into memory. first: the first of them."""

    def __init__(self, given: object) -> None:
        if isinstance(given, Tensor):
            given = list(_of_tensor(given, len(given)).batches)
        if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
            raise BnbenchError(f"data: a {type(given).__name__} has no batches.", fix=f"data: {_WANTED}")
        start = iter(given)
        try:
            first = next(start)
        except StopIteration:
            raise BnbenchError("data: it holds no batch.", fix=f"data: {_WANTED}") from None
        self.first = _batch(first)
        self._given: Iterable[Any] = chain([first], start) if start is given else given

    def __iter__(self) -> Iterator[DataBatch]:
        return map(_batch, self._given)


def _of_tensor(given: Tensor, samples: int) -> PatientData:
    if given.ndim < 2 or not len(given):
        raise BnbenchError(
            f"data: a tensor of shape {tuple(given.shape)} has no samples.", fix=f"data: {_WANTED}"
        )
    given = given[:samples]
    parts = torch.split(given, max(2, min(CUT, len(given) // 8)))
    return PatientData("a tensor", tuple(DataBatch(part, None, len(part)) for part in parts))


def _of_loader(given: object) -> dict[str, Any]:
    """What a DataLoader says of itself."""
    if not isinstance(given, torch.utils.data.DataLoader):
        return {}
    drawn = given.batch_sampler if isinstance(given.batch_sampler, torch.utils.data.BatchSampler) else given
    size = drawn.batch_size
    if size is None:
        return {}
    try:
        samples = len(drawn.sampler)  # type: ignore[arg-type]
    except TypeError:  # an iterable data set
        return {"batch_size": size}
    rest = samples % size
    return {
        "batch_size": size,
        "samples": samples,
        "last_size": size if rest == 0 or drawn.drop_last else rest,
    }


def _of_list(given: object) -> dict[str, Any]:
    """What a list of all batches says: its last one is the last of an epoch."""
    if not isinstance(given, list | tuple):
        return {}
    sizes = [_batch(one).size for one in given]
    return {"batch_size": max(sizes), "samples": sum(sizes), "last_size": sizes[-1]}


def _batch(given: object) -> DataBatch:
    """One batch: inputs, or a pair of inputs and targets; of a dict the targets are its "labels"."""
    if isinstance(given, DataBatch):
        return given
    if isinstance(given, Mapping):
        inputs = {name: value for name, value in given.items() if name not in ("labels", "label")}
        return DataBatch(inputs, given.get("labels", given.get("label")), _size(inputs))
    if isinstance(given, Sequence) and not isinstance(given, str | bytes) and len(given) == 2:
        return DataBatch(given[0], given[1], _size(given[0]))
    if isinstance(given, Sequence) and not isinstance(given, str | bytes) and len(given) == 1:
        return DataBatch(given[0], None, _size(given[0]))
    return DataBatch(given, None, _size(given))


def _size(inputs: object) -> int:
    values = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    values = list(inputs) if isinstance(inputs, tuple) else values
    tensor = next((value for value in values if isinstance(value, Tensor) and value.ndim), None)
    if tensor is None:
        raise BnbenchError(
            f"data: a batch is a {type(inputs).__name__} without a tensor.", fix=f"data: {_WANTED}"
        )
    return len(tensor)


def _labelled(batch: DataBatch) -> bool:
    return isinstance(batch.targets, Tensor) and batch.targets.ndim > 0


def usual_metrics(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
    """Cross-entropy and accuracy of logits (N, classes, ...) for labels (N, ...); the mean squared error of numbers.

    Nothing where they do not fit each other.
    """
    if targets.is_floating_point():
        same = outputs.shape == targets.shape
        return {"mse": float((outputs.double() - targets.double()).square().mean())} if same else {}
    if targets.dtype != torch.int64 or outputs.ndim != targets.ndim + 1:
        return {}
    if (
        outputs[:, 0].shape != targets.shape
        or int(targets.max()) >= outputs.shape[1]
        or int(targets.min()) < 0
    ):
        return {}
    logits = outputs.double()
    right = (logits.argmax(1) == targets).double().mean()
    return {"loss": float(torch.nn.functional.cross_entropy(logits, targets)), "accuracy": float(right)}


def padded_pair(inputs: Tensor) -> tuple[Tensor, Tensor] | None:
    """The shorter half of padded sequences (see `base.tokens`), with less and with more padding at the end.

    inputs: tokens (N, T) int64, or numbers (N, T, C + 1). None where every sequence is empty.
    """
    valid = valid_tokens(inputs) if inputs.ndim == 2 else split_valid(inputs)[1]
    lengths = valid.sum(1)
    chosen = lengths.argsort()[: max(2, len(lengths) // 2)]
    longest, size = int(lengths[chosen].max()), inputs.shape[1]
    if longest == 0:
        return None
    kept = inputs[chosen]
    short = kept[:, :longest]
    if size - longest < max(2, size // 4):  # hardly any padding: some is added
        more = kept.new_full((len(kept), max(2, size // 2), *kept.shape[2:]), PAD)
        return short, torch.cat([kept, more], 1)
    return short, kept
