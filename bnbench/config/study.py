"""From a source (YAML and overrides) to a `Study`: variants merged, every value checked, all mistakes at once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnbench.config.check import Vocabulary, check_settings
from bnbench.config.goals import Goals
from bnbench.config.looks import means_auto, read_looks
from bnbench.config.merge import Layer, apply_change, layer_of, override
from bnbench.config.schema import DEFAULT_PRIMARY, STUDY_KEYS, Settings, Study, StudyCell
from bnbench.config.seeds import MAX_SEEDS, read_seeds
from bnbench.config.vary import DEFAULT_VARY, read_vary
from bnbench.config.vary import Source as Varied
from bnbench.config.yaml_source import Source, read_file
from bnbench.errors import ConfigError, Mistake, unknown_name
from bnbench.registry import means_none

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def load_study(path: Path, overrides: Sequence[str], vocabulary: Vocabulary) -> Study:
    """Read and check a study.

    overrides: "key=value", the key dotted, the value read as YAML; they change what all variants
    share. Raises ConfigError with every mistake.
    """
    return _Resolver(read_file(path), path, vocabulary, overrides).study()


def load_variant(path: Path, variant: str | None, overrides: Sequence[str], vocabulary: Vocabulary) -> Study:
    """Read and check one variant of a study (default: its first), as a study of its own without a sweep.

    overrides: as in `load_study`, but they have the last word, over the variant's own settings.
    """
    source = read_file(path)
    foreign = [text for text in overrides if text.startswith(("variants.", "variants="))]
    if foreign:
        raise ConfigError(
            [
                Mistake("command line", f"{text}: train has one variant; name the key alone.")
                for text in foreign
            ]
        )
    variants, sweep = source.data.pop("variants", None), source.data.pop("sweep", None)
    source.data.pop("baseline", None)
    if isinstance(variants, dict) and variants:
        name = variant or next(iter(variants))
        if name not in variants:
            raise ConfigError([Mistake(source.place(("variants",)), unknown_name("variant", name, variants))])
        change = {} if variants[name] is None else variants[name]
        if not isinstance(change, dict):
            raise ConfigError([Mistake(source.place(("variants", name)), _no_mapping(name, change))])
        layer = apply_change(layer_of(source), change, ("variants", name), source)
        source = Source({**layer.data, "variants": {name: {}}}, layer.places, source.mistakes)
    elif variant:
        raise ConfigError(
            [Mistake(str(path), f'no variants are defined, so there is no "{variant}" to train.')]
        )
    resolver = _Resolver(source, path, vocabulary, overrides)
    if sweep:
        resolver.warnings.append("one variant is trained as it is: the study's sweep is left out.")
    return resolver.study()


class _Resolver:
    """Checks one source; gathers mistakes and warnings on the way."""

    def __init__(self, source: Source, path: Path, vocabulary: Vocabulary, overrides: Sequence[str]) -> None:
        self.source, self.path, self.vocabulary, self.overrides = source, path, vocabulary, overrides
        self.mistakes: list[Mistake] = [*source.mistakes, *override(source, overrides)]
        self.warnings: list[str] = []
        self.vary = self._vary()

    def _vary(self) -> tuple[Varied, ...]:
        if "vary" not in self.source.data:
            return DEFAULT_VARY
        try:
            return read_vary(self.source.data["vary"])
        except ValueError as error:
            self._wrong(("vary",), str(error))
            return DEFAULT_VARY

    def study(self) -> Study:
        data = self.source.data
        base = layer_of(self.source, without=STUDY_KEYS)
        changes = self._variants()
        sweep = self._sweep()
        self._shadowed_overrides(changes, sweep)
        variants, cells = self._cells(base, changes, sweep)
        goals = Goals(self.source, self.mistakes, self.warnings)
        seeds = data.get("seeds", 5)
        looks = self._looks(seeds, len(changes)) if means_auto(seeds) else ()
        study = Study(
            name=self._text("name", _folder_name(self.path.stem)),
            description=self._text("description", ""),
            seeds=tuple(range(looks[-1])) if looks else self._seeds(seeds),
            variants=variants,
            baseline=self._baseline(list(changes)),
            targets=goals.targets(data.get("target")),
            sweep=sweep,
            cells=tuple(cells),
            primary=goals.primary(data.get("primary", DEFAULT_PRIMARY)),
            margin=goals.margin(data.get("margin")),
            looks=looks,
            metrics=goals.metrics(data.get("metrics")),
            warnings=tuple(dict.fromkeys(self.warnings)),
        )
        if self.mistakes:
            raise ConfigError(sorted(set(self.mistakes), key=_by_line))
        return study

    def _wrong(self, path: tuple[str, ...], message: str) -> None:
        self.mistakes.append(Mistake(self.source.place(path), message))

    def _text(self, key: str, default: str) -> str:
        value = self.source.data.get(key, default)
        if key == "name" and not (isinstance(value, str) and _NAME.fullmatch(value)):
            if key in self.source.data:
                self._wrong(
                    (key,), f"name: {value!r} can't be a folder's name: use letters, digits, '.', '_', '-'."
                )
            return "study"
        return str(value)

    def _variants(self) -> dict[str, Mapping[str, Any]]:
        """Each variant's changes, by name."""
        if "variants" not in self.source.data:
            return {_norm_name(self.source.data.get("norm", "none")): {}}
        given = self.source.data["variants"]
        if not isinstance(given, dict) or not given:
            what = "is empty" if not given else "is not a mapping of names to settings"
            self._wrong(
                ("variants",),
                f"variants {what}: there is nothing to compare. "
                "Fix: variants: {none: {norm: none}, batch: {norm: batch}}, or leave the key out.",
            )
            return {}
        variants: dict[str, Mapping[str, Any]] = {}
        for name, change in given.items():
            if not _NAME.fullmatch(name):
                self._wrong(
                    ("variants", name), f"variant name {name!r}: use letters, digits, '.', '_', '+', '-'."
                )
            elif change is not None and not isinstance(change, dict):
                self._wrong(("variants", name), _no_mapping(name, change))
            else:
                variants[name] = change or {}
        return variants

    def _shadowed_overrides(self, changes: Mapping[str, Mapping[str, Any]], sweep: Mapping[str, Any]) -> None:
        """An override that every variant or the sweep overrules would do nothing: say so."""
        for text in self.overrides:
            key = text.partition("=")[0].strip()
            if changes and all(_sets(change, key) for change in changes.values()):
                whole = key.partition(".")[0]
                why = f"every variant sets {whole} itself. Fix: variants.NAME.{text}, with the variant that is meant."
            elif key in sweep:
                why = f"the sweep sets {key}. Fix: sweep=null {text}."
            else:
                continue
            self.mistakes.append(Mistake("command line", f"{text} would change nothing: {why}"))

    def _sweep(self) -> dict[str, tuple[Any, ...]]:
        given = self.source.data.get("sweep") or {}
        if not isinstance(given, dict):
            self._wrong(
                ("sweep",),
                "sweep is not a mapping of keys to lists. Fix: sweep: {optimizer.lr: [0.01, 0.1]}.",
            )
            return {}
        sweep: dict[str, tuple[Any, ...]] = {}
        for key, values in given.items():
            if not isinstance(values, list) or not values:
                self._wrong(("sweep", key), f"sweep.{key}: {values!r} is not a list with values in it.")
            elif len({repr(value) for value in values}) < len(values):
                self._wrong(("sweep", key), f"sweep.{key}: {values} repeats a value.")
            else:
                sweep[key] = tuple(values)
        return sweep

    def _cells(
        self, base: Layer, changes: Mapping[str, Mapping[str, Any]], sweep: Mapping[str, tuple[Any, ...]]
    ) -> tuple[dict[str, Settings], list[StudyCell]]:
        """The settings of every variant, and of every variant at every setting of the sweep."""
        variants: dict[str, Settings] = {}
        cells: list[StudyCell] = []
        for name, change in (changes or {"": {}}).items():
            layer = apply_change(base, change, ("variants", name), self.source)
            settings = self._check(layer)
            if settings:
                variants[name] = settings
            for setting in _settings_of(sweep):
                swept = (
                    self._check(apply_change(layer, setting, ("sweep",), self.source))
                    if setting
                    else settings
                )
                if swept and (same := _same_runs(name, swept, cells)):
                    what = f"sweep: {setting} gives {name} the same runs as {same.setting}"
                    why = "(engine changes no run's identity)" if "engine" in setting else ""
                    self._wrong(("sweep",), f"{what}{' ' + why if why else ''}. Fix: leave one of them out.")
                elif swept:
                    cells.append(StudyCell(name, setting, swept))
        return variants, cells

    def _check(self, layer: Layer) -> Settings | None:
        settings = check_settings(layer, self.vocabulary, self.mistakes, folder=self.path.parent)
        return settings and settings.model_copy(update={"vary": self.vary})

    def _looks(self, given: Any, num_variants: int) -> tuple[int, ...]:
        """At how many seeds the study looks at its result, where `seeds: auto` leaves their number open."""
        if num_variants == 1:
            self._wrong(
                ("seeds",),
                "seeds: auto stops where a difference is decided, but there is one variant (train takes one), and "
                "nothing to compare it with. Fix: a number of seeds, such as seeds=5.",
            )
        return read_looks(given, MAX_SEEDS, lambda message: self._wrong(("seeds",), message))

    def _seeds(self, given: Any) -> tuple[int, ...]:
        try:
            return read_seeds(given)
        except ValueError as error:
            self._wrong(("seeds",), str(error))
            return (0,)

    def _baseline(self, names: list[str]) -> str:
        baseline = self.source.data.get("baseline")
        first = names[0] if names else ""
        if baseline is None:
            return "none" if "baseline" in self.source.data and "none" in names else first
        if str(baseline) not in names and names:
            self._wrong(("baseline",), unknown_name("variant", str(baseline), names))
        return str(baseline)


