"""Whatever a folder or an npz file holds: a data set with finite numbers, or a DataError; nothing else, and no hang."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from bnbench.base.errors import BnbenchError
from bnbench.data import Dataset
from bnbench.data.imagefolder import imagefolder
from bnbench.data.npz import npz
from tests.prepared import prepare

FUZZ = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@contextmanager
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp())
    try:
        yield place
    finally:
        shutil.rmtree(place)


def use(read: Any, **options: Any) -> None:
    """Read and prepare: what comes out is fit to train on, and every sentence can be shown and stored."""
    try:
        data: Dataset = read()
        prepared = prepare(
            data,
            val_fraction=0.3,
            split_seed=0,
            max_train_samples=None,
            device=torch.device("cpu"),
            **options,
        )
    except BnbenchError as error:
        str(error).encode("utf-8")
        return
    for part in ("val", "test", "probe"):
        images, labels = getattr(prepared, f"{part}_inputs"), getattr(prepared, f"{part}_targets")
        assert len(images) == len(labels) > 0
        assert images.isfinite().all()
        assert 0 <= int(labels.min()) <= int(labels.max()) < len(prepared.class_names)
    for text in (*prepared.notes, *prepared.cautions, *prepared.class_names):
        assert text.isprintable(), text
        text.encode("utf-8")


DTYPES = st.one_of(
    arrays.scalar_dtypes(),
    arrays.unicode_string_dtypes(max_len=3),
    arrays.byte_string_dtypes(max_len=3),
    st.sampled_from(
        [np.dtype(name) for name in ("uint8", "float32", "int64", "bool", "longdouble", "complex64")]
    ),
)
ARRAYS = arrays.arrays(
    dtype=DTYPES, shape=arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
)
LABELS: st.SearchStrategy[Any] = arrays.arrays(
    dtype=st.sampled_from([np.int64, np.float64, np.uint8, np.dtype("<U2"), np.bool_]), shape=6
)
NAMES = st.sampled_from(
    [
        "x_train",
        "y_train",
        "x_test",
        "y_test",
        "x_val",
        "y_val",
        "groups",
        "groups_test",
        "X_test",
        "data",
        "a b",
        "é",
    ]
)


@FUZZ
@given(
    changed=st.dictionaries(NAMES, st.one_of(ARRAYS, LABELS), max_size=4),
    gone=st.sets(NAMES, max_size=1),
    by=st.data(),
)
def test_arrays_of_every_kind(changed: dict[str, Any], gone: set[str], by: st.DataObject) -> None:
    x, y = np.arange(24.0).reshape(6, 4), np.array([0, 1, 2] * 2)
    right = {"x_train": x, "y_train": y, "x_test": x[::-1] + 0.5, "y_test": y}
    content = {name: array for name, array in (right | changed).items() if name not in gone}
    with folder() as place, np.errstate(all="raise"):
        np.savez(place / "d.npz", **content)
        how = by.draw(st.sampled_from(["auto", "sample", "class", "group"]))
        use(lambda: npz(place, path=place / "d.npz"), by=how)


@FUZZ
@given(dtype=st.sampled_from(["float64", "float32", "int64", "uint64", "float16"]), data=st.data())
def test_numbers_of_every_size(dtype: str, data: st.DataObject) -> None:
    kind = np.dtype(dtype)
    elements = (
        arrays.from_dtype(kind)
        if kind.kind in "iu"
        else st.floats(width=8 * kind.itemsize, allow_nan=data.draw(st.booleans()))  # type: ignore[arg-type]
    )
    x = data.draw(arrays.arrays(kind, (6, 3), elements=elements))
    with folder() as place:
        np.savez(place / "d.npz", x_train=x, y_train=[0, 1] * 3, x_test=x[::-1], y_test=[0, 1] * 3)
        use(lambda: npz(place, path=place / "d.npz", same_scale=data.draw(st.booleans())))


@FUZZ
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=20), st.booleans()
)
def test_damaged_npz_files(changes: list[tuple[int, int]], compressed: bool) -> None:
    x, y = np.arange(24.0).reshape(6, 4), np.array([0, 1, 2] * 2)
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, x_train=x, y_train=y, x_test=-x, y_test=y)
    content = bytearray(buffer.getvalue())
    for place, value in changes:
        content[place % len(content)] = value
    with folder() as here:
        (here / "d.npz").write_bytes(content)
        use(lambda: npz(here, path=here / "d.npz"))


def picture(mode: str, size: tuple[int, int], suffix: str) -> bytes:
    buffer = io.BytesIO()
    try:
        Image.effect_noise(size, 60).convert("RGB").convert(mode).save(buffer, format=suffix)
    except (OSError, ValueError, KeyError):
        Image.new("RGB", size, "red").save(buffer, format="png")
    return buffer.getvalue()


PICTURES = st.builds(
    picture,
    st.sampled_from(["RGB", "L", "RGBA", "P", "1", "CMYK", "LA", "I", "F"]),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(["png", "jpeg", "gif", "tiff", "bmp", "webp", "ppm"]),
)
FILE_NAMES = st.sampled_from(
    [
        "a.png",
        "b.JPG",
        "c.jfif",
        ".h.png",
        "Thumbs.db",
        "x.txt",
        "é.png",
        "e\u0301.png",
        "\n.png",
        "a" * 200 + ".png",
    ]
)
FOLDERS = st.sampled_from(
    [
        "train/cat",
        "train/dog",
        "train/Cat",
        "train/cat/sub",
        "train",
        "test/cat",
        "test/dog",
        "val/cat",
        ".",
        "extra",
    ]
)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, str, Any]]:
    """(folder, name, what): a picture's bytes, damaged bytes, a link's target, or None for a pipe."""
    what = st.one_of(
        PICTURES,
        PICTURES.map(lambda content: content[: len(content) // 2]),
        st.binary(max_size=20),
        st.sampled_from([".", "..", "../..", "a.png", "nowhere", "../dog", "/", "../../test"]),
        st.none(),
    )
    return draw(st.lists(st.tuples(FOLDERS, FILE_NAMES, what), max_size=12))


@FUZZ
@given(tree=trees(), size=st.sampled_from([None, 3, (2, 4)]), data=st.data())
def test_folders_of_every_kind(tree: list[tuple[str, str, Any]], size: Any, data: st.DataObject) -> None:
    with folder() as place:
        root = place / "images"
        for part in ("train", "test"):
            for index, name in enumerate(("cat", "dog")):
                (root / part / name).mkdir(parents=True)
                for number in range(3):
                    shade = 40 * number + 20 * index + (part == "test")
                    Image.new("RGB", (4, 4), (shade,) * 3).save(root / part / name / f"{number}.png")
        for where, name, what in tree:
            path = root / where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                continue
            if isinstance(what, str):
                if what != "/":  # the whole disk is for nobody's tests
                    path.symlink_to(what)
            elif what is None:
                os.mkfifo(path)
            else:
                path.write_bytes(what)
        resize: Any = data.draw(st.sampled_from(["crop", "pad", "stretch"]))
        channels: Any = data.draw(st.sampled_from([1, 3]))
        use(lambda: imagefolder(place, path=root, image_size=size, resize=resize, channels=channels))
