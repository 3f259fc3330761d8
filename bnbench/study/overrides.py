"""The command line's "key=value" words: one more level of settings, and changes to the study's own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bnbench.base.errors import ConfigError, Mistake
from bnbench.study.merge import Level, add, open_level, set_in
from bnbench.study.schema import CHOICES, SECTIONS, STUDY_KEYS, Settings
from bnbench.study.yaml_source import MERGE, Path_, Source, read_value

#: How the place of every override begins: of the command line's words, and of a function's argument.
COMMAND_LINE, ARGUMENT = "command line", "argument overrides"
ORIGINS = (COMMAND_LINE, ARGUMENT)


class Overrides:
    """Changes to a study. settings: for all variants; variants: for one of them; origin: one of ORIGINS.

    The study's own keys (seeds, target, sweep, ...) are changed in the source at once.
    """

    def __init__(
        self,
        texts: Sequence[str],
        source: Source,
        mistakes: list[Mistake],
        origin: str = COMMAND_LINE,
    ) -> None:
        self._source, self._mistakes, self.origin = source, mistakes, origin
        self.settings: Level = {}
        self.variants: dict[str, Level] = {}
        #: The text of each override of a setting, by the place that stands for it.
        self.texts: dict[str, tuple[str, str]] = {}
        given: dict[str, tuple[Any, str]] = {}
        for text in texts:
            self._read(text, given)
        #: The keys of all of them.
        self.keys = tuple(given)
        for key in sorted(given, key=lambda key: key.count(".")):  # whole keys first: words have no order
            self._apply(key, *given[key])

    def _read(self, text: str, given: dict[str, tuple[Any, str]]) -> None:
        key, equals, written = (part.strip() for part in text.partition("="))
        place = place_of(text, self.origin)
        if not equals or not key or MERGE in key.split("."):
            problem = f'"{text}" is not of the form key=value, such as epochs=3.'
            self._mistakes.append(Mistake(self.origin, problem))
            return
        try:
            value = read_value(written, key)
        except ConfigError as error:
            if key == "description":
                value = written
            else:
                self._mistakes += [Mistake(place, mistake.message) for mistake in error.mistakes]
                return
        if key in given and given[key][0] != value:
            problem = f"{key} is given twice: {given[key][0]!r} and {value!r}. Fix: leave one of them out."
            self._mistakes.append(Mistake(place, problem))
            return
        given[key] = (value, place)

    def _apply(self, key: str, value: Any, place: str) -> None:
        first, _, rest = key.partition(".")
        if first == "variants" and rest:
            self._of_a_variant(key, rest, value, place)
        elif first == "sweep" and rest:
            self._of_the_sweep(rest, value, place)
        elif first in STUDY_KEYS:
            self._of_the_study(tuple(key.split(".")), value, place)
        elif not first.startswith("x-"):
            self.texts[place] = (key, f"{key}={as_word(value)}")
            add(self.settings, self._level({key: value}, place), self._mistakes)

    def _level(self, raw: Mapping[str, Any], place: str) -> Level:
        """All its leaves come from that override."""
        return open_level(raw, (), Source(places={(): place}), self._mistakes)

    def _of_a_variant(self, key: str, rest: str, value: Any, place: str) -> None:
        variants = self._source.data.get("variants")
        if isinstance(variants, list) and all(isinstance(name, str) for name in variants):
            variants = dict.fromkeys(variants)  # names alone, as in {none, batch}
        if not isinstance(variants, dict | None):
            problem = (
                f"{key}: the study's variants are not a mapping. Fix: variants: {{none: {{norm: none}}}}."
            )
            self._mistakes.append(Mistake(place, problem))
            return
        variants = variants or {}
        name, setting = _split(rest, variants)
        if name is None:
            problem = (
                f"{key}: no variant of the study is meant by {rest}. Known: {', '.join(variants) or 'none'}. "
                "Fix: variants.NAME.KEY=VALUE, such as variants.batch.norm.eps=1e-3."
            )
            self._mistakes.append(Mistake(place, problem))
            return
        self._source.data["variants"] = variants
        if not setting and (name not in variants or not isinstance(value, dict)):
            variants[name] = value
            self._move(("variants", name), place)
            return
        if name not in variants:
            variants[name] = {}
            self._move(("variants", name), place)
        raw = {setting: value} if setting else value
        add(self.variants.setdefault(name, {}), self._level(raw, place), self._mistakes)

    def _of_the_sweep(self, key: str, value: Any, place: str) -> None:
        sweep = self._source.data.get("sweep")
        if sweep is None:
            sweep = self._source.data["sweep"] = {}
        if not isinstance(sweep, dict):
            problem = f"sweep.{key}: the study's sweep is a list of settings. Fix: sweep={{{key}: [...]}}."
            self._mistakes.append(Mistake(place, problem))
            return
        sweep[key] = value
        self._move(("sweep", key), place)

    def _of_the_study(self, path: Path_, value: Any, place: str) -> None:
        data = self._source.data
        if path == ("probe",) and value is True and isinstance(data.get("probe"), dict):
            return  # the study has a probe of its own
        if len(path) > 1 and not isinstance(data.get(path[0]), dict | list):
            data[path[0]] = {"auto": True} if data.get(path[0]) == "auto" else {}
            self._move(path[:1], place)  # nothing of the file is left there
        try:
            set_in(data, path, value)
        except ValueError as error:
            self._mistakes.append(Mistake(place, f"{'.'.join(path)}: {error}."))
            return
        self._move(path, place)

    def _move(self, path: Path_, place: str) -> None:
        """From now on that key, and all that is in it, was written on the command line."""
        places = self._source.places
        for inner in [key for key in places if key[: len(path)] == path]:
            del places[inner]
        places[path] = place
        for depth in range(1, len(path)):
            places.setdefault(path[:depth], place)


def place_of(text: str, origin: str = COMMAND_LINE) -> str:
    """Where an override was written: the command line, and the word."""
    return f"{origin}: {text if len(text) <= 60 else text[:57] + '...'}"


def as_word(value: Any) -> str:
    """A value as a word of the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _split(rest: str, variants: Mapping[str, Any]) -> tuple[str | None, str]:
    """The variant that is meant, and its setting ("" for the variant as a whole).

    A variant's name may hold dots: the longest that there is, or else what stands before a known key.
    """
    parts = rest.split(".")
    cuts = range(len(parts), 0, -1)
    for cut in cuts:
        if ".".join(parts[:cut]) in variants:
            return ".".join(parts[:cut]), ".".join(parts[cut:])
    known = {*Settings.model_fields, *CHOICES, *SECTIONS}
    key_cuts = [cut for cut in cuts if cut < len(parts) and parts[cut] in known]
    if len(key_cuts) > 1:
        return None, ""
    cut = key_cuts[0] if key_cuts else len(parts)
    return (None, "") if not key_cuts and len(parts) > 1 else (".".join(parts[:cut]), ".".join(parts[cut:]))
