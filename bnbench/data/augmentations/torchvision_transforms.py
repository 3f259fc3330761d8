"""The random transforms of `torchvision.transforms.v2`, by their own names, with their own options and defaults.

Each sample draws for itself (see `bnbench.data.sample_transforms`). torchvision is imported where one is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from torch import Tensor

from bnbench.base.options import OptionFaults
from bnbench.base.user_code import raise_interrupt
from bnbench.data.augmentations import augmentations
from bnbench.data.sample_transforms import Transform
from bnbench.data.tensors import IGNORED

#: Tasks whose targets stay right where an image changes; those of masks only where the mask can follow.
IMAGES = ("image_classification", "autoencoder", "vae", "denoising", "gan")
WITH_MASKS = (*IMAGES, "segmentation")

Numbers = float | list[float]
Whole = int | list[int]
Filled = float | list[float] | None
Sampled = Literal["nearest", "bilinear"]
Padded = Literal["constant", "edge", "reflect", "symmetric"]
Policy = Literal["imagenet", "cifar10", "svhn"]
#: For an option that has to be given.
NEEDED = inspect.Parameter.empty

Options = Mapping[str, tuple[Any, Any]]
#: What an option means, the same in every transform that has it.
HELP: Mapping[str, str] = {
    "p": "probability that it is applied",
    "fill": "value of what comes into view at the edge, one number or one a channel",
    "interpolation": "nearest or bilinear",
    "size": "height and width of what is cropped; none: those of the image",
    "padding": "pixels at each side, one number, two or four",
    "padding_mode": "constant, edge, reflect or symmetric",
    "scale": "smallest and largest factor, or share of the area",
    "ratio": "smallest and largest width divided by height",
    "degrees": "largest angle, or the smallest and the largest",
    "translate": "largest shift across and down, as shares of the width and the height",
    "shear": "largest angle, or the smallest and the largest",
    "distortion_scale": "strength, from 0 to 1",
    "alpha": "strength; of AugMix: of the Beta distribution that weighs the chains",
    "sigma": "standard deviation, or the smallest and the largest",
    "brightness": "largest change of the factor, or the smallest and the largest factor",
    "contrast": "largest change of the factor, or the smallest and the largest factor",
    "saturation": "largest change of the factor, or the smallest and the largest factor",
    "hue": "largest shift, at most 0.5, or the smallest and the largest",
    "kernel_size": "width of the filter in pixels, an odd number",
    "mean": "mean of the noise, for values of 0 to 1",
    "clip": "whether values stay between 0 and 1",
    "quality": "from 1 to 100, or the smallest and the largest",
    "sharpness_factor": "0 blurs, 1 changes nothing, 2 doubles the sharpness",
    "bits": "bits that are kept of a channel, from 0 to 8",
    "threshold": "from this value on, 0 to 255, values are inverted",
    "value": "what stands in the rectangle afterwards",
    "num_ops": "operations, one after the other",
    "magnitude": "strength of every operation",
    "num_magnitude_bins": "how many strengths there are",
    "policy": "the data set for which it was found",
    "severity": "strength of the operations, from 1 to 10",
    "mixture_width": "chains that are mixed",
    "chain_depth": "operations in a chain; -1: from 1 to 3 at random",
    "all_ops": "whether brightness, contrast, saturation and sharpness are among the operations",
}
_P: Options = {"p": (float, 0.5)}
_FILL: Options = {"fill": (Filled, 0)}
_NEAREST: Options = {"interpolation": (Sampled, "nearest")}
_BILINEAR: Options = {"interpolation": (Sampled, "bilinear")}

#: What moves pixels: name, what it does, options with their types and defaults. size: none is the images' own.
GEOMETRIC: Mapping[str, tuple[str, Options]] = {
    "RandomHorizontalFlip": ("Mirror with probability p.", _P),
    "RandomVerticalFlip": ("Turn upside down with probability p.", _P),
    "RandomCrop": (
        "Pad, and crop at a random place.",
        {
            "size": (Whole | None, None),
            "padding": (Whole | None, None),
            **_FILL,
            "padding_mode": (Padded, "constant"),
        },
    ),
    "RandomResizedCrop": (
        "Crop a random share of the area and resize it to the image's size (Szegedy et al. 2015).",
        {
            "size": (Whole | None, None),
            "scale": (list[float], [0.08, 1.0]),
            "ratio": (list[float], [3 / 4, 4 / 3]),
            **_BILINEAR,
        },
    ),
    "RandomRotation": ("Rotate by a random angle.", {"degrees": (Numbers, NEEDED), **_NEAREST, **_FILL}),
    "RandomAffine": (
        "Rotate, shift, scale and shear at random.",
        {
            "degrees": (Numbers, NEEDED),
            "translate": (list[float] | None, None),
            "scale": (list[float] | None, None),
            "shear": (Numbers | None, None),
            **_NEAREST,
            **_FILL,
        },
    ),
    "RandomPerspective": (
        "Change the perspective with probability p.",
        {"distortion_scale": (float, 0.5), **_P, **_BILINEAR, **_FILL},
    ),
    "ElasticTransform": (
        "Displace pixels by a smooth random field (Simard et al. 2003).",
        {"alpha": (Numbers, 50.0), "sigma": (Numbers, 5.0), **_BILINEAR, **_FILL},
    ),
}
#: What changes colours; a mask stays as it is.
PHOTOMETRIC: Mapping[str, tuple[str, Options]] = {
    "ColorJitter": (
        "Change brightness, contrast, saturation and hue at random.",
        dict.fromkeys(("brightness", "contrast", "saturation", "hue"), (Numbers | None, None)),
    ),
    "RandomPhotometricDistort": (
        "Distort colours at random, as SSD does (Liu et al. 2016).",
        {
            "brightness": (list[float], [0.875, 1.125]),
            "contrast": (list[float], [0.5, 1.5]),
            "saturation": (list[float], [0.5, 1.5]),
            "hue": (list[float], [-0.05, 0.05]),
            **_P,
        },
    ),
    "RandomGrayscale": ("Make gray with probability p.", {"p": (float, 0.1)}),
    "RandomChannelPermutation": ("Exchange the channels at random.", {}),
    "GaussianBlur": (
        "Blur by a Gaussian of random width.",
        {"kernel_size": (Whole, NEEDED), "sigma": (Numbers, [0.1, 2.0])},
    ),
    "GaussianNoise": (
        "Add normal noise; mean and sigma for values of 0 to 1.",
        {"mean": (float, 0.0), "sigma": (float, 0.1), "clip": (bool, True)},
    ),
    "JPEG": ("Compress by JPEG of random quality, 1 to 100.", {"quality": (Whole, NEEDED)}),
    "RandomAdjustSharpness": (
        "Change the sharpness with probability p.",
        {"sharpness_factor": (float, NEEDED), **_P},
    ),
    "RandomAutocontrast": ("Stretch the contrast with probability p.", _P),
    "RandomEqualize": ("Equalize the histogram with probability p.", _P),
    "RandomInvert": ("Invert the colours with probability p.", _P),
    "RandomPosterize": ("Keep so many bits a channel with probability p.", {"bits": (int, NEEDED), **_P}),
    "RandomSolarize": (
        "Invert values from the threshold on (0 to 255) with probability p.",
        {"threshold": (float, NEEDED), **_P},
    ),
    "RandomErasing": (
        "Erase a rectangle with probability p (Zhong et al. 2017).",
        {
            "p": (float, 0.5),
            "scale": (list[float], [0.02, 0.33]),
            "ratio": (list[float], [0.3, 3.3]),
            "value": (float, 0.0),
        },
    ),
}
_LATE_FILL: Options = {"fill": (Filled, None)}
#: What changes colours and moves pixels, and takes no masks.
POLICIES: Mapping[str, tuple[str, Options]] = {
    "RandAugment": (
        "Random operations of one strength (Cubuk et al. 2019).",
        {
            "num_ops": (int, 2),
            "magnitude": (int, 9),
            "num_magnitude_bins": (int, 31),
            **_NEAREST,
            **_LATE_FILL,
        },
    ),
    "TrivialAugmentWide": (
        "One random operation of random strength (Müller & Hutter 2021).",
        {"num_magnitude_bins": (int, 31), **_NEAREST, **_LATE_FILL},
    ),
    "AutoAugment": (
        "Operations that were found by search (Cubuk et al. 2018).",
        {"policy": (Policy, "imagenet"), **_NEAREST, **_LATE_FILL},
    ),
    "AugMix": (
        "A mixture of chains of operations (Hendrycks et al. 2020).",
        {
            "severity": (int, 3),
            "mixture_width": (int, 3),
            "chain_depth": (int, -1),
            "alpha": (float, 1.0),
            "all_ops": (bool, True),
            **_BILINEAR,
            **_LATE_FILL,
        },
    ),
}


class _OfOwnSize:
    """A crop to the size of the image that it is given."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name, self.options = name, options
        self.made: dict[tuple[int, ...], Transform] = {}

    def __call__(self, image: Tensor, *more: Tensor) -> Any:
        size = tuple(image.shape[-2:])
        if size not in self.made:
            self.made[size] = _make(self.name, {**self.options, "size": list(size)})
        return self.made[size](image, *more)


