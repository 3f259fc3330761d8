"""Pictures of every kind: what is lost of one on its way to pixels is handled, and counted."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.imagefolder import imagefolder

RNG = np.random.default_rng(0)
#: 4 high, 6 wide: no turn of it looks like another.
PICTURE = RNG.integers(0, 256, (4, 6, 3), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            save(
                tmp_path / "images" / part / name / "a.png",
                Image.fromarray(RNG.integers(0, 256, (4, 6, 3), np.uint8)),
            )
    return tmp_path / "images"


def save(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def read(root: Path, **options: Any) -> Dataset:
    return imagefolder(root.parent / "data_dir", path=root, **options)


def first(
    root: Path, image: Image.Image, name: str = "0.png", saved: dict[str, Any] | None = None, **options: Any
) -> Any:
    """What becomes of the picture: (height, width, channels), and the notes. It takes the place of cat/a.png."""
    save(root / "train" / "cat" / name, image, **(saved or {}))
    (root / "train" / "cat" / "a.png").unlink(missing_ok=True)
    data = read(root, **options)
    return data.train_inputs[0].numpy().transpose(1, 2, 0), data.notes


def error(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **options)
    return str(caught.value)


# orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_every_orientation_stands_upright(orientation: int, suffix: str, root: Path) -> None:
    """The oracle: Pillow's own transpositions, which undo each orientation by the EXIF standard's table."""
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = Image.fromarray(PICTURE)
    image = upright if stored is None else upright.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif, **({"lossless": True} if suffix == "webp" else {})}
    pixels, notes = first(root, image, f"0.{suffix}", options)
    np.testing.assert_array_equal(pixels, PICTURE)
    turned = [text for text in notes if "upright" in text]
    assert turned == (
        [f"1 of 4 images have an EXIF orientation, and were turned upright, e.g. train/cat/0.{suffix}"]
        if orientation > 1
        else []
    )


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_is_noted_and_taken_as_stored(orientation: int, root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, notes = first(root, Image.fromarray(PICTURE), saved={"exif": exif})
    np.testing.assert_array_equal(pixels, PICTURE)
    assert any("EXIF data that can't be read" in text for text in notes)


def test_damaged_exif_costs_no_picture(root: Path) -> None:
    _, notes = first(root, Image.fromarray(PICTURE), "0.jpg", {"exif": b"Exif\0\0MM\0\x2a\xff\xff\xff\xff"})
    assert any("EXIF data that can't be read" in text for text in notes)


# transparency


def clear(mode: str = "RGBA") -> Image.Image:
    """The left half is clear red, the right half solid blue."""
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, :3, 0] = 255
    pixels[:, 3:, 2:] = 255
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    ("background", "expected"), [("white", [255] * 3), ("black", [0] * 3), ((9, 8, 7), [9, 8, 7])]
)
def test_what_is_clear_shows_the_background(background: Any, expected: list[int], root: Path) -> None:
    pixels, notes = first(root, clear(), background=background)
    assert pixels[0, 0].tolist() == expected
    assert pixels[0, 5].tolist() == [0, 0, 255]
    said = str(background) if isinstance(background, str) else "the colour [9, 8, 7]"
    assert f"1 of 4 images are transparent in places, and were laid on {said}, e.g. train/cat/0.png" in notes


def test_half_clear_is_mixed(root: Path) -> None:
    half = Image.fromarray(np.full((4, 6, 4), (200, 100, 0, 128), np.uint8))
    pixels, _ = first(root, half, background="black")
    assert pixels[0, 0].tolist() == pytest.approx([200 * 128 / 255, 100 * 128 / 255, 0], abs=1)


@pytest.mark.parametrize("kind", ["palette", "LA", "tRNS of RGB", "gif"])
def test_transparency_of_every_kind(kind: str, root: Path) -> None:
    options: dict[str, Any]
    if kind == "palette":
        image, name, options = clear().quantize(4), "0.png", {}
    elif kind == "LA":
        image, name, options = clear("LA"), "0.png", {}
    elif kind == "gif":
        image, name, options = clear(), "0.gif", {}
    else:
        image, name, options = clear().convert("RGB"), "0.png", {"transparency": (255, 0, 0)}
    pixels, notes = first(root, image, name, options)
    assert pixels[0, 0].tolist() == [255] * 3
    assert any("transparent in places" in text for text in notes)


def test_an_alpha_channel_that_is_solid_is_no_transparency(root: Path) -> None:
    pixels, notes = first(root, Image.fromarray(PICTURE).convert("RGBA"))
    np.testing.assert_array_equal(pixels, PICTURE)
    assert not any("transparent" in text for text in notes)


# depth, colour, frames


def test_sixteen_bits_become_the_upper_eight(root: Path) -> None:
    values = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    pixels, notes = first(root, Image.fromarray(values))
    np.testing.assert_array_equal(pixels[..., 0], values >> 8)
    assert (
        "1 of 4 images have 16 bits a value (up to 65535); the upper 8 are kept, e.g. train/cat/0.png"
        in notes
    )


def test_sixteen_bits_of_colour_are_noted(root: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([250, 7] * 18) for _ in range(4))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0))
    (root / "train" / "cat" / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    data = read(root)
    assert data.train_inputs[0].unique().tolist() == [250]
    assert any("16 bits a value" in text for text in data.notes)


def test_twelve_bits_in_sixteen_are_refused(root: Path) -> None:
    save(root / "train" / "cat" / "a.png", Image.fromarray(np.full((4, 6), 4095, np.uint16)))
    assert "none is above 4095 of 65535: 8 bits would keep 16 levels" in error(root)


def test_pixels_without_a_known_range_are_refused(root: Path) -> None:
    save(root / "train" / "cat" / "b.tiff", Image.fromarray(np.full((4, 6), 0.5, np.float32)))
    assert 'numbers without a known range (mode "F", 0.5 to 0.5)' in error(root)


def test_cmyk_is_noted(root: Path) -> None:
    pixels, notes = first(root, Image.fromarray(PICTURE).convert("CMYK"), "0.tiff")
    np.testing.assert_array_equal(pixels, PICTURE)
    assert any("are CMYK, and became RGB" in text for text in notes)


def test_a_profile_that_is_not_srgb_is_noted(root: Path) -> None:
    _, notes = first(root, Image.fromarray(PICTURE), saved={"icc_profile": b"\0" * 128 + b"Display P3"})
    assert any("colour profile that is not sRGB" in text for text in notes)
    (root / "train" / "cat" / "0.png").unlink()
    _, notes = first(
        root, Image.fromarray(PICTURE), "1.png", {"icc_profile": b"\0" * 128 + b"sRGB IEC61966-2.1"}
    )
    assert not any("profile" in text for text in notes)


@pytest.mark.parametrize("suffix", ["gif", "tiff", "png", "webp"])
def test_of_several_pictures_in_a_file_the_first_is_used(suffix: str, root: Path) -> None:
    images = [Image.fromarray(np.full((4, 6, 3), shade, np.uint8)) for shade in (10, 90, 200)]
    options = {
        "save_all": True,
        "append_images": images[1:],
        **({"lossless": True} if suffix == "webp" else {}),
    }
    pixels, notes = first(root, images[0], f"0.{suffix}", options)
    assert np.unique(pixels).tolist() == [10]
    assert (
        f"1 of 4 images hold several pictures (up to 3); the first is used, e.g. train/cat/0.{suffix}"
        in notes
    )


def test_gray_among_colour_and_colour_as_gray_are_noted(root: Path) -> None:
    _, notes = first(root, Image.fromarray(PICTURE).convert("L"))
    assert any(text.startswith("1 of 4 images are gray, and became three equal channels") for text in notes)
    assert any(
        text.startswith("3 of 4 images have colour, and became gray") for text in read(root, channels=1).notes
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "LAB"])
def test_every_mode_that_a_file_can_have_is_read_or_named(mode: str, root: Path) -> None:
    path = root / "train" / "cat" / "0.tiff"
    image = Image.fromarray(PICTURE)
    try:
        save(path, image.convert(mode) if mode != "LAB" else Image.new("LAB", (6, 4)))
    except (OSError, ValueError):
        pytest.skip("Pillow writes no such file")
    try:
        found: object = tuple(read(root).train_inputs.shape)
    except DataError as fault:
        found = str(path) in str(fault)
    assert found in ((3, 3, 4, 6), True)


# sizes


def test_an_image_size_of_two_numbers_and_what_the_crop_costs(root: Path) -> None:
    pixels, notes = first(root, Image.fromarray(PICTURE), image_size=(4, 3))
    np.testing.assert_array_equal(pixels, PICTURE[:, 1:4])
    assert any(text.startswith("4 of 4 images were resized to 4x3 (height x width)") for text in notes)
    assert any(text.startswith("4 of 4 images lost up to 50% of the picture to the crop") for text in notes)


def test_padding_keeps_the_picture_whole(root: Path) -> None:
    pixels, notes = first(root, Image.fromarray(PICTURE), image_size=6, resize="pad", background="black")
    np.testing.assert_array_equal(pixels[1:5], PICTURE)
    assert not pixels[[0, 5]].any()
    assert "4 of 4 images were padded with black, up to 33% of the result" in " ".join(notes)


@pytest.mark.parametrize("channels", [1, 3])
def test_padding_has_the_colour_of_the_background(channels: Any, root: Path) -> None:
    pixels, _ = first(root, Image.fromarray(PICTURE), image_size=6, resize="pad", channels=channels)
    assert np.unique(pixels[0]).tolist() == [255]


def test_stretching_changes_the_aspect_and_says_so(root: Path) -> None:
    pixels, notes = first(root, Image.fromarray(PICTURE), image_size=(8, 6), resize="stretch")
    expected = Image.fromarray(PICTURE).resize((6, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    assert any("changed their aspect, by a factor of up to 2.00" in text for text in notes)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5), (16, 9)])
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (8, 3), (8, 8)])
def test_any_shape_becomes_any_size(
    shape: tuple[int, int], size: tuple[int, int], resize: Any, root: Path
) -> None:
    pixels, _ = first(root, Image.new("RGB", shape[::-1], "white"), image_size=size, resize=resize)
    assert pixels.shape == (*size, 3)
    assert np.unique(pixels).tolist() == [255]


def test_an_orientation_comes_before_the_size(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(PICTURE).transpose(Image.Transpose.ROTATE_90)
    pixels, _ = first(root, turned, saved={"exif": exif})
    np.testing.assert_array_equal(pixels, PICTURE)


# size limits


def test_a_picture_over_the_limit_is_an_error_with_the_option(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = error(root, max_pixels=23)
        assert "it is 6x4, 24 pixels; more than 23 are refused" in message
        assert "max_pixels: 24" in message
        assert read(root, max_pixels=24).train_inputs.shape == (2, 3, 4, 6)
        before = Image.MAX_IMAGE_PIXELS
        big = root / "train" / "cat" / "bomb.png"
        save(big, Image.new("1", (20_000, 10_000)))
        assert "pixels; more than 178,956,970" in error(root, image_size=4)
        assert before == Image.MAX_IMAGE_PIXELS
        data = read(root, image_size=4, max_pixels=200_000_000)
        assert len(data.train_targets) == 3


def test_more_images_than_memory_is_an_error_before_it_is_full(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    message = error(root)
    assert "4 images of 4x6 (height x width)" in message
    assert "image_size" in message


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", b"GIF89a"]
)
def test_damaged_files_and_other_languages_are_named(content: bytes, root: Path) -> None:
    (root / "train" / "dog" / "b.png").write_bytes(content)
    message = error(root)
    assert "1 of 5 images can't be used" in message
    assert str(root / "train" / "dog" / "b.png") in message


def test_a_truncated_jpeg_is_named(root: Path) -> None:
    path = root / "train" / "dog" / "b.jpg"
    save(path, Image.fromarray(RNG.integers(0, 256, (4, 6, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[:-40])
    assert str(path) in error(root)