def _same_runs(variant: str, settings: Settings, cells: Sequence[StudyCell]) -> StudyCell | None:
    """The variant's cell whose runs these settings would give again: the engine is no part of a run."""
    plain = settings.model_copy(update={"engine": "auto"})
    for cell in cells:
        if cell.variant == variant and cell.settings.model_copy(update={"engine": "auto"}) == plain:
            return cell
    return None


def _no_mapping(name: str, change: Any) -> str:
    return f"variants.{name}: {change!r} is no mapping. Fix: {name}: {{norm: {change}}}."


def _folder_name(stem: str) -> str:
    """A file's stem as a folder's name: "study two" becomes "study-two"."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+")
    return name or "study"


def _by_line(mistake: Mistake) -> tuple[str, int, str]:
    file, _, line = mistake.place.rpartition(":")
    return (file, int(line), mistake.message) if line.isdigit() else (mistake.place, 0, mistake.message)


def _settings_of(sweep: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every combination of the swept values; one empty setting where nothing is swept."""
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def _norm_name(norm: Any) -> str:
    """The name of the only variant of a study without variants."""
    name = norm.get("name") if isinstance(norm, dict) else norm
    return "none" if means_none(name) or not _NAME.fullmatch(str(name)) else str(name)


def _sets(change: Mapping[str, Any], key: str) -> bool:
    """Whether a variant's changes overrule that dotted key."""
    head, _, rest = key.partition(".")
    for name, value in change.items():
        if name == key or key.startswith(f"{name}."):
            if not isinstance(value, dict) or name == key:
                return True
        if name == head and isinstance(value, dict) and (not rest or _sets(value, rest)):
            return True
    return False
