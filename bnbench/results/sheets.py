"""Pictures of what a trained network makes, such as generated images: a PNG for a run and each way of inference.

    runs/<variant>-<cell>/seed-<n>/samples.png          as the study measures it
    runs/<variant>-<cell>/seed-<n>/samples-precise.png  in a further way of inference
    samples/<variant>-seed-<n>.png                      the sheet of each variant that the report shows

Eight images in a row. A pixel of a small image is a square of equal pixels here, so that nothing is smoothed.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnbench.results.contents import Cell
from bnbench.results.run_reader import run_folder
from bnbench.study.evaluation import AT

#: Images in a row, rows at most, and pixels between two images.
COLUMNS, ROWS, GAP = 8, 4, 2
#: Small images are enlarged to at least this side where a whole factor does it; large ones are made smaller.
SMALLEST_SIDE, LARGEST_SIDE = 48, 128
#: The folder of the sheets that the report shows: a repository can commit it beside the summary.
SHEETS = "samples"
#: The grey between the images.
_GREY = 128
#: Larger files are no sheets of ours.
_MOST_BYTES = 4_000_000
_KEPT = re.compile(r".+-seed-[0-9]+\.png")


@dataclass(frozen=True)
class Sheet:
    """The sheet of one run. width, height: in pixels."""

    png: bytes
    width: int
    height: int
    seed: int


def sheet_file(way: str = "") -> str:
    """The file of a run's sheet. way: the further way of inference, "" for the study's own."""
    return f"samples-{way}.png" if way else "samples.png"


def sheet_files(sheets: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a run. sheets: by way of inference, uint8 arrays (K, C, H, W)."""
    return {sheet_file(way): sheet_png(images) for way, images in sheets.items()}


def sheet_png(images: Any) -> bytes:
    """The images (K, C, H, W), uint8, as one PNG: gray, or in colour with three channels or more."""
    import numpy as np
    from PIL import Image

    images = np.asarray(images)[: COLUMNS * ROWS]
    colours = 3 if images.shape[1] >= 3 else 1
    shown = images[:, :colours].transpose(0, 2, 3, 1)
    longest = max(shown.shape[1:3])
    factor = max(1, SMALLEST_SIDE // longest)
    shown = shown.repeat(factor, 1).repeat(factor, 2)
    if longest > LARGEST_SIDE:
        size = tuple(max(1, side * LARGEST_SIDE // longest) for side in (shown.shape[2], shown.shape[1]))
        small = [Image.fromarray(one.squeeze()).resize(size, Image.Resampling.BOX) for one in shown]
        shown = np.stack([np.asarray(one).reshape(size[1], size[0], colours) for one in small])
    height, width = shown.shape[1:3]
    columns, rows = min(COLUMNS, len(shown)), -(-len(shown) // COLUMNS)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, colours), _GREY, np.uint8)
    for place, image in enumerate(shown):
        top, left = (height + GAP) * (place // COLUMNS), (width + GAP) * (place % COLUMNS)
        sheet[top : top + height, left : left + width] = image
    content = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if colours == 1 else sheet).save(content, "PNG", optimize=True)
    return content.getvalue()


def load_sheet(results: Path, cell: Cell) -> Sheet | None:
    """The sheet of the cell's first run that has one. A line such as `batch@precise` has its own."""
    variant, _, way = cell.variant.partition(AT)
    for seed in cell.seeds:
        found = read_sheet(run_folder(results, variant, cell.cell, seed) / sheet_file(way), seed)
        if found is not None:
            return found
    return None


def load_kept_sheet(results: Path, cell: Cell) -> Sheet | None:
    """The same in a folder that keeps its summary alone."""
    sheets = (read_sheet(results / SHEETS / kept_file(cell.variant, seed), seed) for seed in cell.seeds)
    return next((sheet for sheet in sheets if sheet is not None), None)


def kept_file(variant: str, seed: int) -> str:
    """Where the sheet of a variant lies in the folder of those that the report shows."""
    return f"{variant}-seed-{seed}.png"


def kept_sheets(results: Path) -> Iterator[Path]:
    """The sheets in that folder."""
    folder = results / SHEETS
    if folder.is_dir() and not folder.is_symlink():
        yield from (path for path in folder.iterdir() if _KEPT.fullmatch(path.name))


def read_sheet(path: Path, seed: int) -> Sheet | None:
    """A sheet; None where there is no such file or where it is no PNG: no number hangs on it."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or content[-8:-4] != b"IEND":
        return None
    width, height = struct.unpack(">II", content[16:24])
    return Sheet(content, width, height, seed) if 0 < width <= 10_000 and 0 < height <= 10_000 else None
