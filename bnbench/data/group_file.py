"""Which images belong together (of one patient, one scene): a CSV file with the columns file and group."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from bnbench.data.tally import listed, printable
from bnbench.errors import DataError

FORM = "a header `file,group`, then one line an image of train, such as `train/cat/1.jpg,patient 7`"


def read_groups(path: Path, root: Path, images: Sequence[Path]) -> list[str]:
    """The group of every image. Raises DataError where one has none, and for a line that fits no image."""
    path = path.expanduser()
    wanted = {os.path.relpath(image, root).replace(os.sep, "/"): None for image in images}
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
        if (name not in wanted and name.startswith("train/")) or not (root / name).exists()
    ]
    if strange:
        raise DataError(
            f"groups: {path}: {len(strange)} lines name no image that is used, e.g. {listed(strange, 2)}.",
            "The file does not fit the folder.",
            "remove the lines, or correct the paths (relative to the data set's folder).",
        )
    return [known[name] for name in wanted]


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        state = "is no plain file" if path.exists() else "does not exist"
        raise DataError(
            f"groups: {path} can't be read: it {state}.", fix=f"groups: to a CSV file with {FORM}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"groups: {path} can't be read: {error}.", fix=f"groups: to a CSV file with {FORM}"
        ) from None
    found: dict[str, str] = {}
    try:
        rows = csv.DictReader(text.splitlines(), strict=True)
        if rows.fieldnames is None or not {"file", "group"} <= {name.strip() for name in rows.fieldnames}:
            columns = ", ".join(map(printable, rows.fieldnames or ())) or "none"
            raise DataError(f"groups: {path} has the columns: {columns}.", fix=f"write {FORM}.")
        for line, row in enumerate(rows, start=2):
            name, group = ((row.get(key) or "").strip() for key in ("file", "group"))
            if not name or not group:
                raise DataError(
                    f"groups: {path}:{line}: a file or its group is missing.", fix=f"write {FORM}."
                )
            name = name.replace("\\", "/").removeprefix("./")
            if found.setdefault(name, group) != group:
                raise DataError(
                    f"groups: {path}:{line}: {listed([name])} is in two groups.", fix="keep one line."
                )
    except csv.Error as error:
        raise DataError(f"groups: {path} is no CSV file: {error}.", fix=f"write {FORM}.") from None
    return found
