"""The figure of samples: what the trained networks make, a picture for each variant."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnbench.analysis.contents import Summary
from bnbench.base.files import write_whole
from bnbench.base.words import phrases
from bnbench.results import StudyResults
from bnbench.results.lines import with_lines
from bnbench.results.sheets import Sheet

#: The section of the page, and how the names of its files begin.
SAMPLES = "samples"


@dataclass(frozen=True)
class Shown:
    """The sheet of one variant: its label, and what it shows for those who don't see it."""

    variant: str
    label: str
    alternative: str
    sheet: Sheet

    @property
    def url(self) -> str:
        """The picture as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.sheet.png).decode('ascii')}"


def shown_sheets(summary: Summary, results: StudyResults) -> list[Shown]:
    """A sheet for each variant and further way of inference that has one; in a sweep at its best setting."""
    cells = {(cell.variant, cell.label): cell for cell in with_lines(results).cells}
    at_best, say = summary.at_best_setting, phrases(summary.language)
    shown = []
    for name in summary.names:
        variant = at_best.get(name)
        cell = cells.get((variant.variant, variant.label)) if variant else None
        sheet = results.sheet(cell) if cell else None
        if variant is not None and sheet is not None:
            words = say("figure.samples.alternative", variant=variant.label, seed=sheet.seed)
            shown.append(Shown(name, variant.label, words, sheet))
    return shown


def sheets_caption(summary: Summary, shown: Sequence[Shown]) -> str:
    """What the sheets show, and from what all of them start."""
    say = phrases(summary.language)
    seeds = sorted({one.sheet.seed for one in shown})
    text = say("figure.samples.caption", seeds=", ".join(map(str, seeds)))
    return text + say("figure.best") * bool(summary.best_settings)


def write_sheets(summary: Summary, results: StudyResults, folder: Path, format: str) -> list[Path]:
    """Every sheet as a file. format: "png", "svg" or "pdf". Raises ResultsError where the folder can't be written."""
    paths = []
    for one in shown_sheets(summary, results):
        path = folder / f"{SAMPLES}_{one.variant}.{format}"
        write_whole(path, _in_format(one, format), fix="--figures with a folder that you may write to.")
        paths.append(path)
    return paths


def _in_format(one: Shown, format: str) -> bytes:
    if format == "png":
        return one.sheet.png
    if format == "svg":
        size = f'width="{one.sheet.width}" height="{one.sheet.height}"'
        image = f'<image {size} style="image-rendering: pixelated" href="{one.url}"/>'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{image}</svg>\n'.encode()
    from PIL import Image

    content = io.BytesIO()
    with Image.open(io.BytesIO(one.sheet.png)) as picture:
        picture.convert("RGB").save(content, format.upper())
    return content.getvalue()
