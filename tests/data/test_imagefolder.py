"""The user's own images: exact pixels, a cache that is never trusted blindly, and every message."""

import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.imagefolder import imagefolder
from bnbench.data.progress import progress
from bnbench.data.split import Sampling
from bnbench.study import Choice
from bnbench.tasks import task_of
from tests.prepared import prepare

RNG = np.random.default_rng(0)
#: (part, class, file) -> pixels (height 4, width 6, RGB). PNG keeps them exactly.
IMAGES = {
    (part, name, file): RNG.integers(0, 256, (4, 6, 3), np.uint8)
    for part, files in (("train", ("a.png", "b.PNG", "sub/c.png")), ("test", ("a.png",)))
    for name in ("cat", "dog")
    for file in files
}


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written this moment are kept, too."""
    monkeypatch.setattr("bnbench.data.array_cache.SETTLED", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for (part, name, file), pixels in IMAGES.items():
        save(tmp_path / "images" / part / name / file, pixels)
    return tmp_path / "images"


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read(root: Path, **options: Any) -> Dataset:
    return imagefolder(root.parent / "data_dir", path=root, **options)


def error(root: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(root, **options)
    return caught.value


def cache_files(root: Path) -> list[Path]:
    return sorted((root.parent / "data_dir" / "imagefolder-cache").iterdir())


# pixels


def test_pixels_labels_and_names_are_exact_and_in_order(root: Path) -> None:
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / "cat" / "._a.png").write_bytes(b"left by a Mac")
    data = read(root)
    train = [
        IMAGES["train", name, file] for name in ("cat", "dog") for file in ("a.png", "b.PNG", "sub/c.png")
    ]
    np.testing.assert_array_equal(data.train_inputs.numpy(), np.stack(train).transpose(0, 3, 1, 2))
    assert data.train_targets.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(
        data.test_inputs[1].numpy(), IMAGES["test", "dog", "a.png"].transpose(2, 0, 1)
    )
    assert data.test_targets.tolist() == [0, 1]
    assert data.class_names == ("cat", "dog")


def test_gray_is_the_luma_of_itu_601(root: Path) -> None:
    data = read(root, channels=1)
    assert data.train_inputs.shape == (6, 1, 4, 6)
    colour = IMAGES["train", "cat", "a.png"].astype(float)
    luma = colour @ [0.299, 0.587, 0.114]
    assert np.abs(data.train_inputs[0, 0].numpy() - luma).max() <= 1


def test_a_gray_file_read_as_colour_has_three_equal_channels(root: Path) -> None:
    pixels = RNG.integers(0, 256, (4, 6), np.uint8)
    save(root / "train" / "cat" / "a.png", pixels)
    for channel in read(root).train_inputs[0].numpy():
        np.testing.assert_array_equal(channel, pixels)


def test_a_given_size_scales_the_short_side_and_cuts_the_centre(root: Path) -> None:
    # 4 high and 6 wide, at size 4: nothing to scale, columns 1 to 4 stay
    data = read(root, image_size=4)
    expected = IMAGES["train", "cat", "a.png"][:, 1:5].transpose(2, 0, 1)
    np.testing.assert_array_equal(data.train_inputs[0].numpy(), expected)


@pytest.mark.parametrize("shape", [(8, 8), (8, 12), (17, 8), (2, 3), (1, 1)])
def test_any_size_becomes_the_given_one(shape: tuple[int, int], root: Path) -> None:
    save(root / "train" / "cat" / "a.png", np.full((*shape, 3), 77, np.uint8))
    image = read(root, image_size=4).train_inputs[0]
    assert image.shape == (3, 4, 4)
    assert set(image.flatten().tolist()) == {77}


def test_halving_averages_neighbours(root: Path) -> None:
    # antialiased: a fine checkerboard of 0 and 200 becomes flat gray in the middle, not a moiré of both
    board = (np.indices((32, 32)).sum(0) % 2 * 200).astype(np.uint8)
    save(root / "train" / "cat" / "a.png", board)
    inner = read(root, image_size=16).train_inputs[0, 0, 2:-2, 2:-2].float()
    assert (inner - 100).abs().max() <= 2


# the cache


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every file that PIL opened."""
    files: list[Any] = []
    real = Image.open

    def spy(path: Any, *rest: Any, **options: Any) -> Any:
        files.append(path)
        return real(path, *rest, **options)

    monkeypatch.setattr(Image, "open", spy)
    return files


