"""The sheet of samples: made at the end of a run, kept with it, shown for each variant, kept beside a summary.

Oracles: the pixels by hand from the random numbers that all variants share; Pillow, which reads the PNG back.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import bnbench
from bnbench.api.plugins import known_names
from bnbench.base.seeding import generator
from bnbench.cli.app import app
from bnbench.reports.figures.sheets import write_sheets
from bnbench.results.sheets import read_sheet, sheet_png

PLUGIN = Path(__file__).parents[1] / "tasks" / "shaded.py"
#: The variants and their further ways of inference.
LINES = ("none", "batch", "batch@precise")
STUDY = """
name: s
dataset: digits
task: shaded
model: {name: mlp, hidden: [16]}
optimizer: {name: adam, lr: 0.01}
epochs: 1
max_train_samples: 200
seeds: 2
evaluate: [running, precise]
variants: [none, batch]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sheets")
    (folder / "s.yaml").write_text(STUDY)
    words = ["--output", str(folder / "s"), "--plugin", str(PLUGIN), "--jobs", "1"]
    result = CliRunner().invoke(app, ["compare", str(folder / "s.yaml"), *words])
    assert result.exit_code == 0, result.output
    yield folder
    known_names()


def pixels(png: bytes | Path) -> np.ndarray:
    with Image.open(io.BytesIO(png) if isinstance(png, bytes) else png) as image:
        return np.asarray(image)


def tile(sheet: np.ndarray, place: int, side: int = 48, gap: int = 2) -> np.ndarray:
    top, left = (side + gap) * (place // 8), (side + gap) * (place % 8)
    return sheet[top : top + side, left : left + side]


def test_every_run_keeps_what_its_network_made_of_the_same_random_numbers(place: Path) -> None:
    names = {
        path.parent.parent.name.partition("-")[0] + "/" + path.name
        for path in place.glob("s/runs/*/*/samples*")
    }
    assert names == {"none/samples.png", "batch/samples.png", "batch/samples-precise.png"}
    latent = torch.rand(20, 1, 8, 8, generator=generator(0, "samples")).numpy()[:, 0]
    sheets = sorted(place.glob("s/runs/*/*/samples*.png"))
    assert len(sheets) == 6
    for path in sheets:
        sheet = pixels(path)
        assert sheet.shape == (3 * 50 - 2, 8 * 50 - 2)
        for index in range(20):
            small = tile(sheet, index)[::6, ::6].astype(float)
            assert np.array_equal(tile(sheet, index), np.kron(small, np.ones((6, 6))))
            sure = small.sum() / (255 * latent[index].sum())
            assert 0.1 < sure <= 1
            assert np.abs(small - 255 * sure * latent[index]).max() < 1.2
        assert (tile(sheet, 20) == 128).all()
    first, second = (pixels(path) for path in sheets[:2])
    assert not np.array_equal(first, second)


def test_the_page_has_a_picture_for_each_variant_and_way_of_inference(place: Path) -> None:
    page = (place / "s" / "report.html").read_text()
    shown = re.findall(
        r'<img src="data:image/png;base64,[^"]+" alt="([^"]+)" width="(\d+)" height="(\d+)"', page
    )
    assert shown == [(f"Images made by {name} with seed 0, eight in a row", "398", "148") for name in LINES]
    assert '<a href="#samples">Samples</a>' in page
    assert "All variants start from the same random numbers" in page


def test_a_committed_summary_keeps_the_pictures(place: Path, tmp_path: Path) -> None:
    kept = sorted(path.name for path in (place / "s" / "samples").iterdir())
    assert kept == ["batch-seed-0.png", "batch@precise-seed-0.png", "none-seed-0.png"]
    slim = tmp_path / "slim"
    slim.mkdir()
    for name in ("summary.json", "study.yaml", "environment.json"):
        shutil.copy(place / "s" / name, slim)
    shutil.copytree(place / "s" / "samples", slim / "samples")
    folders = [bnbench.load(folder) for folder in (place / "s", slim)]
    for format in ("png", "svg", "pdf"):
        written = [
            {path.name: path.read_bytes() for path in write_sheets(one.summary, one._results, to, format)}
            for one, to in zip(folders, (tmp_path / "0", tmp_path / "1"), strict=True)
        ]
        assert list(written[0]) == [f"samples_{name}.{format}" for name in LINES]
        assert written[0].keys() == written[1].keys()
        if format != "pdf":  # which holds its time
            assert written[0] == written[1]
    saved = folders[1].save_figures(tmp_path / "figures", "svg")
    assert [path.name for path in saved][-3:] == [f"samples_{name}.svg" for name in LINES]
    (png,) = place.glob("s/runs/none-*/seed-0/samples.png")
    assert (tmp_path / "1" / "samples_none.png").read_bytes() == png.read_bytes()


def test_a_report_forgets_the_picture_of_a_variant_that_has_gone(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s"
    shutil.copytree(place / "s", copy)
    (copy / "samples" / "old-seed-3.png").write_bytes(b"")
    (copy / "samples" / "mine.txt").write_text("mine")
    for path in copy.glob("runs/none-*/seed-0/samples.png"):
        path.write_bytes(b"no picture")
    for path in copy.glob("runs/batch-*/*/samples*.png"):
        path.unlink()
    bnbench.report(copy)
    assert sorted(path.name for path in (copy / "samples").iterdir()) == ["mine.txt", "none-seed-1.png"]
    assert "Images made by none with seed 1, eight in a row" in (copy / "report.html").read_text()


def test_a_copied_run_takes_its_picture_along(place: Path, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        STUDY.replace("name: s", "name: t").replace("[none, batch]", "{a: {norm: none}, b: {norm: batch}}")
    )
    words = ["--output", str(place / "t"), "--plugin", str(PLUGIN), "--jobs", "1"]
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "t.yaml"), *words])
    assert result.exit_code == 0, result.output
    assert len(list(place.glob("t/runs/b-*/*/samples-precise.png"))) == 2
    one, other = (
        next(place.glob(f"{name}/seed-1/samples.png")).read_bytes()
        for name in ("s/runs/none-*", "t/runs/a-*")
    )
    assert one == other


