"""Which names a folder can hold, on every system, and give back as they were."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

#: Bytes of a name in UTF-8. A run's folder adds 13 to a variant's; file systems take 255, some 143.
MAX_NAME = 100
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "0123456789¹²³")}
_MARKS = "._+-"


def name_fault(name: str) -> str:
    """What is wrong with the name of a study or a variant, and the fix; "" where a folder can hold it."""
    if not name:
        return "it is empty. Fix: give it a name"
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME:
        return f"{size} bytes, and a folder's name has room for {MAX_NAME}. Fix: a shorter one"
    if strange := next((c for c in name if not (_is_letter(c) or c in _MARKS)), None):
        return f"{strange!r} can't be in it. Fix: use letters, digits, '.', '_', '+', '-'{_hint(name)}"
    if not name[0].isalnum():
        return f"it begins with {name[0]!r}. Fix: begin with a letter or a digit{_hint(name)}"
    if name.endswith("."):
        return f"Windows drops the '.' at its end{_hint(name)}. Fix: leave it out"
    if name.partition(".")[0].lower() in _RESERVED:
        stem, dot, rest = name.partition(".")
        return f"Windows keeps that name for a device. Fix: such as {stem}_{dot}{rest}"
    if unicodedata.normalize("NFC", name) != name:
        return "its accents are written apart from their letters (NFD). Fix: write them as one (NFC)"
    return ""


def twins(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that differ only in case, which some file systems ignore; None where there are none."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            return other, name
    return None


def folder_name(stem: str) -> str:
    """A file's stem as a folder's name: "study two" becomes "study-two"."""
    stem = unicodedata.normalize("NFC", stem.encode("utf-8", "replace").decode())
    name = "".join(c if _is_letter(c) or c in _MARKS else "-" for c in stem)
    name = re.sub("-{2,}", "-", name).rstrip(_MARKS)
    while name and not name[0].isalnum():
        name = name[1:]
    while len(name.encode()) > MAX_NAME:
        name = name[:-1].rstrip(_MARKS)
    if name.partition(".")[0].lower() in _RESERVED:
        name = f"study-{name}"
    return name or "study"


def _is_letter(character: str) -> bool:
    """A letter or digit of any script, or an accent on one."""
    return character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")


def _hint(name: str) -> str:
    guess = folder_name(name)
    return f", such as {guess}" if guess != "study" else ""