def test_the_second_time_nothing_is_decoded(
    root: Path, opened: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    first = read(root)
    assert set(opened) == {root / part / name / file for part, name, file in IMAGES}
    assert capfd.readouterr() == ("", f"Decoding 8 images of {root}\n")
    opened.clear()
    second = read(root)
    assert opened == []
    assert second.fingerprint == first.fingerprint
    assert capfd.readouterr() == ("", "")
    assert len(cache_files(root)) == 1


@pytest.mark.parametrize("change", ["content", "time", "added", "renamed", "removed"])
def test_a_changed_file_is_decoded_again_and_the_old_cache_goes(
    change: str, root: Path, opened: list[Any]
) -> None:
    read(root)
    path = root / "train" / "dog" / "a.png"
    pixels = IMAGES["train", "dog", "a.png"] // 2
    if change in ("content", "time"):
        save(path, pixels)
        os.utime(path, ns=(0, 12345))
    elif change == "added":
        save(path.with_name("aa.png"), pixels)
    elif change == "renamed":
        path.rename(path.with_name("z.png"))
    else:
        path.unlink()
    opened.clear()
    data = read(root)
    assert opened
    shown = [image.tobytes() for image in data.train_inputs.numpy()]
    assert (pixels.transpose(2, 0, 1).tobytes() in shown) == (change in ("content", "time", "added"))
    assert len(cache_files(root)) == 1


def test_other_options_have_their_own_cache(root: Path, opened: list[Any]) -> None:
    read(root), read(root, image_size=4), read(root, channels=1)
    assert len(cache_files(root)) == 3
    opened.clear()
    assert read(root, image_size=4).train_inputs.shape == (6, 3, 4, 4)
    assert read(root, channels=1).train_inputs.shape == (6, 1, 4, 6)
    assert opened == []


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "another array"])
def test_a_damaged_cache_is_made_again(damage: str, root: Path, opened: list[Any]) -> None:
    expected = read(root).fingerprint
    (cache,) = cache_files(root)
    content = bytearray(cache.read_bytes())
    if damage == "truncated":
        cache.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        content[content.index(IMAGES["train", "cat", "a.png"].transpose(2, 0, 1).tobytes())] ^= 1
        cache.write_bytes(content)
    elif damage == "empty":
        cache.write_bytes(b"")
    else:
        with np.load(cache) as archive:
            np.savez(cache, key=archive["key"], pixels=archive["pixels"][:3])
    opened.clear()
    assert read(root).fingerprint == expected
    assert opened
    opened.clear()
    assert read(root).fingerprint == expected
    assert opened == []


def test_a_cache_that_can_not_be_written_is_said_and_changes_nothing(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root.parent / "data_dir").write_text("a file where a folder is wanted")
    data = read(root)
    assert len(data.train_targets) == 6
    message = capfd.readouterr().err.splitlines()[1]
    assert message == (
        f"The decoded images can't be kept in {root.parent}/data_dir/imagefolder-cache (Not a directory); "
        "the next run decodes again."
    )


def test_a_write_that_fails_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(read(root).train_targets) == 6
    assert cache_files(root) == []


# progress


def test_a_terminal_gets_a_bar_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress("Decoding [8] images", 8) as advance:
        advance(5)
        advance(3)
    assert "Decoding [8] images" in screen.getvalue()
    assert "8/8" in screen.getvalue()


# messages


def test_no_folder(root: Path) -> None:
    fault = error(root / "none")
    assert fault.what == f"imagefolder: {root / 'none'} does not exist."
    assert "PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg" in fault.fix
    assert error(root / "train" / "cat" / "a.png").what.endswith("a.png is a file.")


def test_no_test_folder(root: Path) -> None:
    (root / "test").rename(root / "val")
    fault = error(root)
    assert fault.what == f'imagefolder: {root} has no folder "test".'
    assert fault.why == "There is: train, val."
    assert "Without PATH/val the validation part is taken out of train." in fault.fix


def test_no_class_folders(root: Path) -> None:
    assert error(root / "train" / "cat").what.endswith('has no folder "train".')
    (root / "flat" / "train").mkdir(parents=True)
    (root / "flat" / "test").mkdir()
    assert error(root / "flat").what == f"imagefolder: {root / 'flat' / 'train'} has no class folders."


def test_only_one_class(root: Path) -> None:
    for part in ("train", "test"):
        (root / part / "dog").rename(root.parent / part)
    dataset = read(root)  # images without classes are data of a generative model
    assert dataset.class_names == ("cat",)
    with pytest.raises(DataError, match='the data set has only one class, "cat"'):
        task_of(Choice(name="image_classification")).check(dataset)
    task_of(Choice(name="gan")).check(dataset)


