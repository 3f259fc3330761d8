"""The settings of every variant, and of every variant at every setting of the sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bnbench.base.errors import Mistake, nearest
from bnbench.base.files import key_text
from bnbench.base.parameter_groups import GROUPS, decay_and_factor
from bnbench.study.cautions import never_steps
from bnbench.study.check import Checker, Vocabulary
from bnbench.study.merge import Layer, Level, open_level, overlay
from bnbench.study.overrides import ORIGINS
from bnbench.study.same_network import one_form
from bnbench.study.schema import CHOICES, Settings, StudyCell
from bnbench.study.sweep import MAX_CELLS, Sweep, follow
from bnbench.study.yaml_source import Path_, Source

#: Norms that any network can have, for examples.
_EXAMPLES = ("batch", "layer", "rms", "none", "dyt", "group")


@dataclass
class Cells:
    """variants: the settings of each without a sweep."""

    variants: dict[str, Settings] = field(default_factory=dict)
    cells: list[StudyCell] = field(default_factory=list)


class CellMaker:
    """Crosses variants with a sweep; adds to the mistakes."""

    def __init__(
        self,
        source: Source,
        checker: Checker,
        mistakes: list[Mistake],
        complete: Callable[[Settings], Settings],
    ) -> None:
        """complete: adds the settings of the study as a whole."""
        self.source, self.checker, self.mistakes, self.complete = source, checker, mistakes, complete

    def make(self, levels: Mapping[str, Level], sweep: Sweep) -> Cells:
        """Every cell that makes sense."""
        made = Cells()
        if len(sweep) * len(levels) > MAX_CELLS:
            problem = f"sweep: {len(sweep):,} settings of {len(levels):,} variants: a study has at most {MAX_CELLS:,}"
            self._wrong(("sweep",), f"{problem} together. Fix: fewer values.")
            return made
        lacking = self._lacking(levels, sweep)
        for name, level in levels.items():
            settings = self._check(level, [] if sweep.keys else self.mistakes)
            of_variant = list(self._of_variant(name, level, settings, sweep, lacking[name]))
            made.cells += of_variant
            if settings or of_variant:
                made.variants[name] = settings or of_variant[0].settings
        self._check_twins(made, levels)
        return made

    def _of_variant(
        self, name: str, level: Level, unswept: Settings | None, sweep: Sweep, lacking: set[str]
    ) -> Iterator[StudyCell]:
        if not sweep.keys:
            if unswept:
                yield StudyCell(name, {}, unswept)
            return
        seen: dict[str, Mapping[str, Any]] = {}
        for whole in sweep.settings():
            setting = self._followed(
                {k: v for k, v in whole.items() if k not in lacking}, sweep, lacking, level
            )
            if setting is None:
                return
            before = len(self.mistakes)
            below = overlay(level, self._level(setting, sweep), self.mistakes)
            if len(self.mistakes) > before:
                continue
            dropped = [key for key in setting if not self.checker.has_option(key, Layer(below, ""))]
            if dropped and self._elsewhere(dropped, sweep):
                setting = {key: value for key, value in setting.items() if key not in dropped}
                below = overlay(level, self._level(setting, sweep), self.mistakes)
            settings = self._check(below, self.mistakes)
            if settings is None:
                continue
            identity = identity_of(settings, self.checker.vocabulary)
            if identity not in seen:
                seen[identity] = setting
                yield StudyCell(name, setting, settings)
            elif seen[identity] != setting or not (lacking or dropped):
                problem = f"sweep: {setting} gives {name} the same runs as {seen[identity]}"
                why = " (engine changes no run's identity)" if "engine" in setting else ""
                self._wrong(("sweep",), f"{problem}{why}. Fix: leave one of them out.")

    def _lacking(self, levels: Mapping[str, Level], sweep: Sweep) -> dict[str, set[str]]:
        """The swept options that a variant does not have, where another one has them."""
        lacking: dict[str, set[str]] = {name: set() for name in levels}
        if any(key.partition(".")[0] in CHOICES and "." not in key for key in sweep.keys):
            return lacking  # names are swept, too: it differs from cell to cell
        for key in sweep.keys:
            without = [
                name for name, level in levels.items() if not self.checker.has_option(key, Layer(level, ""))
            ]
            if len(without) < len(levels):
                for name in without:
                    lacking[name].add(key)
        return lacking

    def _elsewhere(self, keys: list[str], sweep: Sweep) -> bool:
        """Whether each of these options belongs to a name that the sweep itself sets in other cells."""
        rows = [*sweep.rows] or [{key: value} for key, values in sweep.lists.items() for value in values]
        for key in keys:
            section = key.partition(".")[0]
            named = [row for row in rows if {section, f"{section}.name"} & set(row)]
            layers = (Layer(self._level(row, sweep), "") for row in named)
            if not any(self.checker.has_option(key, layer) for layer in layers):
                return False
        return True

    def _followed(
        self, setting: dict[str, Any], sweep: Sweep, lacking: set[str], level: Level
    ) -> dict[str, Any] | None:
        """With the keys that follow others; None where one of them has no value."""
        formulas = {key: formula for key, formula in sweep.formulas.items() if key not in lacking}
        if not formulas:
            return setting
        settings = self._check(overlay(level, self._level(setting, sweep), []), [])

        def value_of(key: str) -> Any:
            value = _at(settings, key) if settings else _in_level(level, key)
            if value is None:
                known = [*sweep.keys, *Settings.model_fields]
                guess = nearest(key, known)
                hint = f'. Did you mean "{guess}"' if guess else ""
                raise ValueError(f"there is no number at {key}{hint}")
            return value

        try:
            return follow(formulas, setting, value_of)
        except ValueError as error:
            self._wrong(("sweep", next(iter(formulas))), f"sweep.{next(iter(formulas))}: {error}.")
            return None

    def _level(self, setting: Mapping[str, Any], sweep: Sweep) -> Level:
        row = sweep.row_of(setting)
        prefix = ("sweep",) if row is None else ("sweep", str(row))
        places: dict[Path_, str] = {(key,): self.source.place((*prefix, key)) for key in setting}
        return open_level(
            setting, (), Source(places={(): self.source.place(prefix), **places}), self.mistakes
        )

    def _check(self, level: Level, mistakes: list[Mistake]) -> Settings | None:
        settings = self.checker.settings(Layer(level, self.source.place(())), mistakes)
        return settings and self.complete(settings)

    def _check_twins(self, made: Cells, levels: Mapping[str, Level]) -> None:
        """Two variants with the same settings are one network, compared with itself."""
        seen: dict[str, StudyCell] = {}
        pairs: set[tuple[str, str]] = set()
        for cell in made.cells:
            other = seen.setdefault(identity_of(cell.settings, self.checker.vocabulary), cell)
            pair = (other.variant, cell.variant)
            if other.variant == cell.variant or pair in pairs:
                continue
            pairs.add(pair)
            at = f" at {dict(cell.setting)}" if cell.setting else ""
            engine = cell.settings.engine != other.settings.engine
            why = " (engine changes no run's identity)" if engine else ""
            problem = (
                f"variants {pair[0]} and {pair[1]} have the same settings{at}: norm {cell.settings.norm.name}"
            )
            place, fix = self._twins_fix(pair, made, levels, swept=bool(cell.setting))
            self.mistakes.append(Mistake(place, f"{problem} and all else{why}. Fix: {fix}"))

    def _twins_fix(
        self, pair: tuple[str, str], made: Cells, levels: Mapping[str, Level], *, swept: bool
    ) -> tuple[str, str]:
        """The place at fault for two equal variants, and the fix."""
        all_settings = [made.variants[name] for name in pair]
        apart = len({identity_of(settings, self.checker.vocabulary) for settings in all_settings}) > 1
        if swept and apart:
            fix = f"sweep what {pair[0]} and {pair[1]} do not set themselves, or leave one of them out."
            return self.source.place(("sweep",)), fix
        first, second = (levels[name] for name in pair)
        own = [
            leaf.place
            for path in (*second, *first)
            for leaf in (second.get(path), first.get(path))
            if leaf and leaf.place.startswith(ORIGINS) and first.get(path) != second.get(path)
        ]
        used = {settings.norm.name for settings in made.variants.values()}
        free = next((name for name in _EXAMPLES if name not in used), "")
        fix = f"give {pair[1]} another one, such as {pair[1]}: {{norm: {free}}}, or leave one of them out."
        if own:
            return own[0], "leave that word out, or give it another value."
        return self.source.place(("variants", pair[1])), fix if free else "leave one of them out."

    def _wrong(self, path: tuple[str, ...], message: str) -> None:
        self.mistakes.append(Mistake(self.source.place(path), message))


def identity_of(settings: Settings, vocabulary: Vocabulary) -> str:
    """The same text for all settings that train the same runs, however they are written."""
    values = settings.model_dump(mode="json", exclude={"engine"})
    model = values["model"]
    if values["init"]["name"] == "auto":
        values["init"]["name"] = vocabulary["model"][settings.model.name].facts.init
    model["name"], model["options"] = one_form(model["name"], model["options"])
    _by_group(values["optimizer"]["options"])
    if values["schedule"]["name"] == "step" and never_steps(settings):
        warmup = {"warmup_epochs": values["schedule"]["options"]["warmup_epochs"]}
        values["schedule"] = {"name": "constant", "options": warmup}
    return key_text(values)


def _by_group(options: dict[str, Any]) -> None:
    """The same decay and learning rates in the same words, where the optimizer has bnbench's options for them."""
    if {"weight_decay", "decay_norm_and_bias", "groups"} <= set(options):
        all_of_them = (options.pop(key) for key in ("weight_decay", "decay_norm_and_bias", "groups"))
        decay, everywhere, rules = all_of_them
        options["groups"] = {group: decay_and_factor(group, decay, everywhere, rules) for group in GROUPS}


def _at(settings: Settings, key: str) -> Any:
    """The resolved value at a dotted key, None where there is none."""
    value: Any = settings.model_dump(mode="json")
    for part in key.split("."):
        if isinstance(value, dict) and set(value) == {"name", "options"}:
            value = {"name": value["name"], **value["options"]}
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _in_level(level: Level, key: str) -> Any:
    leaf = level.get(tuple(key.split(".")))
    return leaf and leaf.value
