"""Augmentations: what they do to a batch, what is refused, and a plugin's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from torch import Tensor

from bnbench.api.plugins import known_names
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.base.seeding import generator
from bnbench.data.augmentations import TRIAL, Augmentation, AugmentationFacts, augmentation_of, augmentations
from bnbench.data.augmentations.images import crop_flip, padding_share
from bnbench.study import Choice, Vocabulary, json_schema, load_study, resolved

BASE = (
    "dataset: digits\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: sgd, lr: 0.1}\n"
    "variants: [none, batch]\nepochs: 1\nseeds: 2\n"
)
CUTOUT = """
import torch
from bnbench.data.augmentations import augmentations

@augmentations.register("cutout")
def cutout(inputs, draw, *, size: int = 4):
    \"\"\"Zero a square of each image (DeVries & Taylor 2017).\"\"\"
    out = inputs.clone()
    for image, (top, left) in zip(out, torch.randint(0, out.shape[-1] - size + 1, (len(out), 2), generator=draw)):
        image[:, top : top + size, left : left + size] = 0
    return out
"""


def chosen(name: str, **options: Any) -> Augmentation:
    found = augmentation_of(Choice(name=name, options=options))
    assert found
    return found


def slow_crop_flip(images: Tensor, draw: torch.Generator) -> Tensor:
    """One sample after the other, by index arithmetic: pixel (y, x) of the crop is (y + top - 4, x + left - 4)."""
    count, _, height, width = images.shape
    offsets = torch.randint(0, 9, (2, count), generator=draw).tolist()
    mirror = torch.randint(0, 2, (1, count), generator=draw)[0].tolist()
    result = torch.zeros_like(images)
    for n in range(count):
        for y in range(height):
            for x in range(width):
                row, column = y + offsets[0][n] - 4, x + offsets[1][n] - 4
                if 0 <= row < height and 0 <= column < width:
                    result[n, :, y, width - 1 - x if mirror[n] else x] = images[n, :, row, column]
    return result


@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (7, 1, 5, 9), (1, 2, 1, 1)])
def test_crop_flip_against_a_loop_over_samples(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape, generator=generator(0, "images"))
    fast = crop_flip(images, generator(1, "augment", 0))
    assert torch.equal(fast, slow_crop_flip(images, generator(1, "augment", 0)))


def test_every_offset_and_both_directions_are_drawn_equally_often() -> None:
    # the one bright pixel in the middle shows where each crop was taken
    images = torch.zeros(20_000, 1, 9, 9)
    images[:, 0, 4, 4] = 1
    seen = crop_flip(images, generator(0, "augment"))
    counts = seen.sum((0, 1))
    assert counts.sum() == 20_000  # it never leaves the image: 4 pixels of padding, 4 to each side
    expected = 20_000 / 81
    assert (counts - expected).abs().max() < 5 * expected**0.5


def test_half_of_the_samples_are_mirrored() -> None:
    # row 4 and columns 10 to 20 of a crop never hold padding
    rising = torch.arange(30.0).expand(20_000, 1, 9, 30)
    row = crop_flip(rising, generator(0, "augment"))[:, 0, 4]
    assert abs(float((row[:, 20] < row[:, 10]).float().mean()) - 0.5) < 4 * 0.5 / 20_000**0.5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_augmentation_is_private_and_leaves_its_input_alone(layout: torch.memory_format) -> None:
    images = torch.randn(6, 3, 8, 8, generator=generator(0, "images")).contiguous(memory_format=layout)
    copy = images.clone()
    before = torch.get_rng_state()
    draw: Callable[[], torch.Generator] = lambda: generator(5, "augment", 2)  # noqa: E731
    first, second = crop_flip(images, draw()), crop_flip(images.contiguous(), draw())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images, copy)
    assert torch.equal(first, second)
    assert not torch.equal(first, images)


@pytest.mark.parametrize(
    ("side", "share"), [(1, 1 - 1 / 81), (2, 1 - (4 / 18) ** 2), (32, 1 - (268 / 288) ** 2)]
)
def test_how_much_of_a_crop_is_padding(side: int, share: float) -> None:
    """By hand: of 9 shifts each way, a side of n keeps n - |shift| of its n pixels."""
    assert padding_share((3, side, side), 4) == pytest.approx(share)


@pytest.mark.parametrize("side", [1, 2, 4, 7])
def test_crops_of_tiny_inputs_are_refused(side: int) -> None:
    with pytest.raises(BnbenchError, match=r"would be padding(.|\n)*Fix: augment: none"):
        chosen("crop_flip").check(torch.randn(TRIAL, *(3, side, side)))


def test_crops_of_small_inputs_are_noted() -> None:
    chosen("crop_flip").check(torch.randn(TRIAL, *(1, 8, 8)))
    assert chosen("crop_flip").remark((1, 8, 8)) == (
        "augment: crop_flip: 48% of the training pixels are padding, because the inputs are small"
    )
    assert chosen("crop_flip").remark((3, 32, 32)) is None


def test_none_is_no_augmentation_at_all() -> None:
    assert augmentation_of(Choice(name="none")) is None


def test_padding_is_an_option() -> None:
    """Two pixels of padding: 5 offsets each way, and the note speaks of 2 (by hand: 1 - (34/40)^2 = 28 %)."""
    images = torch.zeros(2_000, 1, 9, 9)
    images[:, 0, 4, 4] = 1
    seen = chosen("crop_flip", padding=2)(images, generator(0, "augment")).sum((0, 1)) > 0
    assert int(seen.sum()) == 25
    assert chosen("crop_flip", padding=2).remark((1, 8, 8)) == (
        "augment: crop_flip: 28% of the training pixels are padding, because the inputs are small"
    )
    assert torch.equal(
        chosen("crop_flip")(images, generator(1, "x")),
        chosen("crop_flip", padding=4)(images, generator(1, "x")),
    )


def test_a_refused_padding_comes_with_one_that_fits() -> None:
    with pytest.raises(BnbenchError, match=r"Fix: augment: none, or augment.padding: 1\."):
        chosen("crop_flip").check(torch.randn(TRIAL, *(3, 6, 6)))


# what a study says


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"name": "none"}),
        ("augment: auto", {"name": "none"}),
        ("augment: no", {"name": "none"}),
        ("augment: ~", {"name": "none"}),
        ("augment: crop_flip", {"name": "crop_flip", "padding": 4}),
        ("augment: {name: crop_flip, padding: 2}", {"name": "crop_flip", "padding": 2}),
        ("augment: crop_flip\naugment.padding: 3", {"name": "crop_flip", "padding": 3}),
        ("dataset: cifar10", {"name": "crop_flip", "padding": 4}),
        ("dataset: cifar10\naugment: {padding: 1}", {"name": "crop_flip", "padding": 1}),
        ("dataset: cifar10\naugment: none", {"name": "none"}),
    ],
)
def test_a_study_names_an_augmentation_and_keeps_what_it_means(
    text: str, expected: dict[str, Any], write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    base = BASE.replace("dataset: digits\n", "") if "dataset" in text else BASE
    text = text.replace("crop_flip\naugment.padding", "{name: crop_flip}\naugment.padding")
    study = load_study(write_study(base + text), [], vocabulary)
    assert resolved(study, Path.cwd())["augment"] == expected
    if "augment.padding" not in text:
        from bnbench.study.yaml_source import read_yaml

        Draft202012Validator(json_schema(vocabulary)).validate(read_yaml(base + text, "study").data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "augment: crop_flop",
            'unknown augmentation "crop_flop". Did you mean "crop_flip"? Known: AugMix, AutoAugment',
        ),
        (
            "augment: {name: crop_flip, pading: 4}",
            'unknown key "pading" in augment crop_flip. Did you mean "padding"?',
        ),
        (
            "augment: {name: crop_flip, padding: -1}",
            "augment.padding: -1 is wrong: it should be greater than or equal",
        ),
        (
            "augment: {name: crop_flip, padding: 2.5}",
            "augment.padding: 2.5 is wrong: it should be a valid integer",
        ),
        ("augment: {padding: 2}", 'unknown key "padding" in augment none'),
    ],
)
def test_a_wrong_augmentation_is_refused(
    text: str, message: str, write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    with pytest.raises(ConfigError) as error:
        load_study(write_study(BASE + text), [], vocabulary)
    assert message in str(error.value)
    assert "study.yaml:6" in str(error.value) or "study.yaml:7" in str(error.value)


# a plugin's own


@pytest.fixture
def with_cutout(tmp_path: Path) -> Iterator[Path]:
    plugin = tmp_path / "cutout.py"
    plugin.write_text(CUTOUT)
    yield plugin
    known_names()


def test_a_plugin_adds_one_and_its_source_is_part_of_the_run(
    with_cutout: Path, write_study: Callable[..., Path]
) -> None:
    names = known_names([with_cutout])
    study = load_study(write_study(BASE + "augment: {name: cutout, size: 2}"), [], names.vocabulary)
    settings = study.variants["none"]
    assert settings.augment == Choice(name="cutout", options={"size": 2})
    assert names.uses_plugins(settings)
    assert any("cutout" in name for name in names.reached(settings).content())
    ones = torch.ones(3, 1, 8, 8)
    result = chosen("cutout", size=2)(ones, generator(0, "augment"))
    assert result.sum((1, 2, 3)).tolist() == [60.0] * 3
    chosen("cutout", size=2).check(torch.randn(TRIAL, *(1, 8, 8)))
    schema = json_schema(names.vocabulary)
    assert "cutout" in str(schema["properties"]["augment"])


def test_a_data_set_may_name_an_augmentation_that_is_not_there(
    tmp_path: Path, write_study: Callable[..., Path]
) -> None:
    plugin = tmp_path / "data.py"
    plugin.write_text(
        "from bnbench.data import datasets\n@datasets.register('x', augment='flip')\n"
        "def x(data_dir):\n    'X.'\n"
    )
    try:
        names = known_names([plugin])
        with pytest.raises(ConfigError) as error:
            load_study(write_study(BASE.replace("digits", "x")), [], names.vocabulary)
    finally:
        known_names()
    assert 'the data set x is registered with augment="flip": unknown augmentation "flip".' in str(
        error.value
    )


def _global(inputs: Tensor, draw: torch.Generator) -> Tensor:
    return inputs + torch.randn_like(inputs)


def _smaller(inputs: Tensor, draw: torch.Generator) -> Tensor:
    return inputs[:, :, 1:]


def _double(inputs: Tensor, draw: torch.Generator) -> Tensor:
    return inputs.double()


def _nothing(inputs: Tensor, draw: torch.Generator) -> Any:
    inputs += 1


def _nan(inputs: Tensor, draw: torch.Generator) -> Tensor:
    return inputs.log()


def _raises(inputs: Tensor, draw: torch.Generator) -> Tensor:
    raise ValueError("too small")


#: Options that torchvision has no default for.
NEEDED: dict[str, dict[str, Any]] = {
    "RandomRotation": {"degrees": 30},
    "RandomAffine": {"degrees": 10},
    "GaussianBlur": {"kernel_size": 3},
    "JPEG": {"quality": [20, 90]},
    "RandomAdjustSharpness": {"sharpness_factor": 2},
    "RandomPosterize": {"bits": 3},
    "RandomSolarize": {"threshold": 128},
}


class _Remembers:
    count = 0

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        self.count += 1
        return inputs + self.count


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_global, "it draws random numbers from torch's global generator"),
        (
            _smaller,
            r"it makes torch.float32 of shape \(4, 1, 7, 8\) of a batch of torch.float32 and shape \(4, 1, ",
        ),
        (_double, "it makes torch.float64 of shape"),
        (_nothing, "it makes NoneType of a batch"),
        (_nan, "it makes NaN or infinity"),
        (_raises, "it fails on a batch of 4x1x8x8: ValueError: too small"),
        (_Remembers(), "it gives two results for one state of the generator"),
    ],
)
def test_one_that_breaks_a_promise_is_refused(function: Callable[..., Any], message: str) -> None:
    batch = torch.ones(TRIAL, 1, 8, 8)
    batch[0, 0, 0, 0] = -1
    before = torch.get_rng_state()
    with pytest.raises(BnbenchError, match=f"augment: own: {message}"):
        Augmentation("own", function, {}, AugmentationFacts()).check(batch)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", augmentations.names())
def test_every_registered_augmentation_keeps_its_promises(name: str) -> None:
    assert augmentations.get(name).summary.endswith(".")
    if name not in ("none", "sequence"):
        needed = NEEDED.get(name, {})
        chosen(name, **needed).check(torch.randn(TRIAL, *(3, 32, 32)))
