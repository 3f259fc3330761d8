"""What the command line changes in a study, whatever words it takes for it: these changes name the results folder.

Seeds and further variants belong to the study's question, and a name, a description and `x-` keys change no answer.
Everything else asks another question. A change that gives a key the study's own value is none. Values are compared as
the checked study has them, so `0.01` and `1e-2` are one value, and so are `model: {hidden: [8]}` and `model.hidden`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bnbench.base.files import hash_of, key_text
from bnbench.study.check import Vocabulary
from bnbench.study.evaluation import Inference
from bnbench.study.merge import Level
from bnbench.study.schema import CHOICES, LENGTHS, MATCH_BASELINE, Study
from bnbench.study.sections import Choice

#: Keys that leave a study's question as it is.
NO_CHANGE = frozenset({"name", "description", "seeds"})
#: A key with its dots, and the value that it has now.
Change = tuple[str, Any]
_Path = tuple[str, ...]
_ABSENT = object()


@dataclass(frozen=True)
class Given:
    """The words of the command line. shared: settings of all variants; variants: of single ones; keys: of each word."""

    shared: Level
    variants: Mapping[str, Level]
    keys: Collection[str]


def changes(study: Study, own: Study | None, given: Given, vocabulary: Vocabulary) -> tuple[Change, ...]:
    """Every change, in the order of the keys. own: the study without the command line; None where that is not one."""
    if own is None:
        changed = dict(_as_given(given))
    else:
        common = [name for name in study.variants if name in own.variants]
        pairs = {name: (_Leaves(study, name, vocabulary), _Leaves(own, name, vocabulary)) for name in common}
        changed = {**dict(_of_settings(pairs, given)), **dict(_of_variants(study, own, pairs, given))}
    changed |= dict(_of_the_study(study, own, given.keys))
    return tuple(sorted((key, _as_yaml(value)) for key, value in changed.items()))


class _Leaves:
    """Every setting of a variant by its path, a choice's options beside its name."""

    def __init__(self, study: Study, variant: str, vocabulary: Vocabulary) -> None:
        settings = study.variants[variant]
        self.values: dict[_Path, Any] = {}
        self._defaults: dict[_Path, Any] = {}
        for key in type(settings).model_fields:
            value = getattr(settings, key)
            if isinstance(value, Choice):
                self.values[key, "name"] = value.name
                self.values |= {(key, option): item for option, item in value.options.items()}
                fields = vocabulary[key][value.name].options().model_fields
                self._defaults |= {(key, option): field.default for option, field in fields.items()}
            elif key in ("vary", "probe", "evaluate", "test_sets"):  # keys of the study, not of its variants
                continue
            elif key in LENGTHS and value is None:  # the other one is there
                continue
            elif hasattr(value, "model_dump"):
                self.values |= {(key, inner): item for inner, item in value.model_dump(mode="json").items()}
            else:
                self.values[key,] = value

    def whole(self, path: _Path) -> _Path:
        """The path of the setting that it is an element of: `model.hidden` for `model.hidden.0`."""
        prefixes = (path[:length] for length in range(len(path), 0, -1))
        return next((prefix for prefix in prefixes if prefix in self.values), path)

    def at(self, path: _Path) -> Any:
        """The value at that path, into mappings and lists; _ABSENT where there is none."""
        whole = self.whole(path)
        return _inside(self.values[whole], path[len(whole) :]) if whole in self.values else _ABSENT

    def differs(self, own: _Leaves, path: _Path) -> bool:
        """Whether there is another value at that path, and not just the default of another choice."""
        now, before = self.at(path), own.at(path)
        if now is _ABSENT or _equal(now, before):
            return False
        renamed = self.at((path[0], "name")) != own.at((path[0], "name"))
        return not (renamed and path in self._defaults and _equal(now, self._defaults[path]))


_Pairs = Mapping[str, tuple[_Leaves, _Leaves]]


def _as_given(given: Given) -> Iterator[Change]:
    """All that the command line says, where there is nothing to hold it against."""
    yield from ((_key(path), leaf.value) for path, leaf in given.shared.items())
    for name, level in given.variants.items():
        yield from ((f"variants.{name}.{_key(path)}", leaf.value) for path, leaf in level.items())


def _of_settings(pairs: _Pairs, given: Given) -> Iterator[Change]:
    """Settings of all variants; those that set the key themselves do not count."""
    for path, leaf in given.shared.items():
        if not pairs:
            yield _key(path), leaf.value
        for name, (now, own) in pairs.items():
            if now.differs(own, path) and not _related(path, given.variants.get(name, ())):
                yield _key(now.whole(path)), now.at(now.whole(path))
                break


