"""A data set split, normalised and on the device: what a run trains on, and what it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bnbench.base.seeding import generator
from bnbench.data import Dataset, Sizes, count_classes
from bnbench.data.normalisation import Normalize, normalisation, normalisation_of_sequences, normalise_
from bnbench.data.sample_transforms import Pixels
from bnbench.data.split import Chosen, Sampling, choose
from bnbench.data.tensors import Pair, gathered, moved
from bnbench.study import Choice

#: `remarks(part, targets, class_names)`: sentences on the targets of the "training", "validation" or "test" part.
Remarks = Callable[[str, Tensor, Sequence[str]], Iterable[str]]

#: The largest number of training samples that measure train_loss.
PROBE_SIZE = 5000


@dataclass(frozen=True)
class Preparation:
    """The used samples of a data set, their normalisation and the task.

    normalize: "standard" takes out the training part's mean and std per channel; "unit" divides by its largest
    absolute value, so that what is zero stays zero; "signed" takes its smallest value to -1 and its largest to 1, of
    all channels alike. Integers that are no bytes (tokens) stay as they are.
    """

    sampling: Sampling
    task: Choice
    normalize: Normalize = "standard"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set split and on the device.

    train_inputs: (N, ...) as they came: `normalise_` is for each batch, so that bytes stay bytes in memory. Other
    *_inputs: float32, (inputs as they came - mean) / std. *_targets: (N, ...). probe_*: the fixed samples of the
    training part, as they are, on which train_loss is measured. class_names: empty where targets are no classes.
    task: as the study names it. center, scale: mean and std of the channels, (C, 1, 1) float32 for images; the
    scale of a channel that never varies is 1; None where inputs are not normalised. notes: what the user should
    know. cautions: what limits the answer. test_sets: inputs and targets of further test sets, as test_* are.
    aid: what the task needs to measure its metrics, None for most (see `Task.aid`). target_center, target_scale:
    (columns,) float64 on the CPU, mean and std of the training targets, which are taken out of *_targets; None where
    targets are as they came.
    """

    train_inputs: Tensor
    train_targets: Tensor
    val_inputs: Tensor
    val_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    probe_inputs: Tensor
    probe_targets: Tensor
    class_names: tuple[str, ...]
    task: Choice
    sizes: Sizes
    fingerprint: str
    center: Tensor | None
    scale: Tensor | None
    notes: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    test_sets: Mapping[str, Pair] = field(default_factory=dict)
    aid: object | None = None
    target_center: Tensor | None = None
    target_scale: Tensor | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.sizes.input_shape

    def part_sizes(self) -> tuple[int, ...]:
        """Samples of the parts that are evaluated: the training probe, validation, test, further test sets."""
        further = (targets for _, targets in self.test_sets.values())
        return tuple(map(len, (self.probe_targets, self.val_targets, self.test_targets, *further)))

    def class_counts(self) -> dict[str, tuple[int, ...]]:
        """Samples of each class in "train" (trained on), "probe" (what train metrics are of), "val" and "test"."""
        if not self.class_names:
            return {}
        parts = {
            "train": self.train_targets,
            "probe": self.probe_targets,
            "val": self.val_targets,
            "test": self.test_targets,
            **{name: targets for name, (_, targets) in self.test_sets.items()},
        }
        return {part: count_classes(targets, len(self.class_names)) for part, targets in parts.items()}

    def pixels(self) -> Pixels:
        """How its normalised inputs are shown as pixels."""
        masks = self.sizes.per_position and self.train_inputs.ndim == 4 and self.train_targets.ndim == 3
        return Pixels(self.center, self.scale, self.train_inputs.dtype == torch.uint8, masks)

    def normalise_(self, inputs: Tensor) -> Tensor:
        """(inputs - mean) / std, in place: float32 of shape (..., C, H, W), or of padded sequences, (..., T, C + 1)."""
        if self.center is None or self.scale is None:
            return inputs
        return normalise_(inputs, self.center, self.scale, self.sizes.masked)

    def standard_targets(self, targets: Tensor) -> Tensor:
        """Targets (N, columns) in their own units as a network learns them, float32; others as they are."""
        if self.target_center is None or self.target_scale is None:
            return targets
        standard = (targets.cpu().double() - self.target_center) / self.target_scale
        return standard.float().to(targets.device)

    def train_batch(self, index: Tensor) -> Tensor:
        """The normalised training inputs of an index (N,)."""
        batch = gathered(self.train_inputs, index)
        return batch if self.center is None else self.normalise_(batch.float())


