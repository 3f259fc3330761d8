"""Texts that are downloaded on first use, from stand-ins of a few bytes. Oracles: slices of them by hand."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbench.base.errors import DataError
from bnbench.data import datasets, public_text
from bnbench.data.download import RemoteFile, fetch
from bnbench.data.public_text import _character_start
from bnbench.data.tensors import base_of

Served = dict[str, bytes]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What the network would send, by the name of the file; nothing for other files."""
    contents: Served = {}

    def fetched(name: str, files: Sequence[RemoteFile]) -> None:
        for file in files:
            assert all(url.startswith("https://") for url in file.urls)
            assert file.algorithm == ("MD5" if name == "ag_news" else "SHA-256")
            file.folder.mkdir(parents=True, exist_ok=True)
            file.path.write_bytes(contents[file.name])

    monkeypatch.setattr(public_text, "fetch", fetched)
    return contents


def test_enwik8_is_cut_at_nine_tenths_and_at_nineteen_twentieths(tmp_path: Path, served: Served) -> None:
    content = bytes(range(65, 91)) * 1000
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("enwik8", content)
    served["enwik8.zip"] = out.getvalue()
    data = datasets.get("enwik8").factory(tmp_path, used=20_000, window=64)
    train, test = base_of(data.train_inputs), base_of(data.test_inputs)
    assert train is not None
    assert bytes(train.tolist()) == content[:18_000]
    assert bytes(data.test_inputs[0].tolist()) == content[19_000:19_064]
    assert test is None or len(test) == 1000
    plan = datasets.get("enwik8").facts.plan("bytes", 64, 4000, 20_000)
    assert plan.num_train == len(data.train_targets)
    assert plan.num_test == len(data.test_targets)
    assert plan.sizes.vocabulary == 256


@given(st.text(alphabet="aé€😀", min_size=1, max_size=30), st.integers(0, 200))
def test_a_cut_is_between_two_characters(text: str, place: int) -> None:
    content = text.encode()
    place = min(place, len(content))
    start = _character_start(content, place)
    content[:start].decode()
    content[start:].decode()
    assert place - 3 <= start <= place
    whole = _character_start(content[:place], place)  # a file that ends within a character
    content[:whole].decode()


def test_tiny_shakespeare(tmp_path: Path, served: Served) -> None:
    text = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 40
    served["input.txt"] = text.encode()
    data = datasets.get("tiny_shakespeare").factory(tmp_path)
    held = base_of(data.train_inputs)
    assert held is not None
    alphabet = sorted(set(text))
    assert "".join(alphabet[token - 1] for token in held.tolist()) == text[: len(text) * 8 // 10]


def test_ag_news(tmp_path: Path, served: Served) -> None:
    served["train.csv"] = (
        b'"3","Oil up","Oil\\prices rose"\n"4","Chips up","Chips, they ""rose"""\n"3","Oil","x"\n'
    )
    served["test.csv"] = b'"1","Vote","A vote"\n'
    data = datasets.get("ag_news").factory(tmp_path, length=8)
    assert data.class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert data.train_targets.tolist() == [2, 3, 2]
    assert data.test_targets.tolist() == [0]
    # oil three times, chips, rose and up twice, '"' twice: '"' 3, chips 4, rose 5, up 6
    assert data.train_inputs[0].tolist() == [2, 6, 2, 1, 5, 0, 0, 0]


def test_a_file_is_checked_by_its_sha_256(tmp_path: Path) -> None:
    right = RemoteFile((), tmp_path, "a", hashlib.sha256(b"content").hexdigest())
    (tmp_path / "a").write_bytes(b"content")
    fetch("A", [right])
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(DataError) as caught:
        fetch("A", [RemoteFile(("file:///none",), tmp_path, "a", right.md5)])
    assert f"its SHA-256 is {hashlib.sha256(b'other').hexdigest()}, not {right.md5}" in str(caught.value)


def test_without_a_network_the_message_names_the_file_and_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(url: str, file: RemoteFile) -> None:
        raise OSError("no network")

    monkeypatch.setattr("bnbench.data.download._download", refused)
    with pytest.raises(DataError) as caught:
        datasets.get("tiny_shakespeare").factory(tmp_path)
    assert f"put input.txt into {tmp_path / 'tiny_shakespeare'}" in str(caught.value)
