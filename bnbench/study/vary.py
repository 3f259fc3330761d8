"""`vary`: the sources of randomness that a seed changes. Every other source is the one of seed 0 in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from bnbench.base.errors import unknown_name

Source = Literal["init", "order", "augmentation", "noise", "split"]

#: Every source, in the order in which they are kept, and what it is in a sentence.
SOURCES: dict[Source, str] = {
    "init": "the initial weights",
    "order": "the order of the batches",
    "augmentation": "the augmentation",
    "noise": "the noise in training",
    "split": "the validation split",
}
#: Every source but the split.
DEFAULT_VARY: tuple[Source, ...] = ("init", "order", "augmentation", "noise")
_FIX = f"Fix: vary: [{', '.join(DEFAULT_VARY)}], or some of {', '.join(SOURCES)}."


def read_vary(given: Any) -> tuple[Source, ...]:
    """The sources in their own order, as the order in a study means nothing. Raises ValueError with the fault."""
    if not isinstance(given, list):
        raise ValueError(f"vary: {given!r} is not a list of sources of randomness. {_FIX}")
    if not given:
        raise ValueError(
            f"vary: []: all runs of a variant would be the same run, and no scatter could be seen. {_FIX}"
        )
    for word in given:
        if not isinstance(word, str) or word not in SOURCES:
            raise ValueError(f"vary: {unknown_name('source of randomness', str(word), SOURCES)}")
    repeated = sorted({word for word in given if given.count(word) > 1})
    if repeated:
        raise ValueError(f"vary: {', '.join(repeated)} repeated. Fix: name each source once.")
    return tuple(source for source in SOURCES if source in given)


def fixed_sentence(vary: Sequence[str]) -> str:
    """What a study with fewer sources than usual can't speak of; "" where none is missing."""
    if set(DEFAULT_VARY) <= set(vary):
        return ""
    varied = _listed([words for source, words in SOURCES.items() if source in vary])
    fixed = _listed([words for source, words in SOURCES.items() if source not in vary])
    return (
        f"from seed to seed only {varied} changed; fixed: {fixed}. The intervals hold for these alone, and "
        "may be too narrow for a new run in which everything changes."
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