def _make(name: str, options: Mapping[str, Any]) -> Transform:
    """torchvision's transform of that name. Raises what torchvision raises."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    given = dict(options)
    if name == "AutoAugment":
        given["policy"] = v2.AutoAugmentPolicy(given["policy"])
    if "fill" in given and name in GEOMETRIC:
        given["fill"] = {tv_tensors.Mask: IGNORED, "others": given["fill"]}
    made: Transform = getattr(v2, name)(**given)
    return made


def make_transform(name: str, **options: Any) -> Transform:
    """The transform of one image (C, H, W), or of an image and its mask. Raises what torchvision raises."""
    return _OfOwnSize(name, options) if options.get("size", 0) is None else _make(name, options)


def _complete(name: str, **options: Any) -> Mapping[str, Any]:
    """The options as they are. Raises OptionFaults with torchvision's own message where it refuses one."""
    tried = {**options, "size": [8, 8]} if options.get("size", 0) is None else options
    try:
        _make(name, tried)
    except Exception as error:
        raise_interrupt(error)
        text = str(error).strip().rstrip(".")
        blamed = [option for option in options if option in text.replace("`", "").split()]
        raise OptionFaults([(tuple(blamed[:1]), f"torchvision says: {text}.")]) from None
    return options


def _factory(name: str, summary: str, options: Options) -> Callable[..., Transform]:
    """A factory whose keyword-only parameters are those options."""

    def factory(**given: Any) -> Transform:
        return make_transform(name, **given)

    factory.__name__ = factory.__qualname__ = name
    lines = [f"{option}: {HELP[option]}" for option in options]
    factory.__doc__ = "\n".join([f"{summary} torchvision.transforms.v2.{name}.", "", *lines])
    factory.__annotations__ = {option: hint for option, (hint, _) in options.items()}
    factory.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for option, (hint, default) in options.items()
        ]
    )
    return factory


for _table, _tasks, _colours in (
    (GEOMETRIC, WITH_MASKS, False),
    (PHOTOMETRIC, WITH_MASKS, True),
    (POLICIES, IMAGES, True),
):
    for _name, (_summary, _options) in _table.items():
        augmentations.register(
            _name,
            tasks=_tasks,
            of_one_image=True,
            needs_bytes=_colours,
            complete=partial(_complete, _name),
        )(_factory(_name, _summary, _options))
