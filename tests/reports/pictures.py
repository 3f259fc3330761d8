"""What stands where in a figure's SVG, measured with the widths of Helvetica's letters (Adobe's AFM, in 1/1000 em)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

_NARROW = {" ": 278, "!": 278, '"': 355, "%": 889, "&": 667, "'": 191, "(": 333, ")": 333, "*": 389, "+": 584,
           ",": 278, "-": 333, ".": 278, "/": 278, ":": 278, ";": 278, "<": 584, "=": 584, ">": 584, "@": 1015,
           "[": 278, "\\": 278, "]": 278, "^": 469, "`": 333, "{": 334, "|": 260, "}": 334, "~": 584,
           "c": 500, "f": 278, "i": 222, "j": 222, "k": 500, "l": 222, "m": 833, "r": 333, "s": 500, "t": 278,
           "v": 500, "w": 722, "x": 500, "y": 500, "z": 500, "I": 278, "J": 500, "M": 833, "W": 944}  # fmt: skip
_SHIFT = re.compile(r"translate\((-?[\d.e+-]+)[ ,]*(-?[\d.e+-]*)\)")
_TURN = re.compile(r"rotate\((-?[\d.]+)")


@dataclass(frozen=True)
class Text:
    """A line of text and the box that it fills, in pixels from the left and the top."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    role: str

    def meets(self, other: Text) -> bool:
        """Whether the boxes overlap by more than a hair."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide > 0.5 and high > 0.5


def letters_width(text: str, size: float) -> float:
    """Pixels of a line of Helvetica; a letter that is not ASCII counts as an em, a capital as 0.7, a sign as 0.556."""
    widths = (
        1000
        if not letter.isascii() and letter not in "±–−"
        else _NARROW.get(letter, 700 if letter.isupper() else 556)
        for letter in text
    )
    return size * sum(widths) / 1000


def texts_of(svg: str) -> list[Text]:
    """Every line of text that can be seen."""
    root = ElementTree.fromstring(svg)
    return list(_texts(root, 0.0, 0.0, ""))


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of a picture."""
    root = ElementTree.fromstring(svg)
    return float(root.attrib["width"]), float(root.attrib["height"])


def lines_of(svg: str, role: str) -> list[tuple[float, float, float, float]]:
    """The straight lines of a mark: from x, y to x, y."""
    root = ElementTree.fromstring(svg)
    return list(_lines(root, 0.0, 0.0, role, False))


def _moved(element: ElementTree.Element, x: float, y: float) -> tuple[float, float]:
    found = _SHIFT.search(element.attrib.get("transform", ""))
    return (x + float(found[1]), y + float(found[2] or 0)) if found else (x, y)


def _texts(element: ElementTree.Element, x: float, y: float, role: str) -> Iterator[Text]:
    x, y = _moved(element, x, y)
    role = next((word for word in element.attrib.get("class", "").split() if word.startswith("role-")), role)
    if element.tag.endswith("}text") and element.attrib.get("opacity") != "0":
        size = float(element.attrib["font-size"].removesuffix("px"))
        spans = [item for item in element if item.tag.endswith("}tspan")]
        for number, line in enumerate(spans or [element]):
            text = "".join(line.itertext())
            yield _box(text, x, y + number * size * 1.25, size, element, role)
        return
    for child in element:
        yield from _texts(child, x, y, role)


def _box(text: str, x: float, y: float, size: float, element: ElementTree.Element, role: str) -> Text:
    width = letters_width(text, size)
    start = {"middle": width / 2, "end": width}.get(element.attrib.get("text-anchor", ""), 0.0)
    turn = _TURN.search(element.attrib.get("transform", ""))
    if turn and float(turn[1]) % 180 == 90:  # upright, read from below
        return Text(text, x - 0.75 * size, y - (width - start), x + 0.2 * size, y + start, role)
    return Text(text, x - start, y - 0.75 * size, x - start + width, y + 0.2 * size, role)


def _lines(
    element: ElementTree.Element, x: float, y: float, role: str, inside: bool
) -> Iterator[tuple[float, float, float, float]]:
    x, y = _moved(element, x, y)
    inside = inside or role in element.attrib.get("class", "").split()
    if inside and element.tag.endswith("}line"):
        yield x, y, x + float(element.attrib.get("x2", 0)), y + float(element.attrib.get("y2", 0))
    for child in element:
        yield from _lines(child, x, y, role, inside)
