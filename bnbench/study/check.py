"""Checks one variant's settings against their types and against the registered names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bnbench.base.errors import Mistake, unknown_name
from bnbench.base.kinds import KIND_OF
from bnbench.base.options import OptionFaults, means_none
from bnbench.base.registry import Entry
from bnbench.base.user_code import raise_interrupt
from bnbench.study.augment_names import why_refused
from bnbench.study.cautions import faults_of
from bnbench.study.layer_names import names_code, names_network, network_refusal, refusal
from bnbench.study.merge import Layer, set_in
from bnbench.study.overrides import ORIGINS
from bnbench.study.schema import AUTO, CAN_BE_NONE, CHOICES, DEFAULT_CHOICES, OPEN, STUDY_KEYS, Settings
from bnbench.study.sections import Choice
from bnbench.study.usual import fits_model, is_open, misfits, usual
from bnbench.study.value_faults import faults_by_path, message
from bnbench.study.values import absolute_path, to_plain
from bnbench.study.yaml_source import Path_

#: For each of CHOICES, what is registered: the command line, which sees everything, hands it in.
Vocabulary = Mapping[str, Mapping[str, Entry]]


class Checker:
    """Checks layer after layer against one vocabulary; a layer that is right is not checked again.

    folder: relative paths in a study's file are relative to the file's own folder.
    """

    def __init__(self, vocabulary: Vocabulary, folder: Path) -> None:
        self.vocabulary, self.folder = vocabulary, folder
        self._choices: dict[str, Choice] = {}
        #: What to say where a study tries to name code, by the place where it does.
        self.refusals: dict[str, str] = {}

    def settings(self, layer: Layer, mistakes: list[Mistake]) -> Settings | None:
        """The typed settings of one layer, or None where there are mistakes (which are added to the list)."""
        before = len(mistakes)
        self._fill(layer)
        values: dict[str, Any] = {}
        for key, value in layer.data.items():
            if key in CHOICES:
                continue
            if key in STUDY_KEYS:
                problem = f"{key} belongs to the study, no variant may change it."
                mistakes.append(Mistake(layer.place((key,)), problem))
            else:
                values[key] = value
        for key in CHOICES:
            choice = self._choice(key, layer, mistakes)
            if choice:
                values[key] = choice
        if "normalize" not in values and (ways := self._normalizations(values.get("task"))):
            values["normalize"] = ways[0]
        settings = _validated(Settings, values, (), layer, mistakes, given_choices=True)
        if not isinstance(settings, Settings) or len(mistakes) > before:
            return None
        for paths, problem in faults_of(settings):
            mistakes.append(Mistake(_blamed(paths, layer), problem))
        for key, problem in misfits(settings, self.vocabulary):
            mistakes.append(Mistake(layer.place((key, "name")), problem))
        return settings if len(mistakes) == before else None

    def has_option(self, key: str, layer: Layer) -> bool:
        """Whether that dotted key is one of the options that this layer's names have."""
        self._fill(layer)
        section, _, option = key.partition(".")
        if section not in CHOICES or not option or option == "name":
            return True
        name = _name_of(section, layer.data.get(section))
        if section in OPEN and is_open(section, layer.data.get(section, AUTO)):
            name = self._usual(section, layer)[0]
        entry = self.vocabulary[section].get(name or "")
        return entry is None or option.partition(".")[0] in entry.options().model_fields

    def _fill(self, layer: Layer) -> None:
        """Give a layer without a data set the one that its task names."""
        task = self.vocabulary["task"].get(_name_of("task", layer.data.get("task")) or "")
        given = layer.data.get("dataset", {})
        if task and task.facts.dataset and isinstance(given, dict) and "name" not in given:
            layer.data["dataset"] = {"name": task.facts.dataset, **given}

    def _choice(self, key: str, layer: Layer, mistakes: list[Mistake]) -> Choice | None:
        """One registered name with its options."""
        entries, kind = self.vocabulary[key], KIND_OF[key].noun
        given = layer.data.get(key)
        if given is None and key not in DEFAULT_CHOICES and (key not in OPEN or key in layer.data):
            mistakes.append(Mistake(layer.place((key,)), self._missing(key, given, layer)))
            return None
        name = _name_of(key, given)
        names, blame = list(entries), ""
        if key in OPEN:
            names.append(AUTO)
            if is_open(key, given if key in layer.data else AUTO):
                name, blame = self._usual(key, layer)
                if not name:
                    mistakes.append(Mistake(layer.place((key,)), self._missing(key, given, layer)))
                    return None
        if key == "task" and name in entries:
            name = self._task(layer)
        if name is None or name not in entries:
            place = layer.place((key, "name"))
            problem = (
                blame + unknown_name(kind, name, names) if name is not None else f"{key}.name is missing."
            )
            if key == "norm" and names_code(name):
                problem = f"norm: {self.refusals.get(place) or refusal(str(name), f'norm={name}')}"
            if key == "model" and names_network(name):
                problem = self.refusals.get(place) or network_refusal(str(name))
            elif key == "augment" and name is not None and (why := why_refused(name)):
                problem = why
            mistakes.append(Mistake(place, problem))
            return None
        options = {option: value for option, value in (given or {}).items() if option != "name"}
        known = f"{key} {name} {options!r} {_from_command_line(layer, key)}"
        if known not in self._choices:
            choice = self._checked(key, entries[name], options, layer, mistakes)
            if choice is None:
                return None
            self._choices[known] = choice
        return self._choices[known]

    def _normalizations(self, task: Choice | None) -> tuple[str, ...]:
        """Those that fit a study's task, the usual one first; () for all."""
        entry = self.vocabulary["task"].get(task.name) if task else None
        return entry.facts.normalizations if entry else ()

    def _missing(self, key: str, given: Any, layer: Layer) -> str:
        """What to say where nothing is usual, such as a model for images: those that fit the task."""
        entries, task = self.vocabulary[key], self.vocabulary["task"].get(self._task(layer))
        fitting = [
            name
            for name, entry in entries.items()
            if key != "model" or not task or fits_model(entry, task, entries)
        ]
        return f"{f'{key}.name' if given else key} is missing. Known: {', '.join(sorted(fitting))}."

    def _task(self, layer: Layer) -> str:
        """The name of the task: the one that is named or usual, or the kind of it that the data set is for."""
        given, held = layer.data.get("task", AUTO), self._held(layer)
        if is_open("task", given):
            return held or self._usual("task", layer)[0]
        name = _name_of("task", given) or ""
        entry = self.vocabulary["task"].get(name)
        return held if entry and held in entry.facts.kinds else name

    def _held(self, layer: Layer) -> str:
        """The task that a data set in a file is for, where its targets say so."""
        given = layer.data.get("dataset")
        entry = self.vocabulary["dataset"].get(_name_of("dataset", given) or "")
        path = given.get("path") if isinstance(given, dict) else None
        if entry is None or entry.facts.holds is None or not isinstance(path, str):
            return ""
        from_file = not layer.place(("dataset", "path")).startswith(ORIGINS)
        try:
            return str(
                entry.facts.holds(Path(absolute_path(Path(path), self.folder if from_file else Path.cwd())))
            )
        except ValueError:
            return ""

    def _general(self, key: str, entry: Entry, option: str) -> str | None:
        """The entry with that option of which this one is a case, as resnet20 is of resnet."""
        return next(
            (
                name
                for name, other in self.vocabulary[key].items()
                if entry.name.rstrip("0123456789") == name != entry.name
                and option in other.options().model_fields
            ),
            None,
        )

    def _usual(self, key: str, layer: Layer) -> tuple[str, str]:
        """The default of a layer that names none, and the start of a message that says where the default comes from."""
        names = {"dataset": _name_of("dataset", layer.data.get("dataset")) or ""}
        if key != "task":
            names["task"] = self._task(layer)
        return usual(key, names, self.vocabulary)

    def _checked(
        self, key: str, entry: Entry, options: dict[str, Any], layer: Layer, mistakes: list[Mistake]
    ) -> Choice | None:
        model = entry.options()
        for option in options:
            if option not in model.model_fields and (general := self._general(key, entry, option)):
                problem = (
                    f"{key} {entry.name} has no {option}. Fix: {key}: {{name: {general}, {option}: ...}}."
                )
                mistakes.append(Mistake(layer.place((key, option)), problem))
                return None
            try:
                options[option] = _with_elements(options[option], model, option)
            except ValueError as error:
                mistakes.append(Mistake(layer.place((key, option)), f"{key}.{option}: {error}."))
                return None
        section = f"{key} {entry.name}"
        checked = _validated(model, options, (key,), layer, mistakes, section=section)
        if checked is None:
            return None
        options_kept: dict[str, Any] = {}
        for option in model.model_fields:
            from_file = not layer.place((key, option)).startswith(ORIGINS)
            folder = self.folder if from_file else Path.cwd()
            absolute = partial(absolute_path, folder=folder)
            try:
                options_kept[option] = to_plain(getattr(checked, option), absolute)
            except ValueError as error:  # also what JSON can't hold
                mistakes.append(Mistake(layer.place((key, option)), f"{key}.{option}: {error}."))
                return None
        if (
            _validated(model, options_kept, (key,), layer, mistakes, section=f"{section}, as it is kept")
            is None
        ):
            return None
        complete = getattr(entry.facts, "complete", None)
        try:
            options_kept = dict(complete(**options_kept)) if complete else options_kept
        except OptionFaults as error:
            for path, text in error.faults:
                said = text if text.startswith((key, "unknown")) else f"{section}: {text}"
                mistakes.append(Mistake(layer.place((key, *path)), said))
            return None
        return Choice(name=entry.name, options=options_kept)


