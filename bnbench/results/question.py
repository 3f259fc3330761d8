"""The question that a results folder answers, and the differences of another study from it.

The same question: the same name, and of every variant that has results the same cells. More seeds and further
variants belong to it; so do another description, target, primary metric, margin or baseline, which change no run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bnbench.base.files import key_text, value_text

#: Longest text of a value in a message.
_SHOWN = 60
_WORDS = {
    "data": "the data has other content",
    "numerics": "bnbench computes other numbers than the version that made it",
}
_ABSENT = object()


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts by their dotted keys, without the parts that a study doesn't write ("options", "settings")."""
    values: dict[str, Any] = {}
    for key, value in facts.items():
        if key == "plugins" and not value:
            continue
        inner = key in ("options", "settings")
        name = prefix if inner else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and (value or inner):
            values |= flat(value, name)
        else:
            values[name.removesuffix(".name") if key == "name" else name] = value
    return values


def with_facts(cells: Sequence[dict[str, Any]], facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Store the facts by which differences are named later: shared ones once, the others with each cell."""
    all_facts = [json.loads(value_text(flat(values))) for values in facts]
    shared = {
        key: value
        for key, value in (all_facts[0] if all_facts else {}).items()
        if all(key in other and other[key] == value for other in all_facts)
    }
    for cell, values in zip(cells, all_facts, strict=True):
        cell["facts"] = {key: value for key, value in values.items() if key not in shared}
    return shared


class Places(NamedTuple):
    """How a message names the two studies."""

    old: str = "there"
    new: str = "now"


#: Of a folder, and of the study that is to go on in it.
_THEN_AND_NOW = Places()


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], answered: Collection[str], places: Places = _THEN_AND_NOW
) -> list[str]:
    """The differences of a planned study from the folder's study; empty where both ask the same question.

    answered: the identities of the old cells that have a result. The others are free to change.
    """
    answered_cells = [cell for cell in old["cells"] if cell["cell"] in answered]
    if not answered_cells:
        return []
    named = [_pair("name", old["name"], new["name"], places)] if old["name"] != new["name"] else []
    kept = _by_variant(new)
    # without what the command line added, it is the study's own question again
    gone = sorted({cell["variant"] for cell in answered_cells} - set(kept) - set(old.get("added", ())))
    named += [f"variant {name}: only {places.old}" for name in gone]
    changed = Counter[str]()
    counted = 0
    for variant, cells in _by_variant(old).items():
        if variant not in kept or not any(cell["cell"] in answered for cell in cells.values()):
            continue
        counted += 1
        if set(cells) != set(kept[variant]):
            changed[_pair("sweep", _sweep(cells), _sweep(kept[variant]), places)] += 1
            before, now = next(iter(cells.values())), next(iter(kept[variant].values()))
            pairs = [(cells[key], kept[variant][key]) for key in cells if key in kept[variant]] or [
                (before, now)
            ]
        else:
            pairs = [(cells[key], kept[variant][key]) for key in cells]
        swept = {key for cell in (*cells.values(), *kept[variant].values()) for key in cell["setting"]}
        texts = {
            text: None
            for before, now in pairs
            if before["cell"] != now["cell"] and before["cell"] in answered
            for text in _facts_differ(_facts(old, before), _facts(new, now), swept, places)
        }
        for text in texts:
            changed[f"{text}\0{variant}"] += 1
    return list(dict.fromkeys([*named, *_gathered(changed, counted)]))


def _gathered(changed: Mapping[str, int], variants: int) -> Iterator[str]:
    """One line for a difference of every variant; the other differences with the names of their variants."""
    everywhere = Counter(text.partition("\0")[0] for text in changed)
    for text in changed:
        difference, _, variant = text.partition("\0")
        yield (
            difference
            if not variant or everywhere[difference] == variants
            else f"variant {variant}: {difference}"
        )


def _by_variant(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant -> setting (as text) -> cell."""
    by_variant: dict[str, dict[str, Any]] = {}
    for cell in plan["cells"]:
        key = key_text(cell["setting"])
        by_variant.setdefault(cell["variant"], {})[key] = cell
    return by_variant


def _sweep(cells: Mapping[str, Mapping[str, Any]]) -> str:
    values: dict[str, list[Any]] = {}
    for cell in cells.values():
        for key, value in cell["setting"].items():
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return "; ".join(f"{key}={_text(value)}" for key, value in values.items()) or "none"


def _facts(plan: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**plan.get("facts", {}), **cell.get("facts", {})}


def _pair(key: str, old: str, new: str, places: Places) -> str:
    return f"{key}: {old} {places.old}, {new} {places.new}"


def _facts_differ(
    old_facts: Mapping[str, Any], now_facts: Mapping[str, Any], swept: Collection[str], places: Places
) -> list[str]:
    if not old_facts:
        return [f"other settings, data or source than {places.old}"]
    texts = []
    for key in dict.fromkeys([*old_facts, *now_facts]):
        a, b = old_facts.get(key, _ABSENT), now_facts.get(key, _ABSENT)
        parent = key.partition(".")[0]
        other_choice = parent != key and old_facts.get(parent) != now_facts.get(parent)
        if a == b or key in swept or other_choice:
            continue
        if key in _WORDS:
            texts.append(_WORDS[key])
        elif key.startswith("plugins"):
            name = key.removeprefix("plugins").strip(".") or "a plugin"
            change = _change(a, b, places)
            texts.append(f"source of {name}: {change}")
        elif key.startswith("test_sets.") and _ABSENT not in (a, b):
            texts.append(f"{key}: its data has other content")
        else:
            texts.append(_pair(key, _text(a), _text(b), places))
    return texts or (["the seeds, settings or data are identified in another way"] if not swept else [])


def _change(old: Any, new: Any, places: Places) -> str:
    if _ABSENT in (old, new):
        return f"not used {places.old if old is _ABSENT else places.new}"
    return "changed since" if places == _THEN_AND_NOW else "differs"


def _text(value: Any) -> str:
    text = "not set" if value is _ABSENT else value_text(_written(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _written(value: Any) -> Any:
    """About as a study writes it: without options that are not set, and a name that stands alone by itself."""
    if isinstance(value, list):
        return [_written(element) for element in value]
    if not isinstance(value, Mapping):
        return value
    kept = {key: _written(inner) for key, inner in value.items() if inner is not None and inner != {}}
    kept |= kept.pop("options", {})
    return kept["name"] if set(kept) == {"name"} else kept
