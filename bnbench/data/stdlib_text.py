"""The English text that every Python carries: the topics of its help, from the language's reference manual."""

from __future__ import annotations

import importlib
import platform
import re
from pathlib import Path
from typing import Literal

from bnbench.base.errors import DataError
from bnbench.base.seeding import generator
from bnbench.data import Dataset, datasets
from bnbench.data.text.labelled import Encoding, Labelled, Length, held_out, labelled_dataset
from bnbench.data.text.units import Unit, VocabularySize, unit_of
from bnbench.data.text.windows import Remarks, Window, cut, encoded_windows

#: Topics of text_topics have at least so many characters.
LEAST_CHARACTERS = 4000
#: Of each topic's paragraphs, the share that is its test part.
TEST_SHARE = 0.2
#: A paragraph ends at an empty line.
_PARAGRAPH = re.compile(r"\n\s*\n")


@datasets.register("stdlib_text", task="language_model", embedded=True)
def stdlib_text(
    data_dir: Path,
    *,
    unit: Unit = "characters",
    window: Window = 64,
    vocabulary: VocabularySize = 4000,
    repeats: Literal["drop", "keep"] = "drop",
) -> Dataset:
    """The help topics of your Python (pydoc_data.topics): English text, 465 thousand characters on 3.11. No download.

    The topics stand in alphabetical order; the first 80 % are trained on, then 10 % validation, 10 % test. Another
    version of Python has another text, so its numbers do not compare.

    vocabulary: tokens at most (words and bpe)
    repeats: drop leaves out a paragraph that came before, as many topics quote one another; keep: the whole text
    """
    topics = topics_of("stdlib_text")
    whole = "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"
    text = _without_repeats(whole) if repeats == "drop" else whole
    parts = cut(text)
    notes = [
        f"stdlib_text: {len(topics)} topics of Python {platform.python_version()}: {len(whole):,} characters"
    ]
    if len(text) < len(whole):
        notes.append(
            f"stdlib_text: {len(whole) - len(text):,} of them stand in paragraphs that came before, and are left out: "
            "validation and test would hold text of the training part (repeats: keep)"
        )
    encoder = unit_of(unit, [parts["train"]], padded=False, size=vocabulary)
    return encoded_windows("stdlib_text", parts, encoder, window, Remarks(tuple(notes), python_caution()))


def topics_of(dataset: str) -> dict[str, str]:
    """The topics by name. Raises DataError where this Python lacks them."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except Exception as error:  # some distributions leave the module out
        raise DataError(
            f"dataset: {dataset}: Python {platform.python_version()} has no module pydoc_data.topics: {error}.",
            "The text is the help of Python itself, which some distributions leave out.",
            "a Python from python.org or conda, or dataset: {name: text, path: FILE.txt}.",
        ) from error
    return {str(name): str(text) for name, text in topics.items()}


def python_caution() -> tuple[str, ...]:
    """The version of the text stands beside every verdict."""
    return (
        f"the text is that of Python {platform.python_version()}: another version's numbers do not compare",
    )


def paragraphs(text: str) -> list[str]:
    """Without the empty lines between them."""
    return [part.strip("\n") for part in _PARAGRAPH.split(text) if part.strip()]


def words_only(paragraph: str) -> str:
    """Equal for paragraphs that differ in spaces and line breaks alone."""
    return " ".join(paragraph.split())


def _without_repeats(text: str) -> str:
    """Each paragraph where it comes first."""
    first: dict[str, str] = {}
    for part in paragraphs(text):
        first.setdefault(words_only(part), part)
    return "\n\n".join(first.values()) + "\n"


@datasets.register("text_topics", task="text_classification", embedded=True)
def text_topics(
    data_dir: Path, *, unit: Unit = "words", length: Length = 64, vocabulary: VocabularySize = 4000
) -> Dataset:
    """Paragraphs of the help topics of your Python (pydoc_data.topics, those with at least 4,000 characters), by topic.

    A paragraph that several topics hold belongs to the shortest of them, so that none is in two parts. A fifth of each
    topic is the test part, always the same. Another version of Python has other texts, so its numbers do not compare.

    vocabulary: tokens at most (words and bpe)
    """
    topics = topics_of("text_topics")
    chosen = {name: text for name, text in topics.items() if len(text) >= LEAST_CHARACTERS}
    if len(chosen) < 2:
        raise DataError(
            f"dataset: text_topics: {len(chosen)} of {len(topics)} topics of Python {platform.python_version()} have "
            f"{LEAST_CHARACTERS:,} characters."
        )
    owners: dict[str, str] = {}
    for name in sorted(chosen, key=lambda name: (len(chosen[name]), name)):
        for paragraph in paragraphs(chosen[name]):
            owners.setdefault(words_only(paragraph), name)
    whole = sum(len(paragraphs(text)) for text in chosen.values())
    # what has no letter is a line of a table or of stars
    texts = sorted(text for text in owners if any(map(str.isalpha, text)))
    labels = [owners[text] for text in texts]
    test = held_out(labels, TEST_SHARE, generator(0, "text_topics", "test"))
    parts = {
        part: Labelled(
            [text for text, out in zip(texts, test, strict=True) if out == (part == "test")],
            [label for label, out in zip(labels, test, strict=True) if out == (part == "test")],
        )
        for part in ("train", "test")
    }
    note = (
        f"text_topics: {len(chosen)} topics of Python {platform.python_version()} with {LEAST_CHARACTERS:,} characters "
        f"or more: {len(texts):,} different paragraphs of {whole:,}, each of the shortest topic that has it"
    )
    encoding = Encoding(unit, length, vocabulary)
    remarks = Remarks((note,), python_caution())
    return labelled_dataset("text_topics", parts, sorted(set(labels)), encoding, remarks)
