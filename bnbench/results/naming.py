"""The folder of a study's results: `NAME`, or `NAME+KEY=VALUE` where the command line asks another question of it.

One question has one name, however it is written, on every file system: only characters that all of them hold, and
a hash wherever a value loses anything on the way (its capitals, its length, a slash).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from bnbench.base.files import hash_of, key_text
from bnbench.study import CHOICES, Study

#: Characters of a name before its hash; in bytes, as some file systems count (143 are the fewest that any has).
MAX_CHARACTERS, MAX_BYTES = 60, 120
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]*")
#: Texts that stand for something else where they are not text.
_WORDS = {"null", "true", "false", "nan", "inf"}


def folder_name(study: Study, of: str = "") -> str:
    """The name of the study's folder. of: what the folder is of, where it is not the whole study ("-batch").

    A study that was read from a results folder goes on there, or beside it.
    """
    return _with_changes(f"{study.home.name if study.home else study.name}{of}", study.changes)


def collection_name(studies: Sequence[Study]) -> str:
    """The name of the folder around the results of a collection: `COLLECTION`, or `COLLECTION+KEY=VALUE`."""
    changes = {key_text(change): change for study in studies for change in study.changes}
    return _with_changes(studies[0].collection, tuple(changes[key] for key in sorted(changes)))


def _with_changes(base: str, changes: Sequence[tuple[str, Any]]) -> str:
    if not changes:
        return base
    name, exact = base, True
    for key, value in changes:
        safe, (text, whole) = _safe(key), _text(value)
        name += f"+{safe}={text}"
        is_choice = key.rpartition(".")[2] in CHOICES
        exact = exact and key == safe and whole and (is_choice or value != "none")
    short = _cut(name)
    if exact and short == name:
        return name
    return f"{short}-{hash_of([base, changes])}"


def _cut(name: str) -> str:
    name = name[:MAX_CHARACTERS]
    while len(name.encode()) > MAX_BYTES:
        name = name[:-1]
    return name


def _text(value: Any, inner: bool = False) -> tuple[str, bool]:
    """A value as a part of a name, and whether no other value has the same text."""
    if isinstance(value, list) and not inner and value:
        parts = [_text(item, inner=True) for item in value]
        return ",".join(text for text, _ in parts), all(whole for _, whole in parts)
    if isinstance(value, list | dict):
        return _safe(str(value)), False
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value], True
    if isinstance(value, int | float):
        return f"{value!r}".replace("e+", "e"), True
    return _safe(value), bool(_PLAIN.fullmatch(value)) and not _is_reserved(value)


def _is_reserved(text: str) -> bool:
    """Whether it could be taken for a number or another word."""
    return text in _WORDS or text[0].isdecimal() or text.endswith(".")


def _safe(text: str) -> str:
    """What is left of a text in a name: small letters and digits of any script, `.`, `_` and `-`."""
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()).lower()
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    return re.sub("-{2,}", "-", kept).strip("-.")
