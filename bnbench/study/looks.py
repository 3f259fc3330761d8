"""`seeds: auto`: the numbers of seeds at which a study looks at its result, fixed before its first run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bnbench.base.errors import nearest

#: The first look. At 3 of up to 20 seeds a mean of 17 standard deviations would be needed: nothing is decided.
FIRST_LOOK = 5
#: Where no `max` is given.
MAX_LOOK = 20
#: The looks of every study, as far as its `max`: each costs about half as much again as all before it.
_SERIES = (
    5,
    8,
    12,
    20,
    30,
    40,
    60,
    80,
    120,
    160,
    240,
    320,
    480,
    640,
    960,
    1280,
    1920,
    2560,
    3840,
    5120,
    7680,
)
#: A look of the series that is nearer to `max` than this share of it is left out: it would say the same.
_NEAR = 0.8
_FORM = "{auto: true, max: 20}"
_KEYS = ("auto", "max", "looks")


def looks_up_to(most: int) -> tuple[int, ...]:
    """5, 8, 12, 20, 30, 40, 60, 80, …, as far as they are at most 80 % of `most`; and `most`."""
    return (*(look for look in _SERIES if look <= _NEAR * most), most)


def means_auto(given: Any) -> bool:
    """Whether the study's `seeds` asks for looks rather than for a number of seeds."""
    return isinstance(given, dict) or (isinstance(given, str) and nearest(given.lower(), ["auto"]) == "auto")


def read_looks(given: Any, limit: int, wrong: Callable[[str], None]) -> tuple[int, ...]:
    """The looks of `seeds: auto` or {auto: true, max: 20}; mistakes go to `wrong`."""
    values: Any = {"auto": True} if given == "auto" else given
    if not isinstance(values, Mapping):
        wrong(f'seeds: {given!r} is not a number of seeds. Did you mean "auto"?')
        return (FIRST_LOOK,)
    for key in values:
        if key not in _KEYS:
            guess = nearest(str(key), _KEYS)
            hint = f' Did you mean "{guess}"?' if guess else ""
            wrong(f'seeds: unknown key "{key}".{hint} Known: {", ".join(_KEYS)}. Fix: seeds: {_FORM}.')
    if values.get("auto") is not True:
        wrong(
            f"seeds: {given!r}: auto is not true. Fix: seeds: {_FORM}, or a number of seeds, such as seeds: 5."
        )
    looks = values.get("looks")
    most = values.get("max", looks[-1] if isinstance(looks, list) and looks else MAX_LOOK)
    if not _is_count(most) or not FIRST_LOOK <= most <= limit:
        wrong(_wrong_max(most, limit))
        return (FIRST_LOOK,)
    if looks is None:
        return looks_up_to(most)
    if not _are_looks(looks) or looks[-1] != most:
        wrong(
            f"seeds.looks: {looks!r} is wrong: it should be growing numbers of seeds from {FIRST_LOOK} to max "
            f"({most}). Fix: leave it out for {list(looks_up_to(most))}."
        )
        return looks_up_to(most)
    return tuple(looks)


def _wrong_max(most: Any, limit: int) -> str:
    if _is_count(most) and most < FIRST_LOOK:
        return (
            f"seeds.max: {most} is below {FIRST_LOOK}, where the first look is: a look at fewer seeds decides nothing. "
            f"Fix: seeds: {_FORM}, or a fixed number, seeds: {max(most, 1)}."
        )
    return f"seeds.max: {most!r} is wrong: it should be a number of seeds from {FIRST_LOOK} to {limit:,}."


def _are_looks(looks: Any) -> bool:
    return (
        isinstance(looks, list)
        and bool(looks)
        and all(_is_count(look) and look >= FIRST_LOOK for look in looks)
        and looks == sorted(set(looks))
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
