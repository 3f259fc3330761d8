"""Every text that is no study gives one message with its line, and nothing is built before it is counted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.results.reader import _optional, _read_study
from bnbench.study import to_yaml
from bnbench.study.yaml_source import MAX_BYTES, read_file, read_value, read_yaml


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "s.yaml")
    (mistake,) = caught.value.mistakes
    return str(mistake)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!int abc", "'abc' is not an integer"),
        ("!!int 1e3", "'1e3' is not an integer"),
        ("!!float x", "'x' is not a number"),
        ("!!bool maybe", "'maybe' is neither true nor false"),
        ("!!null x", "'x' is not null"),
        ("!!timestamp foo", "the tag !!timestamp has no meaning in a study"),
        ("!!timestamp 2024-01-01", "the tag !!timestamp has no meaning"),
        ("!!binary aGVsbG8=", "the tag !!binary has no meaning"),
        ("!!omap [a: 1]", "the tag !!omap has no meaning"),
        ("!!python/name:os.system", "the tag !!python/name:os.system has no meaning"),
        ("!!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system has no meaning"),
        ("!mine 3", "the tag !mine has no meaning"),
        ("1" * 5000, "is an integer of 5,000 digits, too large here"),
        ("-" + "9" * 20, "is an integer of 20 digits"),
        ("[" * 3000, "it is nested too deeply"),
        ("{" * 3000, "it is nested too deeply"),
        ("[" * 3000 + "]" * 3000, "it is nested too deeply"),
        ("&a [*a]", "it contains itself"),
        ("&a {b: {c: *a}}", "it contains itself"),
        ("*nobody", "found undefined alias"),
        ('"\\0"', "holds the control character U+0000"),
        ('"\\e[31m"', "holds the control character U+001B"),
        ('"\\ud800"', "holds the control character U+D800"),
        ('"\\U99999999"', "too large"),
        ('{"\\e": 1}', "holds the control character U+001B"),
        ("{[a]: 1}", "a key is a word, not a list or a mapping"),
        ("{{a: 1}: 1}", "a key is a word, not a list or a mapping"),
        ("{<<: 5}", "<< takes a mapping, or a list of mappings"),
        ("{<<: [{a: 1}, 5]}", "<< takes a mapping, or a list of mappings"),
        ("%a", "cannot start any token"),
        ("@a", "cannot start any token"),
    ],
)
def test_a_value_that_is_none(value: str, said: str) -> None:
    told = refused(f"a: 1\nb: {value}\n")
    assert told.startswith("s.yaml:2: not valid YAML: ")
    assert said in told
    with pytest.raises(ConfigError):
        read_value(value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "s.yaml: it is empty"),
        (b"# a comment\n", "s.yaml: it is empty"),
        (b"---\n", "s.yaml: it is empty"),
        (b"- 1\n", "s.yaml:1: a study is a mapping"),
        (b"word\n", "s.yaml:1: a study is a mapping"),
        (b"a: 1\n\xff: 2\n", "s.yaml:2: can't be read: it is not UTF-8 text"),
        (b"a: 1\nb: \x00\n", "s.yaml:2: not valid YAML: the character U+0000"),
        (b"a: 1\nb: \x07\n", "s.yaml:2: not valid YAML: the character U+0007"),
        (b"a: 1\n---\nb: 2\n", "s.yaml:2: not valid YAML: a study is one document"),
        (
            b"a:\n\tb: 1\n",
            "s.yaml:2: not valid YAML: found character '\\t' that cannot start any token (indent",
        ),
        (b"- " * 5000, "s.yaml:1: not valid YAML: it is nested too deeply"),
        (b"\xff\xfea\x00:\x00", "s.yaml:1: can't be read: it is not UTF-8"),
    ],
)
def test_a_file_that_is_none(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    if content.startswith(b"\xff\xfe"):
        assert read_file(path).data == {"a": None}
        return
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert str(caught.value).replace(str(tmp_path) + "/", "").startswith(said)


def test_text_in_other_encodings(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "s.yaml").write_text("description: größe\n", encoding=encoding)
        assert read_file(tmp_path / "s.yaml").data == {"description": "größe"}


def test_a_folder_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path, "Is a directory"),
        (tmp_path / "no", "No such file"),
        (Path("a\0b"), "null byte"),
    ):
        with pytest.raises(ConfigError, match=f"can't be read: .*{why}"):
            read_file(path)


def bomb(levels: int) -> str:
    lines = ["x0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_aliases_are_counted_before_they_are_built(tmp_path: Path) -> None:
    start = time.process_time()
    assert "it holds more than 200,000 keys and values" in refused(bomb(15))
    (tmp_path / "study.yaml").write_text(bomb(15))
    warnings: list[str] = []
    assert _optional(tmp_path / "study.yaml", _read_study, warnings) == {}
    assert "it holds more than 200,000 keys and values" in warnings[0]
    assert time.process_time() - start < 1


def test_a_file_without_end_is_read_no_further_than_a_study_goes(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    for endless in (path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="larger than 4 MiB, which is not a study"):
            read_file(endless)


def test_words_that_other_readers_take_for_something_else_are_quoted() -> None:
    words = [
        "1e3",
        "no",
        "on",
        "2024-01-01",
        "1:30",
        "0x1F",
        "null",
        "~",
        "true",
        "1_000",
        "",
        "a: b",
        "#",
        "<<",
    ]
    assert read_yaml(to_yaml({"words": words}), "s.yaml").data == {"words": words}
    text = to_yaml({"norm": "no", "lr": 1e-4, "when": "2024-01-01"})
    assert text == "norm: 'no'\nlr: 0.0001\nwhen: '2024-01-01'\n"
