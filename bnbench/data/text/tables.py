"""Texts with labels from CSV, TSV or JSON lines, each mistake with its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnbench.base.errors import nearest
from bnbench.data.class_names import read_as
from bnbench.data.tally import printable
from bnbench.data.text.labelled import Labelled
from bnbench.data.text.reading import Reading

SUFFIXES = (".csv", ".tsv", ".jsonl")
#: A field of a CSV file may be as long as that; Python's own limit is 131,072 characters.
LONGEST_FIELD = 100_000_000
#: Where a header of one field holds one of these, another delimiter is likely.
OTHER_DELIMITERS = (";", "\t", "|", ",")


@dataclass(frozen=True)
class Columns:
    """The names of the two columns."""

    text: str = "text"
    label: str = "label"


def read_table(path: Path, columns: Columns, reading: Reading) -> Labelled:
    """The texts and labels of a file, in its order. What is wrong with it is added to the reading's faults."""
    content = reading.text(path, lines=False)
    if content is None:
        return Labelled((), ())
    before = len(reading.faults)
    if not content.strip():
        reading.faults.append(f"{printable(path)}: it is empty")
        return Labelled((), ())
    rows = _json_rows if path.suffix.lower() == ".jsonl" else _csv_rows
    texts, labels = [], []
    for line, row in rows(path, content, columns, reading):
        text, label = _filled(row.get(columns.text)), _filled(row.get(columns.label))
        lacking = [
            name for name, value in ((columns.label, label), (columns.text, text)) if not value.strip()
        ]
        reading.faults += [
            f"{printable(path)}:{line}: {'the text' if name == columns.text else 'the label'} is missing"
            for name in lacking
        ]
        if not lacking:
            texts.append(text)
            labels.append(read_as(label.strip()))
    if not texts and len(reading.faults) == before:
        reading.faults.append(f"{printable(path)}: it has no row")
    return Labelled(texts, labels)


def _filled(value: Any) -> str:
    """As text; "" for anything but a text, a number, true or false."""
    return str(value) if isinstance(value, str | int | float) else ""


def _csv_rows(
    path: Path, content: str, columns: Columns, reading: Reading
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(LONGEST_FIELD)
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if not _has_columns(path, header, columns, reading):
            return
        line = reader.line_num + 1
        for row in reader:
            if not row:  # an empty line
                line = reader.line_num + 1
                continue
            if len(row) > len(header):
                reading.faults.append(
                    f"{printable(path)}:{line}: {len(row)} fields, and the header has {len(header)} "
                    '(a text with the delimiter stands in "quotation marks")'
                )
            else:
                yield line, dict(zip(header, row, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        reading.faults.append(f"{printable(path)}:{line}: {_unreadable(error)}")
    finally:
        csv.field_size_limit(limit)


def _unreadable(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return (
            "a quotation mark opens here, or in a line below, that nothing closes (inside quotes, write two)"
        )
    return str(error)


def _has_columns(path: Path, header: list[str], columns: Columns, reading: Reading) -> bool:
    found = True
    for option, name in (("text_column", columns.text), ("label_column", columns.label)):
        if header.count(name) == 1:
            continue
        found = False
        guess = nearest(name, header)
        if any(sign in (header or [""])[0] for sign in OTHER_DELIMITERS) and len(header) == 1:
            wanted = "tabs" if path.suffix.lower() == ".tsv" else "commas"
            hint = f" Fields stand between {wanted} in a {path.suffix} file."
        else:
            hint = f' Did you mean {option}: "{guess}"?' if guess else f" {option}: says which one."
        state = "there is no column" if name not in header else f"{header.count(name)} columns are called"
        listed = ", ".join(f'"{printable(each)}"' for each in header[:10]) or "none"
        reading.faults.append(f'{printable(path)}:1: {state} "{name}" ({option}).{hint} Columns: {listed}')
    return found


def _json_fault(error: Exception) -> str:
    """What is wrong and where in the line, without json's own count of lines."""
    return (
        f"{error.msg}, at character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
    )


def _json_rows(
    path: Path, content: str, columns: Columns, reading: Reading
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(content.split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            reading.faults.append(f"{printable(path)}:{line}: not valid JSON: {_json_fault(error)}")
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            reading.faults.append(
                f'{printable(path)}:{line}: it is no object such as {{"{columns.text}": ..., "{columns.label}": ...}}'
            )
