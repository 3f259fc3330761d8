"""Image folders as they are on real disks: links, loops, pipes, hidden files, doubles, names that look alike."""

from __future__ import annotations

import os
import shutil
import socket
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.imagefolder import imagefolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, three images of each in train and one in test, all different."""
    shade = iter(range(0, 250, 5))
    for part, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            for number in range(count):
                save(tmp_path / "images" / part / name / f"{number}.png", next(shade))
    return tmp_path / "images"


def save(path: Path, shade: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), shade, np.uint8)).convert(mode).save(path, format="png")


def read(root: Path, **options: Any) -> Dataset:
    return imagefolder(root.parent / "data_dir", path=root, **options)


def error(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **options)
    return str(caught.value)


def note(data: Dataset, word: str) -> str:
    """The only note or caution with that word."""
    (found,) = [text for text in (*data.notes, *data.cautions) if word in text]
    return found


def shades(data: Dataset) -> list[int]:
    return sorted(data.train_inputs[:, 0, 0, 0].tolist())


PLAIN = [0, 5, 10, 15, 20, 25]


@pytest.mark.parametrize(
    "links", [{"cat/l": "."}, {"cat/a": ".", "cat/b": "."}, {"cat/up": ".."}, {"cat/root": "../.."}]
)
def test_links_back_up_add_no_image_and_end(links: dict[str, str], root: Path) -> None:
    for link, target in links.items():
        (root / "train" / link).symlink_to(target)
    start = time.monotonic()
    data = read(root)
    assert time.monotonic() - start < 5
    assert shades(data) == PLAIN
    assert note(data, "not followed").startswith(
        f"not followed: {len(links)} link{'s' * (len(links) > 1)} back to a folder above"
    )


def test_a_link_to_the_part_itself_is_no_class(root: Path) -> None:
    (root / "train" / "loop").symlink_to(".")
    data = read(root)
    assert data.class_names == ("cat", "dog")
    assert note(data, "not followed").endswith("e.g. train/loop")


def test_two_folders_that_link_to_each_other_are_read_once(root: Path) -> None:
    for one, other in (("x", "y"), ("y", "x")):
        save(root / "train" / "cat" / one / "i.png", 100 + ord(one))
        (root / "train" / "cat" / one / "to").symlink_to(f"../{other}")
    assert shades(read(root)) == [*PLAIN, 100 + ord("x"), 100 + ord("y")]


def test_links_to_files_and_folders_elsewhere_are_followed(root: Path) -> None:
    save(root.parent / "elsewhere" / "a.png", 200)
    save(root.parent / "more" / "deep" / "b.png", 205)
    (root / "train" / "cat" / "file.png").symlink_to(root.parent / "elsewhere" / "a.png")
    (root / "train" / "cat" / "folder").symlink_to(root.parent / "more")
    data = read(root)
    assert shades(data) == [*PLAIN, 200, 205]
    assert not [text for text in data.notes if "link" in text]


def test_one_file_with_several_names_counts_once_in_its_class(root: Path) -> None:
    os.link(root / "train" / "cat" / "0.png", root / "train" / "cat" / "hard.png")
    (root / "train" / "cat" / "soft.png").symlink_to("0.png")
    data = read(root)
    assert shades(data) == PLAIN
    assert note(data, "second name").startswith("counted once: 2 files")


def test_one_file_in_two_classes_or_in_two_parts_is_a_caution(root: Path) -> None:
    os.link(root / "train" / "cat" / "0.png", root / "train" / "dog" / "same.png")
    (root / "test" / "dog" / "seen.png").symlink_to(root / "train" / "dog" / "1.png")
    data = read(root)
    assert note(data, "two classes") == (
        "in two classes of train: 1 file (a link, or one file with two names), e.g. train/dog/same.png"
    )
    assert note(data, "too good") == (
        "in test and in train: 1 of 3 files of test (links), e.g. test/dog/seen.png: the test numbers are too good"
    )


def test_one_folder_for_train_and_test_is_refused(root: Path) -> None:
    shutil.rmtree(root / "test")
    (root / "test").symlink_to("train")
    assert '"train" and "test"' in error(root)


def test_pipes_sockets_and_broken_links_are_left_out_and_counted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "train" / "cat" / "pipe.png")
    (root / "train" / "cat" / "gone.png").symlink_to("nowhere.png")
    (root / "train" / "cat" / "circle.png").symlink_to("circle.png")
    monkeypatch.chdir(root / "train" / "dog")  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        start = time.monotonic()
        data = read(root)
    assert time.monotonic() - start < 5
    assert shades(data) == PLAIN
    assert note(data, "pipes").startswith("left out: 2 pipes, sockets or devices")
    assert note(data, "nowhere").startswith("left out: 2 links that lead nowhere")


def test_hidden_files_and_folders_are_left_out_and_counted(root: Path) -> None:
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (root / "train" / "cat" / name).write_bytes(b"x")
    save(root / "train" / ".thumbnails" / "t.png", 99)
    save(root / "train" / "dog" / ".cache" / "t.png", 99)
    save(root / "__MACOSX" / "train" / "t.png", 99)
    data = read(root)
    assert shades(data) == PLAIN
    assert note(data, "hidden").startswith("left out: 7 hidden files or folders, e.g. ")


def test_other_suffixes_are_counted_and_known_ones_are_read_in_any_case(root: Path) -> None:
    for name, shade in (("a.JFIF", 200), ("b.Jpe", 205), ("c.PNG", 210)):
        save(root / "train" / "cat" / name, shade)
    for name in ("a.heic", "b", "list.txt"):
        (root / "train" / "cat" / name).write_bytes(b"x")
    data = read(root)
    assert shades(data) == [*PLAIN, 200, 205, 210]
    assert note(data, "suffix") == ("left out: 3 files whose suffix is not an image's, e.g. train/cat/a.heic")


def test_files_and_folders_beside_the_parts_and_classes_are_counted(root: Path) -> None:
    save(root / "train" / "loose.png", 99)
    (root / "readme.txt").write_text("x")
    save(root / "extra" / "cat" / "0.png", 99)
    data = read(root)
    assert note(data, "beside the class folders") == (
        "left out: 1 file beside the class folders, and so of no class, e.g. train/loose.png"
    )
    assert note(data, "file beside the folders train and test").endswith("e.g. readme.txt")
    assert note(data, "folder beside train, test").endswith("e.g. extra")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_a_validation_folder_is_used(name: str, root: Path) -> None:
    save(root / name / "dog" / "v.png", 123)
    data = read(root)
    assert data.val_inputs is not None
    assert data.val_targets is not None
    assert data.val_inputs[:, 0, 0, 0].tolist() == [123]
    assert data.val_targets.tolist() == [1]
    assert shades(data) == PLAIN
    assert note(data, "in val") == '1 of 2 classes have no image in val: "cat"'


def test_two_validation_folders_are_refused(root: Path) -> None:
    save(root / "val" / "dog" / "v.png", 123)
    save(root / "dev" / "dog" / "v.png", 124)
    assert '"val", "dev"' in error(root)


def test_class_names_are_compared_as_people_read_them(root: Path) -> None:
    for part, form in (("train", "NFC"), ("test", "NFD")):
        (root / part / "cat").rename(root / part / unicodedata.normalize(form, "café"))  # type: ignore[arg-type]
    data = read(root)
    assert data.class_names == ("café", "dog")
    assert data.test_targets.tolist() == [0, 1]


def test_two_folders_of_one_name_in_two_forms_are_refused(root: Path) -> None:
    for form in ("NFC", "NFD"):
        save(root / "train" / unicodedata.normalize(form, "café") / "0.png", 99)
    assert 'are called "café"' in error(root)


@pytest.mark.parametrize(
    ("train", "test"), [("cat", "Cat"), ("cat", "cat "), ("big cat", "big_cat"), ("1", "01")]
)
def test_names_that_differ_between_parts_are_refused_with_the_twin(train: str, test: str, root: Path) -> None:
    (root / "train" / "cat").rename(root / "train" / train)
    (root / "test" / "cat").rename(root / "test" / test)
    assert f'"{test}" reads like "{train}".' in error(root)


def test_twins_within_a_part_are_noted(root: Path) -> None:
    for part in ("train", "test"):
        save(root / part / "Cat" / "0.png", 98 if part == "test" else 99)
    assert note(read(root), "nearly alike") == (
        '1 pairs of classes have names that read nearly alike: "Cat" and "cat"; they count as different'
    )


def test_classes_that_are_numbers_are_in_the_order_of_numbers(root: Path) -> None:
    for number in range(11):
        for part in ("train", "test"):
            save(root / part / str(number) / "0.png", 100 + number + 20 * (part == "test"))
    for part in ("train", "test"):
        shutil.rmtree(root / part / "cat")
        shutil.rmtree(root / part / "dog")
    assert read(root).class_names == tuple(map(str, range(11)))


def test_a_class_that_test_lacks_is_noted_and_one_that_train_lacks_refused(root: Path) -> None:
    save(root / "train" / "emu" / "0.png", 99)
    assert note(read(root), "no image in test") == '1 of 3 classes have no image in test: "emu"'
    save(root / "test" / "fox" / "0.png", 98)
    assert 'only in test: "fox"; only in train: "emu"' in error(root)


def test_an_empty_class_names_what_is_there(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "train" / "emu" / "a.heic").write_bytes(b"x")
    message = error(root)
    assert 'for: "emu"' in message
    assert "e.g. train/emu/a.heic" in message


def test_a_folder_that_can_not_be_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    message = error(root)
    assert "train/dog can't be read: Permission denied" in message
    assert "Fix: chmod" in message


def test_names_that_no_terminal_can_show_are_escaped(root: Path) -> None:
    save(root / "train" / "cat" / "a\x1b[31m\n.tiff.txt", 99)
    os.mkdir(os.fsencode(root / "train") + b"/ca\xfft")
    os.mkdir(os.fsencode(root / "test") + b"/ca\xfft")
    for part in ("train", "test"):
        shutil.copy(os.fsencode(root / part / "cat" / "0.png"), os.fsencode(root / part) + b"/ca\xfft/0.png")
    data = read(root)
    assert "\\x1b[31m\\n" in note(data, "suffix")
    assert data.class_names == ("ca\\udcfft", "cat", "dog")
    "".join((*data.notes, *data.class_names)).encode("utf-8")


# groups


def test_groups_from_a_csv_file(root: Path, tmp_path: Path) -> None:
    lines = [f"train/{name}/{number}.png,p{number}" for name in ("cat", "dog") for number in range(3)]
    (tmp_path / "g.csv").write_text("group_of,file,group\n" + "".join(f"x,{line}\n" for line in lines))
    groups = read(root, groups=tmp_path / "g.csv").groups
    assert groups is not None
    assert groups.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("header", ["file,group", "\ufefffile, group", '"group_of", file,"group"'])
def test_groups_are_compared_as_people_read_them(header: str, root: Path, tmp_path: Path) -> None:
    """Oracle: by hand. é is one letter, however it was typed; a line separator inside a name ends no line."""
    names = ["\u00e9", "e\u0301", '"a, b"', '"a, b"', "c\u2028d", "c\u2028d"]
    start = "x," if "group_of" in header else ""
    files = [f"train/{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
    lines = [f"{start}{file},{name}" for file, name in zip(files, names, strict=True)]
    (tmp_path / "g.csv").write_text("\n".join([header, *lines]))
    groups = read(root, groups=tmp_path / "g.csv").groups
    assert groups is not None
    assert [groups[i] == groups[i + 1] for i in range(5)] == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,group\ntrain/cat/0.png,a\n", "5 of 6 images of train have no line"),
        ("name,group\n", "has the columns: name, group"),
        ("", "has the columns: none"),
        ("file,group\ntrain/cat/0.png,\n", ":2: a file or its group is missing"),
        ("file,group\ntrain/cat/0.png,a\ntrain/cat/0.png,b\n", ':3: "train/cat/0.png" is in two groups'),
        ('file,group\n"train/cat', "is not a valid CSV file"),
        ("ALL,train/cat/9.png,z", 'e.g. "train/cat/9.png"'),
        ("file,group\n\n\ntrain/cat/0.png,\n", ":4: a file or its group is missing"),
        ("file,group\ntrain/cat/0.png,Smith, John\n", ":2: the line has more values than the header"),
        ("file,group,group\n", "has the columns: file, group, group"),
    ],
)
def test_groups_that_do_not_fit(text: str, message: str, root: Path, tmp_path: Path) -> None:
    if text.startswith("ALL,"):
        rows = [f"train/{name}/{number}.png,p{number}\n" for name in ("cat", "dog") for number in range(3)]
        text = "file,group\n" + "".join(rows) + text[4:] + "\n"
    (tmp_path / "g.csv").write_text(text)
    assert message in error(root, groups=tmp_path / "g.csv")
    assert "can't be read" in error(root, groups=tmp_path / "none.csv")


# the cache


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnbench.data.array_cache.SETTLED", 0.0)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", ["swap", "swap folders", "edit", "replace", "hard link"])
def test_a_change_that_leaves_size_and_time_is_seen(change: str, root: Path) -> None:
    for path in root.rglob("*.png"):
        Image.open(path).save(path, format="bmp")  # all of one size
        os.utime(path, (10**9, 10**9))
    before = read(root)
    cat, dog = root / "train" / "cat", root / "train" / "dog"
    if change == "swap folders":
        swap(cat, dog)
    elif change == "swap":
        swap(cat / "0.png", dog / "0.png")
    elif change == "edit":
        with (cat / "0.png").open("r+b") as file:
            file.write((dog / "0.png").read_bytes())
    elif change == "replace":
        shutil.copy(dog / "0.png", cat / "new")
        os.replace(cat / "new", cat / "0.png")
    else:
        (cat / "0.png").unlink()
        os.link(dog / "0.png", cat / "0.png")
    for path in root.rglob("*.png"):
        os.utime(path, (10**9, 10**9))
    after = read(root)
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint == imagefolder(root.parent / "another", path=root).fingerprint


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_files_that_changed_this_moment_are_not_kept(root: Path) -> None:
    read(root)
    assert not (root.parent / "data_dir").exists()


@pytest.mark.usefixtures("settled")
def test_notes_are_kept_with_the_pixels(root: Path) -> None:
    save(root / "train" / "cat" / "gray.png", 99, "L")
    first, second = read(root), read(root)
    assert "1 of 9 images are gray" in note(first, "gray")
    assert first.notes == second.notes


def test_copies_of_pixels_are_noted_and_those_in_test_a_caution(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                path = tmp_path / "images" / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(path)
    root = tmp_path / "images"
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "dog" / "9.png")
    shutil.copy(root / "train" / "cat" / "1.png", root / "test" / "cat" / "9.png")
    data = read(root)
    assert note(data, "copies").startswith("1 of 7 samples of train are copies of others, value for value")
    assert note(data, "too good") == (
        "in test and in train, value for value: 1 of 7 samples of test, e.g. test/cat/9.png: "
        "the test numbers are too good"
    )


def test_parts_that_are_lit_differently_are_a_caution(root: Path) -> None:
    for path in (root / "test").rglob("*.png"):
        save(path, 250)
    assert "every input of test is equal" in note(read(root), "every input")
