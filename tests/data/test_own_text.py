"""Texts of the user's own. Oracles: the text as it was written; Python's csv and json; each mistake's line by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbench.base.errors import DataError
from bnbench.data import Dataset, datasets
from bnbench.data.own_text import _holds
from bnbench.data.tensors import base_of
from bnbench.data.text.reading import Reading
from bnbench.data.text.tables import Columns, read_table

WORDS = "the quick brown fox jumps over the lazy dog. " * 40
CELLS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1, max_size=30)


def load(path: Path, **options: object) -> Dataset:
    return datasets.get("text").factory(path.parent, path=path, **options)  # type: ignore[no-any-return]


def text_of(data: Dataset, train: str) -> str:
    """The training text again, from its tokens."""
    held = base_of(data.train_inputs)
    assert held is not None
    alphabet = sorted(set(train))
    return "".join(alphabet[token - 1] for token in held.tolist())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(("é" + WORDS).encode(encoding))
    data = load(path)
    train = ("é" + WORDS)[: (len(WORDS) + 1) * 8 // 10]
    assert text_of(data, train) == train
    assert any("byte-order mark" in note for note in data.notes)


def test_line_ends_of_windows_are_read_as_one_character(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(WORDS.replace(". ", ".\r\n").encode())
    data, train = load(path), WORDS.replace(". ", ".\n")[: len(WORDS) * 8 // 10]
    assert len(base_of(data.train_inputs)) == len(WORDS) * 8 // 10  # type: ignore[arg-type]
    assert text_of(data, train).startswith("the quick brown fox jumps over the lazy dog.\nthe")
    assert any("line ends of Windows" in note for note in data.notes)


def test_the_files_of_a_folder_follow_one_another_by_name(tmp_path: Path) -> None:
    for name, content in (
        ("b.txt", "B" * 300),
        ("a.TXT", "A" * 700),
        ("c.txt", " \n"),
        ("d.md", "x"),
        (".e.txt", "y"),
    ):
        (tmp_path / name).write_text(content)
    data = load(tmp_path)
    assert text_of(data, "\nAB") == ("A" * 700 + "\n\n" + "B" * 300)[: 1003 * 8 // 10]
    notes = " ".join(data.notes)
    assert "1 empty document, e.g. c.txt" in notes
    assert "not in .txt, e.g. d.md" in notes


def test_all_files_with_a_mistake_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo caf\xe9\n")
    (tmp_path / "b.txt").write_bytes(b"one\nt\x00o")
    (tmp_path / "c.txt").write_text(WORDS)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    text = str(caught.value)
    assert "2 mistakes" in text
    assert "a.txt: it is not in utf-8: byte 0xe9 at position 11, line 2 (encoding: cp1252" in text
    assert "b.txt:2: a zero byte" in text
    (tmp_path / "b.txt").unlink()
    assert text_of(load(tmp_path, encoding="latin-1"), "one\ntwo café\n" + WORDS).startswith("one\ntwo café")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_text(""), "it is empty"),
        (lambda p: p.write_text("  \n"), "it is empty"),
        (lambda p: p.write_text("short"), "A window takes 65"),
        (lambda p: p.write_text("a" * 2000), "all 1,600 characters of the training part are the same one"),
        (lambda p: p.mkdir(), "holds no .txt file"),
    ],
)
def test_texts_that_can_not_be_used(tmp_path: Path, make: object, words: str) -> None:
    path = tmp_path / "t.txt"
    make(path)  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        load(path)
    assert words in str(caught.value)


def test_an_unknown_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(WORDS)
    with pytest.raises(DataError, match='no encoding is called "utf-9"'):
        load(path, encoding="utf-9")


def test_a_vocabulary_smaller_than_the_alphabet(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(WORDS)
    with pytest.raises(
        DataError, match=r"vocabulary: 20, and unit: words has a token for each of the 28 characters"
    ):
        load(path, unit="words", vocabulary=20)
    assert load(path, unit="words", vocabulary=29).tokens.size == 29  # type: ignore[union-attr]


def table(path: Path, rows: list[tuple[str, str]], delimiter: str = ",") -> Path:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([("text", "label"), *rows])
    path.write_bytes(out.getvalue().encode())
    return path


@given(st.lists(st.tuples(CELLS, st.sampled_from(["a", "b", "10"])), min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_tables_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": a, "label": b}) for a, b in rows))
    else:
        table(path, rows, "\t" if suffix == ".tsv" else ",")
    reading = Reading("utf-8")
    found = read_table(path, Columns(), reading)
    filled = [(a, b) for a, b in rows if a.strip()]
    assert list(zip(found.texts, found.labels, strict=True)) == filled
    assert len(reading.faults) == len(rows) - len(filled)


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_no_file_makes_the_reader_raise(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    path.write_bytes(content)
    limit = csv.field_size_limit()
    reading = Reading("utf-8")
    found = read_table(path, Columns(), reading)
    assert found.texts or reading.faults
    assert csv.field_size_limit() == limit


def test_every_line_with_a_mistake_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,label\nfine,a\n"two\nlines",\n,b\n\none,two,three\n  ,\nfine,b\n')
    with pytest.raises(DataError) as caught:
        load(path)
    lines = [line.strip().removeprefix(f"{path}:") for line in str(caught.value).split("\n")[1:-1]]
    assert [line.partition(" ")[0] for line in lines] == ["3:", "5:", "7:", "8:", "8:"]
    assert lines[0] == "3: the label is missing"
    assert lines[1] == "5: the text is missing"
    assert lines[2].startswith("7: 3 fields, and the header has 2")


def test_columns_by_another_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Text,labels\n" + "".join(f"word {n},{n % 2}\n" for n in range(20)))
    with pytest.raises(DataError) as caught:
        load(path)
    assert 'there is no column "text" (text_column). Did you mean text_column: "Text"?' in str(caught.value)
    data = load(path, text_column="Text", label_column="labels")
    assert data.class_names == ("0", "1")


def test_labels_that_train_lacks_and_one_class_alone(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", [("one", "a"), ("two", "b")])
    table(tmp_path / "test.csv", [("three", "c"), ("four", "A")])
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert 'test has labels that train lacks: "A", "c". No network' in str(caught.value)
    assert 'that it never sees. "A" reads like "a".' in str(caught.value)
    with pytest.raises(DataError, match="only one class"):
        load(table(tmp_path / "t.csv", [("one", "a"), ("two", "a")]))


def test_a_fifth_of_each_class_is_the_test_part_and_no_text_is_in_both(tmp_path: Path) -> None:
    rows = [(f"text {n % 40}", "ab"[n % 2]) for n in range(80)]
    data = load(table(tmp_path / "t.csv", rows), unit="characters")
    parts = [{row.numpy().tobytes() for row in part} for part in (data.train_inputs, data.test_inputs)]
    assert not parts[0] & parts[1]
    assert data.test_targets.bincount().tolist() == [8, 8]  # of 20 different texts four, each twice
    assert len(data.train_targets) + len(data.test_targets) == 80
    assert any("texts of train that repeat another one: " in note for note in data.notes)


def test_texts_of_train_that_come_again_in_test_are_a_caution(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", [("one", "a"), ("two", "b")])
    table(tmp_path / "test.csv", [("one", "a"), ("three", "b")])
    (caution,) = load(tmp_path).cautions
    assert caution == "1 of 2 texts of test is in train, too: the test numbers are too good"


def test_words_are_padded_cut_and_counted_by_hand(tmp_path: Path) -> None:
    rows = [("good good film", "p"), ("bad bad film film", "n")]
    table(tmp_path / "train.csv", rows)
    table(tmp_path / "test.csv", [("A good plot", "p"), ("bad bad bad", "n")])
    data = load(tmp_path, length=3)
    # film three times, bad and good twice: 2, 3, 4
    assert data.train_inputs.tolist() == [[4, 4, 2], [3, 3, 2]]
    assert data.test_inputs.tolist() == [[1, 4, 1], [3, 3, 3]]
    assert data.train_targets.tolist() == [1, 0]
    notes = " ".join(data.notes)
    assert "1 of 2 texts of train is longer than 3 words and cut" in notes
    assert "2 of 6 words of test (33.3%) are not in the vocabulary" in notes


def test_a_table_says_which_task_it_is_for(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [("one", "a")])
    assert _holds(path) == "text_classification"
    (tmp_path / "t.txt").write_text("x")
    assert _holds(tmp_path / "t.txt") == ""
    assert _holds(tmp_path / "none") == ""


def test_the_fingerprint_follows_labels_and_texts(tmp_path: Path) -> None:
    rows = [(f"text {n} {n}", "ab"[n % 2]) for n in range(20)]
    first = load(table(tmp_path / "t.csv", rows)).fingerprint
    assert load(table(tmp_path / "t.csv", rows)).fingerprint == first
    assert load(table(tmp_path / "t.csv", [(a, b.upper()) for a, b in rows])).fingerprint != first
    assert torch.equal(load(tmp_path / "t.csv").train_targets, load(tmp_path / "t.csv").train_targets)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "", "t.csv: it is empty."),
        ("t.csv", "text;label\na;b\n", "Fields stand between commas in a .csv file"),
        (
            "t.csv",
            "review,stars\na,b\n",
            '"text" (text_column). text_column: says which one. Columns: "review"',
        ),
        ("t.csv", 'text,label\na,b\n"c,d\ne,f\n', "t.csv:3: a quotation mark opens here"),
        ("t.jsonl", "{nope\n", "in double quotes, at character 2"),
    ],
)
def test_tables_that_can_not_be_used(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        load(tmp_path / name)
    assert words in str(caught.value)
    assert ".." not in str(caught.value).replace("...", "")
