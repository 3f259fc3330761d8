"""Draws what the commands print, as SVG: a real run of each, at 80 columns.

Run from the repository's root, after `pip install -e .`:  python docs/screenshots.py
It writes docs/images/compare.svg (the end of what the quickstart prints), verify_right.svg and verify_wrong.svg.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path("docs/images")
WIDTH = 80
#: Lines at the end of the output that a picture shows.
SCREEN = 66


def draw(command: str, target: Path, *options: str, last: int | None = None) -> None:
    """Run `bnbench COMMAND OPTIONS`, and write the picture of what it prints; the options aren't shown."""
    output = subprocess.run(
        [sys.executable, "-m", "bnbench", *command.split(), *options],
        env={**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    lines = output.rstrip("\n").split("\n")
    shown = lines[-last:] if last and len(lines) > last else lines
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(f"$ bnbench {command}", markup=False, highlight=False)
    console.print(f"... {len(lines) - len(shown)} lines ...\n" if len(shown) < len(lines) else "")
    console.print(Text.from_ansi("\n".join(shown)))
    # a fixed id: the same run gives the same bytes
    console.save_svg(str(target), title="bnbench", unique_id=target.stem)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw("compare", IMAGES / "compare.svg", "--output", folder, last=SCREEN)
    for kind in ("right", "wrong"):
        draw(f"verify docs/examples/{kind}_layer.py:BatchNorm", IMAGES / f"verify_{kind}.svg")
