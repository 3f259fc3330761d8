"""What a study may name as an augmentation: a list is a sequence, and some of torchvision's transforms are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: The augmentation that a list stands for.
SEQUENCE = "sequence"

_SIZE = (
    "it changes the size of an image, and a network takes images of one size",
    "image_size of the data set",
)
_MIX = (
    "it mixes labels, and a label of bnbench is one class; the metrics and the classes in a batch need that",
    "leave it out",
)
_TYPE = "images are tensors already, and bnbench converts them after the augmentation", "leave it out"
_BOXES = "it is for boxes and key points, which no task of bnbench has", "leave it out"
_CODE = "it takes a function or tensors, and a study holds plain values", "a function in a plugin"
_TWICE = "bnbench normalises after the augmentation, so this would be the second time", "normalize: standard"
_LIST = "a study has a list for it", "augment: [RandomHorizontalFlip, {name: ColorJitter, brightness: 0.2}]"
_RANDOM_LIST = "it holds other transforms", "a function in a plugin that returns it, with of_one_image=True"
_FIXED = "it draws nothing, so it is no augmentation", "leave it out"
#: Transforms of torchvision that a study can't have: why, and what to do.
REFUSED: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("MixUp", "CutMix"), _MIX),
    **dict.fromkeys(
        (
            "Resize", "CenterCrop", "Pad", "FiveCrop", "TenCrop", "RandomResize", "RandomShortestSize",
            "ScaleJitter", "RandomZoomOut", "UniformTemporalSubsample",
        ),
        _SIZE,
    ),
    **dict.fromkeys(
        ("ToTensor", "ToImage", "ToPILImage", "PILToTensor", "ToDtype", "ConvertImageDtype", "ToPureTensor"), _TYPE
    ),
    **dict.fromkeys(
        (
            "ClampBoundingBoxes", "ClampKeyPoints", "ConvertBoundingBoxFormat", "SanitizeBoundingBoxes",
            "SanitizeKeyPoints", "RandomIoUCrop", "SetClampingMode",
        ),
        _BOXES,
    ),
    **dict.fromkeys(("Lambda", "LinearTransformation"), _CODE),
    **dict.fromkeys(("RandomApply", "RandomChoice", "RandomOrder"), _RANDOM_LIST),
    **dict.fromkeys(("Grayscale", "RGB", "Identity"), _FIXED),
    "Normalize": _TWICE,
    "Compose": _LIST,
}  # fmt: skip


def why_refused(name: str) -> str:
    """Why a study can't have that transform of torchvision, and what to do; "" for any other name."""
    known = {refused.lower(): refused for refused in REFUSED}
    if name.lower() not in known:
        return ""
    why, fix = REFUSED[known[name.lower()]]
    return f"augment: {name} is refused: {why}. Fix: {fix}."


def names_in(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    """The names of all steps of a sequence; of any other augmentation its own."""
    if name == SEQUENCE:
        yield from (str(step["name"]) for step in options.get("steps", ()))
    else:
        yield name
