"""Public texts, downloaded on first use: enwik8, Tiny Shakespeare, AG News.

The checksums are the published ones: of enwik8.zip (SHA-256; its content has the MD5 on mattmahoney.net/dc/textdata),
of Tiny Shakespeare the one in TensorFlow Datasets, of AG News those in torchtext.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bnbench.base.errors import DataError
from bnbench.data import Dataset, Plan, Sizes, datasets
from bnbench.data.download import RemoteFile, fetch
from bnbench.data.text.labelled import Encoding, Labelled, Length, labelled_dataset
from bnbench.data.text.units import Unit, VocabularySize, starts_character, unit_of
from bnbench.data.text.windows import Remarks, Window, cut, encoded_windows, planned_windows

#: Bytes of enwik8; the parts that everybody uses end after 90 % and 95 % of them.
ENWIK8_BYTES = 100_000_000
Used = Annotated[int, Field(ge=10_000, le=ENWIK8_BYTES)]
#: The four classes of AG News, in the order of its class numbers from 1.
AG_NEWS = ("World", "Sports", "Business", "Sci/Tech")
_RAW = "https://raw.githubusercontent.com"


def _enwik8_plan(unit: Unit, window: Window, vocabulary: VocabularySize, used: Used) -> Plan:
    tokens = {
        "bytes": (1.0, 256),
        "characters": (1.0, 5000),
        "words": (0.4, vocabulary),
        "bpe": (0.3, vocabulary),
    }
    share, size = tokens[unit]
    counts = [int(used * part * share) for part in (0.9, 0.05, 0.05)]
    return planned_windows(counts, size, window)


@datasets.register("enwik8", task="language_model", plan=_enwik8_plan)
def enwik8(
    data_dir: Path,
    *,
    unit: Unit = "bytes",
    window: Window = 128,
    vocabulary: VocabularySize = 16_000,
    used: Used = ENWIK8_BYTES,
) -> Dataset:
    """enwik8: the first 100 million bytes of English Wikipedia of 2006, markup and all (Mahoney). Download of 36 MB.

    Bytes 0 to 90 million are trained on, 5 million validation, 5 million test, as usual.

    vocabulary: tokens at most (words and bpe)
    used: bytes of the file, from its start, cut in the same shares
    """
    folder = data_dir / "enwik8"
    urls = ("https://mattmahoney.net/dc/enwik8.zip", "https://data.deepai.org/enwik8.zip")
    digest = "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc"
    file = RemoteFile(urls, folder, "enwik8.zip", digest)
    fetch("enwik8", [file])
    try:
        with zipfile.ZipFile(file.path) as archive, archive.open("enwik8") as member:
            content = member.read(used)
    except (OSError, KeyError, zipfile.BadZipFile) as error:  # its checksum was right
        raise DataError(f"enwik8: {file.path} can't be read: {error}.") from error
    ends = [0, *(_character_start(content, used * tenths // 20) for tenths in (18, 19, 20))]
    parts = {
        part: content[start:end].decode()
        for part, start, end in zip(("train", "val", "test"), ends[:-1], ends[1:], strict=True)
    }
    encoder = unit_of(unit, [parts["train"]], padded=False, size=vocabulary)
    return encoded_windows("enwik8", parts, encoder, window, Remarks())


def _character_start(content: bytes, place: int) -> int:
    """The last place up to this one that cuts no character of UTF-8."""
    while 0 < place < len(content) and not starts_character(content[place]):
        place -= 1
    if content and place == len(content):  # the file itself may end within a character
        start = next(back for back in range(1, 5) if starts_character(content[-back]))
        lead = content[-start]
        needed = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        place -= start if needed > start else 0
    return place


def _shakespeare_plan(unit: Unit, window: Window, vocabulary: VocabularySize) -> Plan:
    tokens = {
        "bytes": (1.0, 256),
        "characters": (1.0, 66),
        "words": (0.5, vocabulary),
        "bpe": (0.35, vocabulary),
    }
    share, size = tokens[unit]
    return planned_windows([int(1_115_394 * part * share) for part in (0.8, 0.1, 0.1)], size, window)


@datasets.register("tiny_shakespeare", task="language_model", plan=_shakespeare_plan)
def tiny_shakespeare(
    data_dir: Path, *, unit: Unit = "characters", window: Window = 64, vocabulary: VocabularySize = 4000
) -> Dataset:
    """Tiny Shakespeare: 1.1 million characters of his plays, one file (Karpathy 2015). Download of 1.1 MB.

    The first 80 % are trained on, then 10 % validation, 10 % test.

    vocabulary: tokens at most (words and bpe)
    """
    url = f"{_RAW}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    digest = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    file = RemoteFile((url,), data_dir / "tiny_shakespeare", "input.txt", digest)
    fetch("tiny_shakespeare", [file])
    parts = cut(file.path.read_bytes().decode())
    encoder = unit_of(unit, [parts["train"]], padded=False, size=vocabulary)
    return encoded_windows("tiny_shakespeare", parts, encoder, window, Remarks())


def _ag_news_plan(unit: Unit, length: Length, vocabulary: VocabularySize) -> Plan:
    size = {"bytes": 257, "characters": 100}.get(unit, vocabulary)
    return Plan(120_000, None, 7_600, Sizes((length,), len(AG_NEWS), vocabulary=size, masked=True), 8)


@datasets.register("ag_news", task="text_classification", plan=_ag_news_plan)
def ag_news(
    data_dir: Path, *, unit: Unit = "words", length: Length = 64, vocabulary: VocabularySize = 16_000
) -> Dataset:
    """AG News: title and first lines of news, 4 classes, 120,000 to train, 7,600 to test (Zhang et al. 2015). 31 MB.

    vocabulary: tokens at most (words and bpe)
    """
    start = f"{_RAW}/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
    digests = {"train": "b1a00f826fdfbd249f79597b59e1dc12", "test": "d52ea96a97a2d943681189a97654912d"}
    files = {
        part: RemoteFile((f"{start}/{part}.csv",), data_dir / "ag_news", f"{part}.csv", digest)
        for part, digest in digests.items()
    }
    fetch("ag_news", list(files.values()))
    parts = {part: _ag_news_part(file.path) for part, file in files.items()}
    return labelled_dataset("ag_news", parts, AG_NEWS, Encoding(unit, length, vocabulary), Remarks())


def _ag_news_part(path: Path) -> Labelled:
    """Rows of class number, title and description; a backslash stands for a line break."""
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    texts = [" ".join(f"{row[1]} {row[2]}".replace("\\", " ").split()) for row in rows]
    return Labelled(texts, [AG_NEWS[int(row[0]) - 1] for row in rows])