def prepare(
    dataset: Dataset,
    preparation: Preparation,
    device: torch.device,
    sizes: Sizes,
    remarks: Remarks = lambda part, targets, class_names: (),
    probe_size: int = PROBE_SIZE,
) -> Prepared:
    """Hold out the validation part and choose what is used (see `choose`), normalise, move to the device.

    probe_size: of the part of the training samples on which train_loss is measured, at most. Raises DataError where
    nothing is left to train on.
    """
    chosen = dataset.chosen or choose(dataset, preparation.sampling)
    (train_inputs, train_targets), val, test = _parts(dataset, chosen)
    if sizes.masked:
        normal = normalisation_of_sequences(train_inputs, preparation.normalize)
    else:
        normal = normalisation(train_inputs, preparation.normalize, shifted=dataset.shifted)

    def ready(part: str, pair: Pair) -> tuple[Tensor, Tensor]:
        return moved(normal.applied(part, pair[0], sizes.masked), device), moved(pair[1], device)

    sampling, names = preparation.sampling, dataset.class_names
    limit = min(probe_size, sampling.max_eval or probe_size)
    return Prepared(
        moved(train_inputs, device),
        moved(train_targets, device),
        *ready("validation", val),
        *ready("test", test),
        *ready("training", _probe(train_inputs, train_targets, sampling.seed, limit)),
        class_names=names,
        task=preparation.task,
        sizes=sizes,
        fingerprint=dataset.fingerprint,
        center=None if normal.center is None else normal.center.to(device),
        scale=None if normal.scale is None else normal.scale.to(device),
        notes=(
            *dataset.notes,
            *chosen.notes,
            *_limit_note(len(train_targets), chosen.available),
            *remarks("training", train_targets, names),
            *normal.notes,
            *_notes_on_evaluation(chosen.sizes, (val[1], test[1]), names, remarks),
        ),
        cautions=dataset.cautions,
    )


def _parts(dataset: Dataset, chosen: Chosen) -> tuple[Pair, Pair, Pair]:
    """Inputs and targets to train on, to validate and to test with."""
    own = dataset.val_inputs, dataset.val_targets
    if dataset.chosen:  # it holds nothing else
        assert own[0] is not None
        assert own[1] is not None
        return (
            (dataset.train_inputs, dataset.train_targets),
            (own[0], own[1]),
            (dataset.test_inputs, dataset.test_targets),
        )
    inputs, targets = own if chosen.own_val else (dataset.train_inputs, dataset.train_targets)
    assert inputs is not None
    assert targets is not None
    return (
        (_taken(dataset.train_inputs, chosen.train), _taken(dataset.train_targets, chosen.train)),
        (inputs[chosen.val], targets[chosen.val]),
        (dataset.test_inputs[chosen.test], dataset.test_targets[chosen.test]),
    )


def _taken(tensor: Tensor, ascending: Tensor) -> Tensor:
    """The samples of an ascending index without repeats; where these are all, the tensor itself: no copy."""
    return tensor if len(ascending) == len(tensor) else tensor[ascending]


def _probe(inputs: Tensor, targets: Tensor, seed: int, limit: int) -> tuple[Tensor, Tensor]:
    """A fixed draw from the training part, or all of it where it is small."""
    index = torch.randperm(len(targets), generator=generator(seed, "probe"))[:limit]
    return gathered(inputs, index), gathered(targets, index)


def _limit_note(used: int, available: int) -> tuple[str, ...]:
    if used == available:
        return ()
    return (f"{used} of {available} training samples are used (max_train_samples)",)


def _notes_on_evaluation(
    sizes: Mapping[str, int], targets: Sequence[Tensor], class_names: Sequence[str], remarks: Remarks
) -> Iterator[str]:
    """Notes on validation and test: the samples left out, and the task's remarks on their targets."""
    for (part, size), used in zip(sizes.items(), targets, strict=True):
        if len(used) < size:
            yield f"{len(used):,} of {size:,} {part} samples are evaluated, a fixed random draw (max_eval_samples)"
        yield from remarks(part, used, class_names)
