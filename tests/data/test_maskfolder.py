"""Images with masks in folders. Oracle: the arrays that were saved, read by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.maskfolder import maskfolder

DRAW = np.random.default_rng(0)
COLOURS = [channel for colour in DRAW.integers(0, 256, (256, 3)).tolist() for channel in colour]


def save(root: Path, *, mode: str = "L", count: int = 4) -> dict[str, np.ndarray]:
    """The saved masks of each part; palette masks have colours that are not their ids."""
    saved = {}
    for part in ("train", "test"):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        ids = DRAW.integers(0, 3, (count, 6, 8)).astype("uint8")
        ids[:, 0, 0] = 255
        for index, mask in enumerate(ids):
            image = Image.fromarray(DRAW.integers(0, 256, (6, 8, 3)).astype("uint8"))
            image.save(root / part / "images" / f"{index}.png")
            picture = Image.fromarray(mask)
            if mode == "P":
                picture = Image.fromarray(mask, "L").copy()
                picture.putpalette(COLOURS)
            picture.save(root / part / "masks" / f"{index}.png")
        saved[part] = ids
    return saved


def read(root: Path, tmp_path: Path, **options: object) -> Dataset:
    return maskfolder(tmp_path / "cache", path=root, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_the_ids_of_gray_and_of_palette_masks_are_the_classes(mode: str, tmp_path: Path) -> None:
    saved = save(tmp_path / "d", mode=mode)
    data = read(tmp_path / "d", tmp_path)
    assert data.class_names == ("0", "1", "2")
    assert np.array_equal(data.train_targets.numpy(), saved["train"])
    assert np.array_equal(data.test_targets.numpy(), saved["test"])
    picture = np.asarray(Image.open(tmp_path / "d/train/images/2.png")).transpose(2, 0, 1)
    assert np.array_equal(data.train_inputs[2].numpy(), picture)


def test_images_and_masks_are_stretched_to_one_size_and_masks_keep_their_ids(tmp_path: Path) -> None:
    save(tmp_path / "d")
    data = read(tmp_path / "d", tmp_path, image_size=[12, 16], channels=1)
    assert data.train_inputs.shape == (4, 1, 12, 16)
    assert data.train_targets.shape == (4, 12, 16)
    small = read(tmp_path / "d", tmp_path).train_targets
    assert torch.equal(data.train_targets[:, ::2, ::2], small)  # nearest: every pixel twice


def test_ids_with_gaps_are_numbered_and_keep_their_names(tmp_path: Path) -> None:
    save(tmp_path / "d")
    for path in (tmp_path / "d").glob("*/masks/*.png"):
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids == 255, 255, ids * 20).astype("uint8")).save(path)
    data = read(tmp_path / "d", tmp_path)
    assert data.class_names == ("0", "20", "40")
    assert set(data.train_targets.unique().tolist()) == {0, 1, 2, 255}


def damaged(tmp_path: Path, case: str) -> Path:
    root = tmp_path / "d"
    save(root)
    mask = root / "train/masks/1.png"
    if case == "missing":
        mask.unlink()
    elif case == "more":
        Image.new("L", (8, 6)).save(root / "train/masks/9.png")
    elif case == "colours":
        Image.new("RGB", (8, 6)).save(mask)
    elif case == "size":
        Image.new("L", (6, 8)).save(mask)
    elif case == "lossy":
        Image.open(mask).save(mask.with_suffix(".jpg"))
        mask.unlink()
    elif case == "broken":
        mask.write_bytes(b"no picture")
    elif case == "twice":
        Image.new("RGB", (8, 6)).save(root / "train/images/1.jpg")
    elif case == "turned":
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.new("RGB", (8, 6)).save(root / "train/images/1.png", exif=exif)
    elif case == "unknown":
        Image.new("L", (8, 6), 9).save(root / "test/masks/1.png")
    elif case == "no folder":
        (root / "test/masks").rename(root / "test/labels")
    return root


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", '1 image in .* without a mask: "1"'),
        ("more", '1 mask in .* without a image: "9"'),
        ("colours", r"train/masks/1.png holds colours \(RGB\), not class ids"),
        ("size", "train/masks/1.png is 6x8, and its image 8x6"),
        ("lossy", "train/masks/1.jpg is a JPEG file, whose pixels are not the ones that were saved"),
        ("broken", "train/masks/1.png can't be read"),
        ("twice", "train/images/1.jpg and train/images/1.png have one name"),
        ("turned", "train/images/1.png is turned by its EXIF orientation"),
        ("unknown", "y_test has ids that y_train lacks: 9"),
        ("no folder", 'has no folder "masks"'),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_the_file(case: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(damaged(tmp_path, case), tmp_path)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "no", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match='has no folder "train"'):
        read(tmp_path / "empty", tmp_path)
