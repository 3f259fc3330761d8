"""The user's own texts: one long text for a language model, or texts with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bnbench.base.errors import DataError
from bnbench.base.seeding import generator
from bnbench.data import Dataset, datasets
from bnbench.data.class_names import in_order, twin_hint, twin_notes
from bnbench.data.tally import listed, printable
from bnbench.data.text.labelled import Encoding, Labelled, Length, held_out, labelled_dataset
from bnbench.data.text.reading import Reading, all_faults, documents
from bnbench.data.text.tables import SUFFIXES, Columns, read_table
from bnbench.data.text.units import Unit, VocabularySize, unit_of
from bnbench.data.text.windows import PARTS, Remarks, Window, cut, encoded_windows

#: Of a file without a test part of its own, the share of each class that is the test part.
TEST_SHARE = 0.2
FIX = "correct the file, or remove the lines that are wrong; nothing is left out unseen."


def _holds(path: Path) -> str:
    """The task of a table is another one than that of a text."""
    try:
        return "text_classification" if _tables(path.expanduser()) else ""
    except DataError:
        return ""


@datasets.register("text", task="language_model", holds=_holds)
def text(
    data_dir: Path,
    *,
    path: Path,
    unit: Unit | None = None,
    window: Window = 64,
    length: Length = 64,
    vocabulary: VocabularySize = 4000,
    text_column: str = "text",
    label_column: str = "label",
    encoding: str = "utf-8",
) -> Dataset:
    """Your own text: .txt, or a folder of them, for language_model; .csv, .tsv or .jsonl for text_classification.

    A text is cut into 80 % to train on, 10 % validation and 10 % test; the files of a folder follow one another in the
    order of their names. Of a table a fifth of each class is the test part, or PATH is a folder with train.csv,
    test.csv and, where there is one, val.csv. Raises DataError with all mistakes.

    path: the file or the folder
    unit: what a token is; where left out, characters for a language model, words for a table
    vocabulary: tokens at most (words and bpe)
    text_column: of a table
    label_column: of a table
    encoding: of files without a byte-order mark
    """
    path, reading = path.expanduser(), Reading(encoding)
    tables = _tables(path)
    if tables:
        columns = Columns(text_column, label_column)
        return _classes(path, tables, columns, Encoding(unit or "words", length, vocabulary), reading)
    name = f"text: {printable(path)}"
    texts = documents(path, reading)
    parts = cut("\n\n".join(one.strip("\n") for one in texts) + "\n" if len(texts) > 1 else texts[0])
    encoder = unit_of(unit or "characters", [parts["train"]], padded=False, size=vocabulary)
    return encoded_windows(name, parts, encoder, window, Remarks(tuple(reading.notes("text"))))


def _tables(path: Path) -> dict[str, Path]:
    """The files with texts and labels by part; {} where there is a text without labels. Raises DataError."""
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return {"train": path}
    if not path.is_dir():
        return {}
    found = {
        part: [file for suffix in SUFFIXES if (file := path / f"{part}{suffix}").is_file()] for part in PARTS
    }
    names = [file.name for files in found.values() for file in files]
    if twice := [part for part, files in found.items() if len(files) > 1]:
        raise DataError(
            f"text: {printable(path)}: {twice[0]} is there twice: {listed(names)}.", fix="leave one."
        )
    if names and not (found["train"] and found["test"]):
        raise DataError(
            f"text: {printable(path)} holds {listed(names)}.",
            "A folder of tables has one to train on and one to test with.",
            "train.csv and test.csv, or path: the one file, of which a fifth becomes the test part.",
        )
    return {part: files[0] for part, files in found.items() if files}


def _classes(
    path: Path, tables: Mapping[str, Path], columns: Columns, encoding: Encoding, reading: Reading
) -> Dataset:
    """Texts with labels."""
    parts = {part: read_table(file, columns, reading) for part, file in tables.items()}
    if not reading.faults:
        reading.faults += [f"{printable(path)}: {fault}" for fault in _label_faults(parts)]
    if reading.faults:
        raise all_faults(reading.faults, FIX)
    names, notes = in_order(set(parts["train"].labels)), reading.notes("text")
    if "test" not in parts:
        parts = _with_test(parts["train"])
        notes.append(f"text: a fifth of each class, {len(parts['test'].texts):,} texts, is the test part")
    notes += [*twin_notes(names), *_repeats(parts["train"])]
    remarks = Remarks(tuple(notes), tuple(_leaks(parts)))
    return labelled_dataset("text", parts, names, encoding, remarks)


def _label_faults(parts: Mapping[str, Labelled]) -> list[str]:
    known = set(parts["train"].labels)
    faults = [] if len(known) > 1 else [f"only one class, {listed(known)}: a classifier needs at least two"]
    for part, held in parts.items():
        if unknown := in_order(set(held.labels) - known):
            faults.append(
                f"{part} has labels that train lacks: {listed(unknown)}. No network can learn a class that it "
                f"never sees.{twin_hint(unknown, known)}"
            )
    return faults


def _with_test(whole: Labelled) -> dict[str, Labelled]:
    """Train and test; a text that is there several times is in one of them."""
    first = dict(zip(reversed(whole.texts), reversed(whole.labels), strict=True))
    texts = sorted(first)
    out = held_out([first[text] for text in texts], TEST_SHARE, generator(0, "text", "test"))
    test = {text for text, taken in zip(texts, out, strict=True) if taken}
    if not test:
        raise DataError(
            "text: no class has two different texts.",
            "One of them is trained on, the other is the test part.",
            "more texts, or a folder with train.csv and test.csv.",
        )
    pairs = list(zip(whole.texts, whole.labels, strict=True))
    return {
        part: Labelled(
            [text for text, _ in pairs if (text in test) == (part == "test")],
            [label for text, label in pairs if (text in test) == (part == "test")],
        )
        for part in ("train", "test")
    }


def _repeats(train: Labelled) -> list[str]:
    labels: dict[str, set[str]] = {}
    for one, label in zip(train.texts, train.labels, strict=True):
        labels.setdefault(one, set()).add(label)
    notes = []
    if again := len(train.texts) - len(labels):
        notes.append(f"text: texts of train that repeat another one: {again:,} of {len(train.texts):,}")
    if both := sum(len(found) > 1 for found in labels.values()):
        notes.append(
            f"text: {both:,} text{'s' if both > 1 else ''} of train {'have' if both > 1 else 'has'} several labels"
        )
    return notes


def _leaks(parts: Mapping[str, Labelled]) -> list[str]:
    """Cautions on texts that are in train and in another part."""
    train = set(parts["train"].texts)
    counts = {
        part: sum(one in train for one in held.texts) for part, held in parts.items() if part != "train"
    }
    return [
        f"{count:,} of {len(parts[part].texts):,} texts of {part} {'is' if count == 1 else 'are'} in train, too: "
        f"the {part} numbers are too good"
        for part, count in counts.items()
        if count
    ]
