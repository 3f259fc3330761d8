"""torchvision's transforms as augmentations: each sample draws for itself. Oracles: v2 called by hand, closed forms."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from bnbench.api.plugins import known_names
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.base.process_state import seeded
from bnbench.base.seeding import generator
from bnbench.data.augmentations import Augmentation, augmentation_of, augmentations
from bnbench.data.augmentations.torchvision_transforms import GEOMETRIC, NEEDED, PHOTOMETRIC, POLICIES
from bnbench.data.sample_transforms import Pixels
from bnbench.data.tensors import IGNORED, make_dataset
from bnbench.engine.library import Library
from bnbench.engine.loop import Training
from bnbench.study import Choice, Settings, Vocabulary, load_study
from bnbench.study.augment_names import REFUSED
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec, make_plan
from tests.prepared import prepare
from tests.training import chosen_for, scheduled

CPU = torch.device("cpu")
BASE = (
    "dataset: digits\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: sgd, lr: 0.1}\n"
    "variants: [none, batch]\nepochs: 1\nseeds: 2\n"
)


def chosen(name: str, **options: Any) -> Augmentation:
    found = augmentation_of(Choice(name=name, options=options))
    assert found
    return found


def bytes_of(count: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator(0, "bytes"))


@pytest.mark.parametrize(("name", "table"), [(n, t) for t in (GEOMETRIC, PHOTOMETRIC, POLICIES) for n in t])
def test_options_and_defaults_are_torchvisions_own(name: str, table: Any) -> None:
    """Oracle: the signature of the class. A size that it asks for has the image's own as its default here."""
    theirs = inspect.signature(getattr(v2, name).__init__).parameters
    for option, (_, default) in table[name][1].items():
        if option == "size":
            continue
        expected = theirs[option].default
        if default is NEEDED:
            assert expected is inspect.Parameter.empty
        elif name == "AutoAugment" and option == "policy":
            assert expected.value == default
        else:
            assert (list(expected) if isinstance(expected, tuple) else expected) == default


def test_every_transform_of_torchvision_is_known_or_refused_with_a_reason() -> None:
    theirs = {
        name
        for name, each in vars(v2).items()
        if inspect.isclass(each) and issubclass(each, v2.Transform | torch.nn.Module) and name != "Transform"
    }
    assert theirs - set(augmentations.names()) - set(REFUSED) == set()


def test_flips_are_drawn_for_each_sample_and_half_of_them() -> None:
    """A rising row falls where it was mirrored. Of n = 4000 with p = 0.25, within 4 standard deviations."""
    rows = torch.arange(8.0).expand(4000, 1, 2, 8)
    seen = chosen("RandomHorizontalFlip", p=0.25)(rows, generator(0, "augment"))
    flipped = seen[:, 0, 0, 0] > seen[:, 0, 0, -1]
    assert abs(float(flipped.float().mean()) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    # neighbours are independent: the share of pairs that agree is p² + (1 - p)²
    agree = (flipped[1:] == flipped[:-1]).float().mean()
    assert abs(float(agree) - 0.625) < 4 * (0.625 * 0.375 / 4000) ** 0.5


def test_each_image_is_one_call_of_torchvision_in_a_private_state() -> None:
    """Oracle: the same calls by hand, from the seed that the batch's generator gives, on the bytes."""
    images, center, scale = bytes_of(5, 3, 12, 10), torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 60.0)
    inputs = (images.float() - center) / scale
    steps = chosen("sequence", steps=[{"name": "ColorJitter", "brightness": 0.4, "hue": 0.1}])
    found, _ = steps.augmented(inputs, images, generator(7, "augment"), Pixels(center, scale, True))
    seed = int(torch.randint(2**62, (), generator=generator(7, "augment")))
    with seeded(seed, CPU):
        transform = v2.ColorJitter(brightness=0.4, hue=0.1)
        expected = torch.stack([transform(image) for image in images])
    assert not torch.equal(expected, images)
    assert torch.equal(found, (expected.float() - center) / scale)


