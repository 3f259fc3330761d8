"""One image file becomes pixels: upright, without transparency, 8 bits, gray or RGB, of the wanted size.

Whatever of the picture is lost on the way is remarked.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from bnbench.data.tally import Remark

Pixels = npt.NDArray[np.uint8]
Resize = Literal["crop", "pad", "stretch"]
Colour = tuple[int, int, int]

#: Decoders that may open a file, whatever it is called: none of them runs another program.
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
#: 16-bit images whose largest value is lower would keep less than 64 of 256 levels.
DARK = 64 * 256

#: Notes on conversions of pictures; see `Tally.sentences`. h, w: the size of all; total: of how many.
CHANGED = {
    "turned": "{count} of {total} images have an EXIF orientation, and were turned upright",
    "bad_exif": "{count} of {total} images have EXIF data that can't be read, and are taken as stored",
    "transparent": "{count} of {total} images are transparent in places, and were laid on {background}",
    "frames": "{count} of {total} images hold several pictures (up to {value:.0f}); the first is used",
    "depth": "{count} of {total} images have 16 bits a value (up to {value:.0f}); the upper 8 are kept",
    "cmyk": "{count} of {total} images are CMYK, and became RGB without their colour profile",
    "profile": "{count} of {total} images have a colour profile that is not sRGB; it is not applied",
    "gray": "{count} of {total} images are gray, and became three equal channels (channels: 1 keeps one)",
    "colour": "{count} of {total} images have colour, and became gray (channels: 1)",
    "resized": "{count} of {total} images were resized to {h}x{w} (height x width)",
    "cut": "{count} of {total} images lost up to {value:.0%} of the picture to the crop (resize: pad keeps it)",
    "padded": "{count} of {total} images were padded with {background}, up to {value:.0%} of the result",
    "stretched": "{count} of {total} images changed their aspect, by a factor of up to {value:.2f}",
}


class _Remark(Protocol):
    def __call__(self, kind: str, value: float = 0.0) -> None: ...


class Encoded(io.BytesIO):
    """The content of a picture's file. name: what messages call it."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.called = name

    def __str__(self) -> str:
        return self.called


class Unusable(Exception):
    """Why one image is of no use."""


@dataclass(frozen=True)
class Decoding:
    """Settings for the conversion of an image to pixels.

    size: height and width; None keeps the image's. resize: crop scales the picture until it covers the
    size and cuts the centre; pad scales it until it fits and fills the rest; stretch changes its aspect.
    channels: 3 colour, 1 gray. background: behind transparency, and of the padding.
    """

    size: tuple[int, int] | None
    resize: Resize
    channels: int
    background: Colour
    max_pixels: int


@contextlib.contextmanager
def pillow_is_quiet() -> Iterator[None]:
    """Replace Pillow's process-wide size limit, which only warns, by the option `max_pixels`; restore it afterwards."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is remarked, or an error
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def read_picture(path: Path | Encoded, decoding: Decoding) -> tuple[Pixels, list[Remark]]:
    """The pixels (channels, height, width) and remarks on their conversion. Raises Unusable."""
    remarks: list[Remark] = []

    def remark(kind: str, value: float = 0.0) -> None:
        remarks.append(Remark(kind, str(path), value))

    try:
        Image.init()
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as opened:
            _check_size(opened, decoding)
            _remark_file(opened, remark)
            deep = ";16" in str(opened.tile) and not opened.mode.startswith("I")
            image = _upright(opened, remark)
            image = _eight_bits(image, decoding, remark)
            if deep:  # Pillow has cut these off already
                remark("depth", float(np.asarray(image).max()) * 256 + 255)
            image = _sized(image, decoding, remark)
    except Unusable as error:
        raise Unusable(f"{path}: {error}") from None
    except Exception as error:  # a decoder may raise anything for a corrupt file
        raise Unusable(f"{path}: {error or type(error).__name__}") from error
    array = np.asarray(image)
    return (array[None] if decoding.channels == 1 else array.transpose(2, 0, 1)), remarks


def _check_size(image: Image.Image, decoding: Decoding) -> None:
    pixels = image.width * image.height
    if pixels > decoding.max_pixels:
        raise Unusable(
            f"it is {image.width}x{image.height}, {pixels:,} pixels; more than {decoding.max_pixels:,} "
            f"are refused, as a small file can fill the memory (max_pixels: {pixels} if you trust it)"
        )


def _remark_file(image: Image.Image, remark: _Remark) -> None:
    """Remark on unused contents of the file."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        remark("frames", frames)
    profile = image.info.get("icc_profile") or b""
    if image.mode == "CMYK":
        remark("cmyk")
    elif profile and b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile:
        remark("profile")


