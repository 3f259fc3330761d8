"""Draws what `bnbench verify` prints for the two example layers, as SVG.

Run from the repository's root, after `pip install -e .`:  python docs/screenshots.py
It writes docs/images/verify_right.svg and docs/images/verify_wrong.svg.
"""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from bnbench.report.verification import print_verification
from bnbench.verify.judge import Wishes, verify

DOCS = Path("docs")
WIDTH = 80


def draw(layer: str, target: Path) -> None:
    """Verify a layer, and write the terminal's picture to `target`."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(f"$ bnbench verify {layer}\n", markup=False, highlight=False)
    print_verification(console, verify(layer, Wishes()))
    # a fixed id: the same run gives the same bytes
    console.save_svg(str(target), title="bnbench verify", unique_id=target.stem)


if __name__ == "__main__":
    for kind in ("right", "wrong"):
        draw(f"{DOCS}/examples/{kind}_layer.py:BatchNorm", DOCS / "images" / f"verify_{kind}.svg")
