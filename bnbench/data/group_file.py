"""Groups of images, such as one patient's or one scene's: a CSV file with the columns file and group."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnbench.base.errors import DataError
from bnbench.data.tally import listed, printable

FORM = "a header `file,group`, then one line an image of train, such as `train/cat/1.jpg,patient 7`"


def read_groups(path: Path, root: Path, images: Sequence[Path]) -> list[str]:
    """The group of every image. Raises DataError where one has none, and for a line that fits no image."""
    path = path.expanduser()
    names = [_composed(os.path.relpath(image, root).replace(os.sep, "/")) for image in images]
    wanted = dict.fromkeys(names)
    by_file = _read(path)
    known = {name: group for name, group in by_file.items() if name in wanted}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise DataError(
            f"groups: {path}: {len(missing)} of {len(wanted)} images of train have no line, e.g. {listed(missing, 2)}.",
            f"Every image of train needs its group: {FORM}.",
            "add the lines, with paths relative to the data set's folder.",
        )
    strange = [
        name
        for name in by_file
        if name not in wanted and (name.startswith("train/") or not (root / name).exists())
    ]
    if strange:
        raise DataError(
            f"groups: {path}: {len(strange)} lines name no image that is used, e.g. {listed(strange, 2)}.",
            "The file does not fit the folder.",
            "remove the lines, or correct the paths (relative to the data set's folder).",
        )
    return [known[name] for name in names]


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        state = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(
            f"groups: {path} can't be read: it {state}.", fix=f"groups: to a CSV file with {FORM}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"groups: {path} can't be read: {error}.", fix=f"groups: to a CSV file with {FORM}"
        ) from None
    group_by_file: dict[str, str] = {}
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        if any(rows.fieldnames.count(key) != 1 for key in ("file", "group")):
            columns = ", ".join(map(printable, rows.fieldnames)) or "none"
            raise DataError(f"groups: {path} has the columns: {columns}.", fix=f"write {FORM}.")
        for row in rows:
            _add(row, group_by_file, f"{path}:{rows.line_num}")
    except csv.Error as error:
        raise DataError(f"groups: {path} is not a valid CSV file: {error}.", fix=f"write {FORM}.") from None
    return group_by_file


def _add(row: Mapping[str | None, Any], group_by_file: dict[str, str], place: str) -> None:
    """Add the group of one row. Raises DataError where it is missing or contradictory."""
    if None in row:
        raise DataError(
            f"groups: {place}: the line has more values than the header has columns.",
            "A name with a comma in it would be cut there.",
            'put such a name into quotes: train/cat/1.jpg,"Smith, John"',
        )
    name, group = ((row[key] or "").strip() for key in ("file", "group"))
    if not name or not group:
        raise DataError(f"groups: {place}: a file or its group is missing.", fix=f"write {FORM}.")
    name = _composed(name.replace("\\", "/").removeprefix("./"))
    group = _composed(group)
    if group_by_file.setdefault(name, group) != group:
        raise DataError(f"groups: {place}: {listed([name])} is in two groups.", fix="keep one line.")


def _composed(text: str) -> str:
    """é is one letter, however it was typed."""
    return unicodedata.normalize("NFC", text)