def _upright(image: Image.Image, remark: _Remark) -> Image.Image:
    """The picture, rotated by its EXIF orientation."""
    try:
        exif = image.getexif()
        broken = bool(image.info.get("exif")) and not len(exif)
        orientation = None if broken else exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF of any camera, repaired by any program
        orientation = None
    image.load()  # a TIFF turns itself here
    if orientation not in (None, *range(1, 9)):
        orientation = None
    if orientation is None:
        remark("bad_exif")
        return image
    if orientation == 1:
        return image
    remark("turned")
    return ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image, decoding: Decoding, remark: _Remark) -> Image.Image:
    """Gray or RGB, laid on the background where it is transparent. Raises Unusable for float pixels."""
    if image.mode.startswith(("I", "F")):
        image = _upper_half(image, remark)
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = _opaque(image, decoding, remark)
    if gray and decoding.channels == 3:
        remark("gray")
    elif not gray and decoding.channels == 1:
        remark("colour")
    return image.convert("L" if decoding.channels == 1 else "RGB")


def _upper_half(image: Image.Image, remark: _Remark) -> Image.Image:
    """16 bits to 8. Raises Unusable where the range of the values is not known."""
    values = np.asarray(image)
    largest, smallest = float(values.max()), float(values.min())
    whole = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM", None))
    if not whole or smallest < 0 or largest > 65535:
        raise Unusable(
            f'its pixels are numbers without a known range (mode "{image.mode}", {smallest:g} to {largest:g}); '
            "scale them to 0..255, or use an npz file, which keeps them"
        )
    remark("depth", largest)
    return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))


def _opaque(image: Image.Image, decoding: Decoding, remark: _Remark) -> Image.Image:
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    image = image.convert("RGBA")
    if np.asarray(image)[..., 3].min() == 255:
        return image.convert("RGB")
    remark("transparent")
    behind = Image.new("RGBA", image.size, (*decoding.background, 255))
    behind.alpha_composite(image)
    return behind.convert("RGB")


def _sized(image: Image.Image, decoding: Decoding, remark: _Remark) -> Image.Image:
    """Bilinear and antialiased."""
    if decoding.size is None or (image.height, image.width) == decoding.size:
        return image
    height, width = decoding.size
    remark("resized")
    scales = height / image.height, width / image.width
    if decoding.resize == "stretch":
        factor = max(scales) / min(scales)
        if factor > 1.001:
            remark("stretched", factor)
        return image.resize((width, height), Image.Resampling.BILINEAR)
    crop = decoding.resize == "crop"
    scale = max(scales) if crop else min(scales)
    limit = max if crop else min
    inner = (
        limit(width, max(1, round(image.width * scale))),
        limit(height, max(1, round(image.height * scale))),
    )
    share = 1 - min(scales) / max(scales)
    if inner != (width, height):
        remark("cut" if crop else "padded", share)
    if inner != image.size:
        image = image.resize(inner, Image.Resampling.BILINEAR)
    left, top = (inner[0] - width) // 2, (inner[1] - height) // 2
    if crop:
        return image.crop((left, top, left + width, top + height))
    red, green, blue = decoding.background
    fill = (
        decoding.background if decoding.channels == 3 else round(0.299 * red + 0.587 * green + 0.114 * blue)
    )
    behind = Image.new(image.mode, (width, height), fill)
    behind.paste(image, (-left, -top))
    return behind