def test_classes_that_differ(root: Path) -> None:
    (root / "test" / "dog").rename(root / "test" / "Dog")
    fault = error(root)
    assert fault.what == (
        f'imagefolder: the classes of train and test in {root} differ: only in test: "Dog"; only in train: "dog".'
    )
    assert '"Dog" reads like "dog".' in fault.why


def test_a_class_without_images(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "train" / "emu" / "notes.txt").write_text("soon")
    fault = error(root)
    assert fault.what == f'imagefolder: no images in {root / "train"} for: "emu".'
    assert ".jpeg .jpg" in fault.why


@pytest.mark.parametrize("which", [0, 1])
def test_images_that_can_not_be_read_are_all_named(which: int, root: Path) -> None:
    """Also where it is the first, which gives the size."""
    names = ("a.png", "b.PNG") if which else ("a.png",)
    paths = [root / "train" / "dog" / name for name in names] if which else [root / "train" / "cat" / "a.png"]
    paths[0].write_bytes(b"not an image")
    if which:
        paths[1].write_bytes(paths[1].read_bytes()[:60])
    fault = error(root)
    lines = fault.what.splitlines()
    assert lines[0] == f"imagefolder: {len(paths)} of {8 if which else 1} images can't be used:"
    assert [line.strip().split(": ")[0] for line in lines[1:]] == [str(path) for path in paths]
    assert "cannot identify image file" in lines[1]
    assert not (root.parent / "data_dir").exists()


def test_many_bad_images_are_counted(root: Path) -> None:
    for number in range(9):
        (root / "train" / "dog" / f"{number}.png").write_bytes(b"")
    lines = error(root).what.splitlines()
    assert lines[0] == "imagefolder: 9 of 17 images can't be used:"
    assert len(lines) == 7
    assert lines[-1].strip() == "and 4 more"


def test_sizes_that_differ(root: Path) -> None:
    path = root / "test" / "dog" / "a.png"
    save(path, np.zeros((5, 7, 3), np.uint8))
    fault = error(root)
    assert f"{path}: it is 7x5, and {root / 'train' / 'cat' / 'a.png'} is 6x4 (width x height)" in fault.what
    assert fault.fix.endswith("image_size: 32")


def test_no_thread_is_left(root: Path) -> None:
    before = threading.active_count()
    read(root)
    assert threading.active_count() == before


# a part of the images


def many(root: Path, count: int = 30) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(count):
                save(root / part / name / f"{number:02}.png", RNG.integers(0, 256, (4, 6, 3), np.uint8))


@pytest.mark.parametrize("own_val", [False, True])
@pytest.mark.parametrize("by", ["auto", "sample", "class"])
def test_only_what_is_used_is_decoded_and_it_is_the_same(
    by: Any, own_val: bool, root: Path, opened: list[Any]
) -> None:
    many(root)
    if own_val:
        for name in ("cat", "dog"):
            for number in range(9):
                save(root / "val" / name / f"{number}.png", RNG.integers(0, 256, (4, 6, 3), np.uint8))
    cpu = torch.device("cpu")
    limits = {"max_train_samples": 10, "max_eval_samples": 7}
    whole = prepare(read(root), val_fraction=0.25, split_seed=3, device=cpu, by=by, **limits)  # type: ignore[arg-type]
    opened.clear()
    data = imagefolder(root.parent / "other", Sampling(by, 0.25, 3, 10, 7), path=root)
    assert len(opened) == 10 + 7 + 7 + 1  # and the first once more, for its size
    part = prepare(data, val_fraction=0.25, split_seed=3, device=cpu, by=by, **limits)  # type: ignore[arg-type]
    for name in ("train", "val", "test", "probe"):
        assert torch.equal(getattr(part, f"{name}_inputs"), getattr(whole, f"{name}_inputs")), name
        assert torch.equal(getattr(part, f"{name}_targets"), getattr(whole, f"{name}_targets")), name
    assert any("of 7 images" not in text and "max_train_samples" in text for text in part.notes)
    assert set(part.notes) == set(whole.notes)


def test_a_part_has_its_own_cache_and_fingerprint(root: Path, opened: list[Any]) -> None:
    many(root)
    few = Sampling("auto", 0.25, 0, 10, 7)
    prints = set()
    for _ in range(2):
        prints |= {imagefolder(root.parent / "data_dir", few, path=root).fingerprint, read(root).fingerprint}
    assert len(prints) == 2
    opened.clear()
    imagefolder(root.parent / "data_dir", few, path=root)
    assert opened == []
    assert len(cache_files(root)) == 2
