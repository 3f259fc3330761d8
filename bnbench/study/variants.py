"""`variants`: the changes of each variant.

A variant is a mapping of settings. A name alone, without a value, is a normalizer: `{none, batch}` is
`{none: {norm: none}, batch: {norm: batch}}`, and so is the list `[none, batch]`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from bnbench.base.errors import Mistake, nearest
from bnbench.base.options import means_none
from bnbench.study.layer_names import label_of, names_code, refusal
from bnbench.study.merge import Level, open_level
from bnbench.study.names import folder_name, name_fault, twins
from bnbench.study.schema import STUDY_KEYS
from bnbench.study.yaml_source import MERGE, Source

#: More columns than any table can show.
MAX_VARIANTS = 1_000
_FIX = "Fix: variants: {none: {norm: none}, batch: {norm: batch}}, or leave the key out."


class Variants:
    """Reads them from a source; adds to its mistakes."""

    def __init__(self, source: Source, norms: Collection[str], base: Level, mistakes: list[Mistake]) -> None:
        self.source, self.norms, self.base, self.mistakes = source, norms, base, mistakes

    def names(self) -> dict[str, Any]:
        """What stands there for each name, whether it makes sense or not."""
        given = self.source.data.get("variants")
        if given is None and "variants" not in self.source.data:
            return {self._only_name(): {}}
        if isinstance(given, list) and given:
            return self._from_list(given)
        if not isinstance(given, dict) or not given:
            problem = "is empty" if not given else "is not a mapping of names to settings"
            self._wrong(("variants",), f"variants {problem}: there is nothing to compare. {_FIX}")
            return {}
        merged: dict[str, Any] = {}
        for lower in reversed(given.get(MERGE, [])):
            merged |= lower
        return {name: change for name, change in {**merged, **given}.items() if name != MERGE}

    def levels(
        self,
        given: Mapping[str, Any],
        only: str | None = None,
        more: Mapping[str, Level] = MappingProxyType({}),
    ) -> dict[str, Level]:
        """The changes of those that make sense. only: the others are not looked at.

        more: changes from the command line, which can also define a variant.
        """
        levels: dict[str, Level] = {}
        if len(given) > MAX_VARIANTS:
            self._wrong(("variants",), f"variants: {len(given):,}: a study has at most {MAX_VARIANTS:,}.")
            return levels
        for name, change in given.items():
            if only is not None and name != only:
                continue
            if wrong := name_fault(name):
                self._wrong(("variants", name), f"variant name {_short(name)}: {wrong}.")
                continue
            settings = {} if not change and name in more else self._settings(name, change, given)
            if name in more and change is None and name in self.norms and ("norm", "name") not in more[name]:
                settings = {"norm": name}
            if settings is not None:
                levels[name] = open_level(settings, ("variants", name), self.source, self.mistakes)
        if only is None and (pair := twins(given)):
            problem = (
                f"variants {pair[0]} and {pair[1]} differ in case alone, and many file systems ignore that."
            )
            self._wrong(("variants", pair[1]), f"{problem} Fix: another name for one of them.")
        return levels

    def _settings(self, name: str, change: Any, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
        path = ("variants", name)
        if isinstance(change, dict):
            if not change and name in self.norms and name != "none" and ("norm", "name") not in self.base:
                fix = f"Fix: {name}: {{norm: {name}}}, or another name."
                self._wrong(path, f"variants.{name}: {{}} is the study as it is, whose norm is none. {fix}")
            for key in STUDY_KEYS:  # with values in it, the check of the settings says so
                if change.get(key) == {}:
                    self._wrong((*path, key), f"{key} belongs to the study, no variant may change it.")
            return change
        if change is not None:
            word = change if isinstance(change, str) else "batch"
            self._wrong(
                path, f"variants.{name}: {_short(change)} is not a mapping. Fix: {name}: {{norm: {word}}}."
            )
            return None
        norm = "none" if means_none(name) else name
        as_it_is = f"{name}: {{}} for the study as it is"
        if norm in self.norms:
            shared = self.base.get(("norm", "name"))
            common = None if shared is None else "none" if means_none(shared.value) else shared.value
            if common in (None, norm):
                return {"norm": norm}
            fix = f"Fix: {name}: {{norm: {norm}}}, or {as_it_is}, whose norm is {common}."
            self._wrong(path, f"variants.{name} has no value, and two meanings. {fix}")
            return None
        guess = nearest(name, self.norms, likeness=0.7)
        others = [other for other, value in given.items() if other != name and not value]
        if guess or others:
            hint = f' Did you mean "{guess}"?' if guess else ""
            fix = f"Fix: {name}: {{norm: {guess or 'batch'}}}, or {as_it_is}."
            self._wrong(path, f'variants.{name} has no value, and no norm is called "{name}".{hint} {fix}')
            return None
        return {}

    def _from_list(self, given: list[Any]) -> dict[str, Any]:
        """Names of normalizers: nothing else can be meant by a word alone."""
        changes: dict[str, Any] = {}
        for index, item in enumerate(given):
            path = ("variants", str(index))
            name = "none" if not isinstance(item, dict | list) and means_none(item) else item
            if names_code(name) and name not in self.norms:
                self._wrong(path, f"variants.{index}: {refusal(str(name), f'variants=[none, {name}]')}")
            elif not isinstance(name, str) or name not in self.norms:
                guess = nearest(name, self.norms) if isinstance(name, str) else None
                hint = f' Did you mean "{guess}"?' if guess else ""
                problem = f"variants.{index}: {_short(item)} is not the name of a norm.{hint}"
                self._wrong(path, f"{problem} Fix: a mapping, variants: {{NAME: {{norm: batch, ...}}, ...}}.")
            elif name in [change["norm"] for change in changes.values()]:
                self._wrong(path, f"variants.{index}: {name} stands there twice. Fix: leave one of them out.")
            else:
                label = label_of(name)
                changes[folder_name(name) if label in changes else label] = {"norm": name}
        return changes

    def _only_name(self) -> str:
        """The name of the only variant of a study without variants: its norm's name."""
        norm = self.base.get(("norm", "name"))
        name = "none" if norm is None or means_none(norm.value) else label_of(str(norm.value))
        return "none" if name_fault(name) else name

    def _wrong(self, path: tuple[str, ...], message: str) -> None:
        self.mistakes.append(Mistake(self.source.place(path), message))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