def _of_variants(study: Study, own: Study, pairs: _Pairs, given: Given) -> Iterator[Change]:
    """Settings of a variant that the study itself has, and variants that are left out."""
    for name, (now, before) in pairs.items():
        own_paths = given.variants.get(name, ())
        for path in now.values:
            if now.differs(before, path) and (_related(path, own_paths) or not _related(path, given.shared)):
                yield f"variants.{name}.{_key(path)}", now.at(path)
        if study.checks.get(name) != own.checks.get(name):
            yield f"variants.{name}.check_of", study.checks.get(name)
    if set(own.variants) - set(study.variants):
        content = [settings.identity() for settings in study.variants.values()]
        yield "variants", [*study.variants, hash_of(content)]


def _related(path: _Path, level: Iterable[_Path]) -> bool:
    """Whether one of the keys is that one, around it or in it."""
    return any(path[: len(key)] == key[: len(path)] for key in level)


def _of_the_study(study: Study, own: Study | None, keys: Collection[str]) -> Iterator[Change]:
    """What the study asks of its runs, where a word of the command line names it."""
    named = {key.partition(".")[0] for key in keys}
    now, before = _asked(study), _asked(own) if own else {}
    for key in now.keys() & named:
        if not _equal(now[key], before.get(key, _ABSENT)):
            yield key, now[key]
    if "test_sets" in named:
        yield from _of_test_sets(_test_sets(study), _test_sets(own) if own else {})
    if "sweep" in named:
        yield from _of_the_sweep(study.sweep or {}, (own.sweep or {}) if own else {})


def _asked(study: Study) -> dict[str, Any]:
    """The study's own keys that change its answer, as plain values."""
    margin = study.margin
    return {
        "baseline": study.baseline,
        "evaluate": _ways(study),
        "expect": [claim.written() for claim in study.expect],
        "margin": [margin.metric, margin.value] if margin else None,
        "metrics": sorted(study.metrics),
        "primary": study.primary,
        "probe": _probe(study),
        "target": [[t.metric, MATCH_BASELINE if t.match_baseline else t.value] for t in study.targets],
        "vary": sorted({source for settings in study.variants.values() for source in settings.vary}),
    }


def _probe(study: Study) -> Any:
    """What it says beside the defaults; true where it says nothing else, None without a probe."""
    probe = next((settings.probe for settings in study.variants.values()), None)
    if probe is None:
        return None
    return probe.model_dump(mode="json", exclude_defaults=True) or True


def _ways(study: Study) -> list[Any]:
    ways = next((settings.evaluate for settings in study.variants.values()), ())
    return [way.name if way == Inference(name=way.name) else way.written() for way in ways if way.further]


def _test_sets(study: Study) -> dict[str, dict[str, Any]]:
    """By name: what each is, with its options."""
    sets = next((settings.test_sets for settings in study.variants.values()), ())
    return {one.name: one.written() for one in sets}


def _of_test_sets(
    now: Mapping[str, Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]
) -> Iterator[Change]:
    """Option by option; as a whole where one is gone."""
    if set(before) - set(now):
        yield "test_sets", now or None
        return
    for name, options in now.items():
        known = before.get(name, {})
        if known.get("name") != options.get("name"):
            yield f"test_sets.{name}", options
            continue
        for option, value in options.items():
            if not _equal(value, known.get(option, _ABSENT)):
                yield f"test_sets.{name}.{option}", value


def _of_the_sweep(now: Any, before: Any) -> Iterator[Change]:
    """Key by key; as a whole where it is a list of settings, or has a key less than before."""
    if isinstance(now, list) or isinstance(before, list) or set(before) - set(now):
        if not _equal(now, before):
            yield "sweep", now or None
        return
    for key, values in now.items():
        if not _equal(values, before.get(key, _ABSENT)):
            yield f"sweep.{key}", values


def _inside(value: Any, path: _Path) -> Any:
    for key in path:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _ABSENT
    return value


def _key(path: _Path) -> str:
    """As the command line has it: a choice by its key alone."""
    return ".".join(path[:1] if path[0] in (*CHOICES, "init") and path[1:] == ("name",) else path)


def _equal(one: Any, other: Any) -> bool:
    if one is _ABSENT or other is _ABSENT:
        return one is other
    return key_text(_as_yaml(one)) == key_text(_as_yaml(other))


def _as_yaml(value: Any) -> Any:
    """Values of JSON; a float that is a whole number as an integer, so that 1 and 1.0 are one value."""
    if isinstance(value, Mapping):
        return {str(key): _as_yaml(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_yaml(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