def test_a_task_whose_pictures_fail_keeps_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STUDY.replace("task: shaded", "task: {name: shaded, broken: true}"))
    words = ["--output", str(tmp_path / "s"), "--plugin", str(PLUGIN), "--jobs", "1", "seeds=1"]
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "s.yaml"), *words])
    assert result.exit_code == 0, result.output
    run, _ = (json.loads(path.read_text()) for path in tmp_path.glob("s/runs/*/*/run.json"))
    assert run["outcome"] == "finished"
    assert any(
        "no sheet of samples: the task shaded raised ValueError: no paint" in note for note in run["notes"]
    )
    assert not list(tmp_path.glob("s/**/samples*.png"))


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [
        ((3, 1, 28, 28), (3 * 30 - 2, 28), "L"),
        ((9, 3, 32, 32), (8 * 34 - 2, 2 * 34 - 2), "RGB"),
        ((50, 3, 32, 32), (8 * 34 - 2, 4 * 34 - 2), "RGB"),
        ((1, 2, 5, 9), (45, 25), "L"),
        ((2, 4, 512, 256), (2 * 66 - 2, 128), "RGB"),
    ],
)
def test_the_layout_of_a_sheet(shape: tuple[int, ...], size: tuple[int, int], mode: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(sheet_png(images))) as picture:
        assert (picture.size, picture.mode) == (size, mode)
        if shape[2] <= 128:
            first = np.asarray(picture)[: 48 // max(shape[2:]) * shape[2] or shape[2]]
            channels = images[0, :3] if mode == "RGB" else images[0, :1]
            factor = max(1, 48 // max(shape[2:]))
            wanted = channels.repeat(factor, 1).repeat(factor, 2).transpose(1, 2, 0).squeeze()
            assert np.array_equal(first[: wanted.shape[0], : wanted.shape[1]], wanted)


def test_what_is_no_sheet_is_not_shown(tmp_path: Path) -> None:
    good = sheet_png(np.zeros((1, 1, 8, 8), np.uint8))
    path = tmp_path / "samples.png"
    for content in (b"", b"\x89PNG", good[:40], b"<svg/>", good.replace(b"IHDR", b"IHDX")):
        path.write_bytes(content)
        assert read_sheet(path, 0) is None
    path.write_bytes(good)
    found = read_sheet(path, 7)
    assert found is not None
    assert (found.png, found.width, found.height, found.seed) == (good, 48, 48, 7)
    assert read_sheet(tmp_path / "gone.png", 0) is None
    (tmp_path / "link.png").symlink_to(path)
    assert read_sheet(tmp_path / "link.png", 0) is None
