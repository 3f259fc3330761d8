"""A user's text files: their encoding, line ends, and what is wrong with them."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path

from bnbench.base.errors import DataError
from bnbench.data.tally import Tally, printable

#: Marks at the start of a file that tell its encoding; the longer ones first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Notes on what was changed or left out, by kind.
WORDS = {
    "mark": "{count} file{s} began with a byte-order mark, which is no part of the text",
    "crlf": "{count} file{s} had line ends of Windows or of old Macs: they are read as \\n",
    "empty": "left out: {count} empty document{s}",
    "suffix": "left out: {count} file{s} that {v} not in .txt",
}


@dataclass
class Reading:
    """Files read so far. encoding: of those without a mark. tally: for notes. faults: all mistakes."""

    encoding: str
    tally: Tally = field(default_factory=Tally)
    faults: list[str] = field(default_factory=list)

    def text(self, path: Path, *, lines: bool = True) -> str | None:
        """The text of a file; None where it can't be read, with the reason among the faults.

        lines: read every line end as \\n (a CSV file's reader does that itself).
        """
        name = printable(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            self.faults.append(f"{name}: can't be read: {error.strerror or error}")
            return None
        mark, encoding = next(
            ((mark, encoding) for mark, encoding in _MARKS if content.startswith(mark)), (b"", self.encoding)
        )
        if mark:
            self.tally.add("mark", path.name)
        try:
            text = content[len(mark) :].decode(encoding)
        except (UnicodeDecodeError, LookupError) as error:
            self.faults.append(f"{name}: {_undecodable(error, content, len(mark), encoding)}")
            return None
        if (place := text.find("\0")) >= 0:
            line = text.count("\n", 0, place) + 1
            self.faults.append(
                f"{name}:{line}: a zero byte. The file is binary, or UTF-16 without a byte-order mark "
                "(encoding: utf-16-le)"
            )
            return None
        if lines and "\r" in text:
            self.tally.add("crlf", path.name)
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text

    def notes(self, name: str) -> list[str]:
        """Sentences on what was changed."""
        return [f"{name}: {sentence}" for sentence in self.tally.sentences(WORDS)]


def _undecodable(error: UnicodeDecodeError | LookupError, content: bytes, start: int, encoding: str) -> str:
    if isinstance(error, UnicodeDecodeError):
        place = start + error.start
        line = content.count(b"\n", 0, place) + 1
        return (
            f"it is not in {encoding}: byte 0x{content[place]:02x} at position {place:,}, line {line:,} "
            "(encoding: cp1252 for Western Europe, cp1250 for Central Europe, or whatever it was written in)"
        )
    return f'no encoding is called "{encoding}" (encoding: utf-8)'


def all_faults(faults: list[str], fix: str) -> DataError:
    """One error with every mistake, each of which begins with its file."""
    shown = faults[:20]
    more = [f"... and {len(faults) - len(shown)} more"] if len(faults) > len(shown) else []
    head = f"text: {faults[0].rstrip('.')}." if len(faults) == 1 else f"text: {len(faults)} mistakes:"
    rest = [] if len(faults) == 1 else [f"  {fault}" for fault in (*shown, *more)]
    return DataError("\n".join([head, *rest]), fix=fix)


def documents(path: Path, reading: Reading) -> list[str]:
    """The text of a .txt file, or of every .txt file below a folder in the order of their names.

    Raises DataError where there is none, with all mistakes at once.
    """
    name = f"text: {printable(path)}"
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not hidden(file, path))
        chosen = [file for file in files if file.suffix.lower() == ".txt"]
        for file in files:
            if file.suffix.lower() != ".txt":
                reading.tally.add("suffix", file.name)
        if not chosen:
            raise DataError(
                f"{name}: the folder holds no .txt file.", fix="path: the folder with your .txt files."
            )
    elif path.exists():
        chosen = [path]
    else:
        raise DataError(
            f"{name} does not exist.", fix="path: a .txt file, a folder of them, or a .csv, .tsv or .jsonl."
        )
    texts = []
    for file in chosen:
        text = reading.text(file)
        if text is not None and not text.strip():
            reading.tally.add("empty", file.name)
        elif text is not None:
            texts.append(text)
    if reading.faults:
        raise all_faults(
            reading.faults, "correct the files, or name their encoding; nothing is left out unseen."
        )
    if not texts:
        empty = (
            "it is empty, or only spaces" if len(chosen) == 1 else f"all {len(chosen)} documents are empty"
        )
        raise DataError(f"{name}: {empty}.", "A language model needs text to learn from.", "a longer text.")
    return texts


def hidden(file: Path, root: Path) -> bool:
    """Whether a file, or a folder on the way to it, is hidden."""
    return any(part.startswith(".") for part in file.relative_to(root).parts)
