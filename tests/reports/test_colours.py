"""The variants' colours can be told apart by everyone, and be seen on both grounds; the dashes say the same again."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import bnbench.reports.page
from bnbench.reports.figures.colours import (
    BASELINE_COLOUR,
    CELL_BORDER,
    COLOURS,
    RULE_COLOUR,
    colours,
    dashes,
)

#: Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as it is seen without one kind of cone.
VISIONS = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
STYLE = (Path(bnbench.reports.page.__file__).parent / "page.css").read_text()
GROUNDS = dict(zip(("white", "dark"), re.findall(r"--ground: (#\w+)", STYLE), strict=True))


def linear(colour: str) -> np.ndarray:
    """sRGB as light."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b*, in which a distance of 2 is just seen."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = to_xyz @ light.clip(0, 1) / np.array([0.9505, 1.0, 1.089])
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def contrast(first: str, second: str) -> float:
    """WCAG's."""
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("vision", list(VISIONS))
def test_any_two_colours_differ(vision: str) -> None:
    seen = [lab(VISIONS[vision] @ linear(colour)) for colour in (BASELINE_COLOUR, *COLOURS)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20


@pytest.mark.parametrize("ground", list(GROUNDS))
def test_lines_can_be_seen(ground: str) -> None:
    """WCAG 1.4.11 asks for 3 to 1."""
    for colour in (BASELINE_COLOUR, *COLOURS, RULE_COLOUR, CELL_BORDER):
        assert contrast(colour, GROUNDS[ground]) >= 3, colour


@pytest.mark.parametrize("name", ["text", "quiet", "link", "worse"])
def test_letters_can_be_read(name: str) -> None:
    """WCAG 1.4.3 asks for 4.5 to 1, on the page and on raised boxes."""
    texts = re.findall(rf"--{name}: (#\w+)", STYLE)
    raised = re.findall(r"--raised: (#\w+)", STYLE)
    for text, ground, box in zip(texts, GROUNDS.values(), raised, strict=True):
        assert contrast(text, ground) >= 4.5
        assert contrast(text, box) >= 4.5


def test_42_variants_have_42_looks() -> None:
    names = [f"v{i}" for i in range(42)]
    assert len(set(zip(colours(names), map(str, dashes(names)), strict=True))) == 42