def test_nothing_is_drawn_from_the_process() -> None:
    images = torch.randn(4, 3, 16, 16, generator=generator(0, "images"))
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    pixels = Pixels(torch.tensor(100.0), torch.tensor(50.0), are_bytes=True)
    step = chosen("sequence", steps=[{"name": "RandAugment"}, {"name": "crop_flip"}, {"name": "AugMix"}])
    first, second = (step.augmented(images, images, generator(3, "x"), pixels)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, step.augmented(images, images, generator(4, "x"), pixels)[0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (repr(np.random.get_state()), random.getstate())


@pytest.mark.parametrize("normalize", ["standard", "unit", "signed"])
def test_bytes_come_back_exactly_whatever_the_normalisation(normalize: Any) -> None:
    images = bytes_of(40, 3, 6, 6)
    labels = torch.arange(40) % 2
    data = make_dataset("x", (images, labels), (images, labels), ["a", "b"])
    prepared = prepare(data, val_fraction=0.2, split_seed=0, device=CPU, normalize=normalize)
    index = torch.arange(len(prepared.train_targets))
    batch = prepared.train_batch(index)
    shown = prepared.pixels().shown(batch)
    assert torch.equal(shown, prepared.train_inputs)
    assert torch.equal(prepared.pixels().normalised(shown, batch), batch)


def test_a_mask_moves_with_its_image_and_what_comes_into_view_is_ignored() -> None:
    """The image is its own mask: after any move both agree wherever the mask is not IGNORED."""
    masks = torch.randint(0, 2, (6, 12, 12), generator=generator(0, "masks"))
    images = masks[:, None].float() + 5
    pixels = Pixels(None, None, are_bytes=False, masks=True)
    ignored = 0
    for name, options in (
        ("RandomAffine", {"degrees": 40, "translate": [0.3, 0.3]}),
        ("RandomHorizontalFlip", {"p": 0.5}),
        ("RandomCrop", {"padding": 3}),
    ):
        seen, moved = chosen(name, **options).augmented(images, masks, generator(0, name), pixels)
        inside = moved != IGNORED
        assert moved.dtype == torch.int64
        assert not torch.equal(moved, masks)
        assert torch.equal(seen[:, 0][inside], moved[inside].float() + 5)
        assert (seen[:, 0][~inside] == 0).all()
        ignored += int((~inside).sum())
    assert ignored > 100


def test_colours_change_and_a_mask_does_not() -> None:
    images, masks = bytes_of(3, 3, 8, 8), torch.randint(0, 2, (3, 8, 8), generator=generator(0, "masks"))
    pixels = Pixels(None, None, are_bytes=True, masks=True)
    seen, same = chosen("ColorJitter", brightness=0.5).augmented(
        images.float(), masks, generator(0, "c"), pixels
    )
    assert torch.equal(same, masks)
    assert not torch.equal(seen, images.float())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_transform_says_why(
    name: str, write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    for text in (f"augment: {name}", f"augment: [crop_flip, {name}]"):
        with pytest.raises(ConfigError) as error:
            load_study(write_study(BASE + text), [], vocabulary)
        assert (
            f"study.yaml:7: augment: {name} is refused: {REFUSED[name][0]}. Fix: {REFUSED[name][1]}."
            in str(error.value)
        )


LIST = """augment:
  - {name: RandomHorizontalFlip, p: 2}
  - {name: RandomResizedCropp}
  - {name: ColorJitter, brightnes: 0.2}
  - {name: RandomRotation}
  - 3
  - {name: GaussianBlur, kernel_size: 4}
"""


def test_all_mistakes_of_a_list_at_once_each_with_its_line(
    write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    with pytest.raises(ConfigError) as error:
        load_study(write_study(BASE + LIST), [], vocabulary)
    found = {one.place.rpartition(":")[2]: one.message for one in error.value.mistakes}
    assert sorted(found) == ["10", "11", "12", "13", "8", "9"]
    assert "torchvision says: `p` should be a floating point value in the interval [0.0, 1.0]." in found["8"]
    assert 'Did you mean "RandomResizedCrop"?' in found["9"]
    assert 'unknown key "brightnes" in augment ColorJitter. Did you mean "brightness"?' in found["10"]
    assert "augment.degrees is missing" in found["11"]
    assert "3 has no name" in found["12"]
    assert "Kernel size value should be an odd and positive number" in found["13"]


def test_a_list_keeps_every_option_and_reads_back(
    write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    text = "augment: [{name: crop_flip}, {name: RandomResizedCrop, scale: [0.5, 1]}]"
    study = load_study(write_study(BASE + text), [], vocabulary)
    steps = [
        {"name": "crop_flip", "padding": 4},
        {
            "name": "RandomResizedCrop",
            "size": None,
            "scale": [0.5, 1.0],
            "ratio": [3 / 4, 4 / 3],
            "interpolation": "bilinear",
        },
    ]
    assert study.variants["none"].augment == Choice(name="sequence", options={"steps": steps})
    again = load_study(write_study(BASE + text, "again.yaml"), ["augment.steps.0.padding=2"], vocabulary)
    assert again.variants["none"].augment.options["steps"] == [{"name": "crop_flip", "padding": 2}, steps[1]]
    nothing = load_study(write_study(BASE + "augment: []"), [], vocabulary)
    assert nothing.variants["none"].augment == Choice(name="none")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "RandomCrop",
            {"size": 4},
            r"augment: RandomCrop: it makes torch.uint8 of shape \(3, 4, 4\)(.|\n)*\[8, 8\]",
        ),
        ("RandomCrop", {"size": 9}, "Required crop size"),
        ("RandomResizedCrop", {"size": [8, 4]}, r"of shape \(3, 8, 4\)"),
    ],
)
def test_another_size_is_refused_before_training(name: str, options: Any, message: str) -> None:
    with pytest.raises(BnbenchError, match=message):
        chosen(name, **options).check(torch.randn(4, 3, 8, 8))


def test_colours_of_numbers_that_are_no_bytes_are_refused() -> None:
    images, labels = torch.randn(20, 1, 4, 4), torch.arange(20) % 2
    data = make_dataset("x", (images, labels), (images, labels), ["a", "b"])
    prepared = prepare(data, val_fraction=0.2, split_seed=0, device=CPU)
    chosen("RandomHorizontalFlip").check_data(prepared)
    for augmentation in (chosen("RandomInvert"), chosen("sequence", steps=[{"name": "RandomInvert"}])):
        with pytest.raises(BnbenchError, match="augment: RandomInvert: the inputs are float32"):
            augmentation.check_data(prepared)


def test_rows_are_no_images() -> None:
    with pytest.raises(BnbenchError, match="images of 1 or 3 channels"):
        chosen("RandomHorizontalFlip").remark((30, 1, 1))


PLUGIN = """
import torch
from torchvision.transforms import v2
from bnbench.data.augmentations import augmentations

@augmentations.register("mine", of_one_image=True)
def mine(*, p: float = 1.0):
    "Upside down."
    return v2.Compose([v2.RandomVerticalFlip(p)])

@augmentations.register("normal", of_one_image=True)
def normal():
    "A type that does not fit."
    return v2.Compose([v2.ToDtype(torch.float32, scale=True)])
"""


def test_a_plugins_own_transform_of_one_image(tmp_path: Path, write_study: Callable[..., Path]) -> None:
    plugin = tmp_path / "own.py"
    plugin.write_text(PLUGIN)
    try:
        names = known_names([plugin])
        study = load_study(write_study(BASE + "augment: [{name: mine, p: 1}]"), [], names.vocabulary)
        assert names.uses_plugins(study.variants["none"])  # its source is part of the run
        made = augmentation_of(study.variants["none"].augment)
        images = torch.randn(3, 1, 8, 8)
        assert made
        assert torch.equal(made(images, generator(0, "x")), images.flip(2))
        with pytest.raises(BnbenchError, match=r"it makes torch.float32(.|\n)*leave out ToDtype"):
            chosen("normal").check(torch.randn(4, 1, 8, 8))
    finally:
        known_names()


TRAINED = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
max_train_samples: 60
max_eval_samples: 20
batch_size: 30
epochs: 1
augment: [{name: RandomHorizontalFlip, p: 0.5}, crop_flip, {name: RandomAffine, degrees: 20}]
variants: [none, batch]
"""


def batches(settings: Settings, library: Library, *seeds: int) -> Tensor:
    """Of the first step: (S, N, ...)."""
    data = library.prepared(settings)
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in seeds]
    choice = replace(chosen_for(settings, data.sizes), doubles=False)
    training = Training(runs, data, augmentation_of(settings.augment), CPU, choice)
    return next(training.batches())[0].clone()


def test_one_seed_is_one_augmentation_in_a_stack_alone_and_for_every_variant(
    tmp_path: Path, write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    library = Library(tmp_path, CPU)
    study = load_study(write_study(TRAINED), ["engine=stacked"], vocabulary)
    alone = load_study(write_study(TRAINED), ["engine=sequential"], vocabulary)
    stacked = batches(study.variants["none"], library, 0, 1)
    for seed in (0, 1):
        for variant in ("none", "batch"):
            assert torch.equal(batches(alone.variants[variant], library, seed)[0], stacked[seed])
    assert not torch.equal(stacked[0], stacked[1])
    plain = load_study(write_study(TRAINED), ["augment=none"], vocabulary).variants["none"]
    assert not torch.equal(batches(plain, library, 0)[0], stacked[0])


@pytest.mark.slow
def test_workers_train_the_same_bits(
    tmp_path: Path, write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    study = load_study(write_study(TRAINED), ["seeds=2"], vocabulary)
    ends = []
    for workers in (1, 2):
        events = scheduled(make_plan(study, lambda settings: {}), Library(tmp_path, CPU), workers=workers)
        ended = [event.record for event in events if isinstance(event, RunEnded)]
        ends.append(
            {(record.variant, record.seed): repr((record.step_losses, record.final)) for record in ended}
        )
    assert len(ends[0]) == 4
    assert ends[0] == ends[1]