def _name_of(section: str, given: Any) -> str | None:
    """The name that a section's value stands for, None where it has none."""
    name = given.get("name", DEFAULT_CHOICES.get(section)) if isinstance(given, dict) else given
    if given is None:
        name = DEFAULT_CHOICES.get(section)
    if section in CAN_BE_NONE and means_none(name):
        return "none"
    return None if name is None else str(name)


def _from_command_line(layer: Layer, section: str) -> list[str]:
    """Keys of the section that the command line gave: their paths are relative to another folder."""
    return [
        key[1] for key, leaf in layer.level.items() if key[0] == section and leaf.place.startswith(ORIGINS)
    ]


def _blamed(paths: Sequence[Path_], layer: Layer) -> str:
    """The place of keys that do not go together: the command line, which comes last, or the first key."""
    places = [layer.place(path) for path in paths]
    return next((place for place in places if place.startswith(ORIGINS)), places[0])


def _with_elements(value: Any, model: type[BaseModel], option: str) -> Any:
    """`model.hidden.0: 32` on the default, where the study has no list of its own."""
    if not isinstance(value, dict) or not value or not all(key.isdecimal() for key in value):
        return value
    field = model.model_fields.get(option)
    if field is None or not isinstance(field.default, list | tuple):
        return value
    values = list(field.default)
    for key, element in value.items():
        set_in(values, (key,), element)
    return values


def _validated(
    model: type[BaseModel],
    values: Mapping[str, Any],
    prefix: Path_,
    layer: Layer,
    mistakes: list[Mistake],
    section: str = "",
    given_choices: bool = False,
) -> BaseModel | None:
    """The model's instance, or None with one Mistake for each of its faults."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for path, details in faults_by_path(error, prefix).items():
            if given_choices and details[0]["type"] == "missing" and path[0] in CHOICES:
                continue  # reported already, by _choice
            mistakes.append(Mistake(layer.place(path), message(details, path, model, section)))
    except BaseException as error:  # whatever a plugin's validator can raise
        raise_interrupt(error)
        problem = f"{section or 'the settings'}: {type(error).__name__}: {error}."
        mistakes.append(Mistake(layer.place(prefix), problem))
    return None
