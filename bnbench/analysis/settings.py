"""The settings of a sweep: which keys tell them apart, and which of the baseline's cells stands at the same one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from bnbench.study.labels import Labelled

Place = TypeVar("Place", bound=Labelled)
_MISSING = "no such key"


def free_keys(places: Sequence[Labelled]) -> list[str]:
    """The swept keys with more than one value, without those that follow the others (a linked learning rate)."""
    keys = [
        key
        for key in dict.fromkeys(key for place in places for key in place.setting)
        if len({str(place.setting.get(key, _MISSING)) for place in places}) > 1
    ]
    for key in reversed(keys.copy()):
        others = [other for other in keys if other != key]
        if _follows(key, others, places):
            keys = others
    return keys


def _follows(key: str, others: Sequence[str], places: Sequence[Labelled]) -> bool:
    """Whether the other keys leave it one value in each variant."""
    values: dict[tuple[str, ...], str] = {}
    for place in places:
        at = (place.variant, *(str(place.setting.get(other, _MISSING)) for other in others))
        if values.setdefault(at, str(place.setting.get(key, _MISSING))) != str(
            place.setting.get(key, _MISSING)
        ):
            return False
    return all(key in place.setting for place in places)


def baselines_of(places: Sequence[Place], baseline: str) -> list[Place | None]:
    """For each place the baseline's at the same setting: it agrees in every key that both have.

    None where the baseline has none there, or more than one.
    """
    keys = free_keys(places)
    baselines = [place for place in places if place.variant == baseline]
    exact = {_text(place.setting): place for place in baselines}
    return [exact.get(_text(place.setting)) or _only(place, baselines, keys) for place in places]


def _only(place: Labelled, baselines: Sequence[Place], keys: Sequence[str]) -> Place | None:
    matches = [
        other
        for other in baselines
        if all(
            str(place.setting[key]) == str(other.setting[key])
            for key in keys
            if key in place.setting and key in other.setting
        )
    ]
    return matches[0] if len(matches) == 1 else None


def _text(setting: Mapping[str, Any]) -> str:
    return str(dict(setting))
