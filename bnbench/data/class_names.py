"""Names of classes, compared as people read them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from bnbench.data.tally import listed, printable


def read_as(name: str) -> str:
    """The name in Unicode's composed form: é is one letter, however it was typed."""
    return printable(unicodedata.normalize("NFC", name))


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted; by value where all are whole numbers, so that 10 comes after 9."""
    names = sorted(names)
    whole = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return sorted(names, key=int) if whole else names


def twin_key(name: str) -> str:
    """Equal for names that are easily taken for each other: by case, spaces, accents' form, or leading zeros."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")  # zero-width joiners and the like
    text = re.sub(r"[\W_]+", " ", text).strip()
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", re.sub(r"(?<=[0-9])\.0+$", "", text)) or name


def twins(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of different names that are easily taken for each other."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(twin_key(name), name)
        if first != name:
            yield first, name


def twin_notes(names: Sequence[str]) -> list[str]:
    """A note on class names that may mean the same class."""
    pairs = list(twins(names))
    if not pairs:
        return []
    examples = "; ".join(f"{listed([first])} and {listed([second])}" for first, second in pairs[:3])
    return [
        f"{len(pairs)} pairs of classes have names that read nearly alike: {examples}; they count as different"
    ]


def twin_hint(unknown: Iterable[str], known: Iterable[str]) -> str:
    """' "Cat" reads like "cat".' for unknown names that are nearly known, or ""."""
    by_key = {twin_key(name): name for name in known}
    pairs = [(name, by_key[twin_key(name)]) for name in unknown if twin_key(name) in by_key]
    return "".join(f" {listed([name])} reads like {listed([other])}." for name, other in pairs[:3])
