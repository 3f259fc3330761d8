"""The JSON Schema of a study, so that editors complete and check it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bnbench.base.listing import Described
from bnbench.base.metrics import GAPS, RECALL, SPLITS, columns_of
from bnbench.base.options import add_words_for_none, is_optional_number, or_a_word_for_none
from bnbench.study.augment_names import SEQUENCE
from bnbench.study.evaluation import OPTIONS, Inference
from bnbench.study.evaluation_reader import MOST_SETS, NAME
from bnbench.study.expect import expect_schema
from bnbench.study.goals import EARLY
from bnbench.study.looks import FIRST_LOOK, MAX_LOOK
from bnbench.study.schema import (
    AUTO,
    CAN_BE_NONE,
    CHOICES,
    DEFAULT_CHOICES,
    LENGTHS,
    MATCH_BASELINE,
    OPEN,
    SECTIONS,
    Settings,
)


def _one_of(names: Iterable[str], splits: Sequence[str] = ()) -> dict[str, Any]:
    """A metric by name, or the metric of one class, whose name only the data knows."""
    of_class = rf"^{f'({chr(124).join(splits)})_' if splits else ''}{RECALL}:."
    return {"anyOf": [{"enum": list(names)}, {"type": "string", "pattern": of_class}]}


def _with_value(metric: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["metric", "value"],
        "additionalProperties": False,
        "properties": {"metric": metric, "value": value},
    }


def _goals(vocabulary: Mapping[str, Mapping[str, Described]]) -> dict[str, Any]:
    """The keys that name metrics: the metrics of every task, as a schema can't tell which task a study has."""
    names = list(
        dict.fromkeys(name for entry in vocabulary["task"].values() for name in entry.metric_names())
    )
    column = _one_of(columns_of(names, (*SPLITS, *GAPS)), (*SPLITS, *GAPS))
    early = _one_of(columns_of(names, (*EARLY, "val_gap")), (*EARLY, "val_gap"))
    target = _with_value(early, {"anyOf": [{"type": "number"}, {"const": MATCH_BASELINE}]})
    margin = _with_value(column, {"type": "number", "exclusiveMinimum": 0})
    metric = _one_of([*names, RECALL, *GAPS, *columns_of(names, GAPS)])
    return {
        "target": {"anyOf": [target, {"type": "array", "items": target}, {"type": "null"}]},
        "primary": {**column, "description": "default: the task's, such as test_accuracy"},
        "margin": {"anyOf": [margin, {"type": "null"}]},
        "metrics": {"anyOf": [metric, {"type": "array", "items": metric}, {"type": "null"}]},
    }


#: Text, though YAML may read it as something else: a study may be called 1e3.
_WORD: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_NO_WORD = [None, False, "no", "off", "null"]
_SWEEP: dict[str, Any] = {
    "anyOf": [
        {
            "type": "object",
            "description": "lists are crossed; a formula in other keys, such as 0.1 * batch_size / 128, follows them",
            "additionalProperties": {
                "anyOf": [{"type": "array", "minItems": 1}, {"type": ["string", "object"]}]
            },
        },
        {"type": "array", "items": {"type": "object", "minProperties": 1}, "uniqueItems": True},
        {"type": "null"},
    ]
}
_LOOKS: dict[str, Any] = {
    "type": "object",
    "description": "seeds are added look by look until every variant is decided, up to max",
    "required": ["auto"],
    "additionalProperties": False,
    "properties": {
        "auto": {"const": True},
        "max": {"type": "integer", "minimum": FIRST_LOOK, "default": MAX_LOOK},
        "looks": {"type": "array", "items": {"type": "integer", "minimum": FIRST_LOOK}, "uniqueItems": True},
    },
}


_SEEDS: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": True},
        {"const": "auto"},
        _LOOKS,
    ]
}


#: A run has one length.
_TWO_LENGTHS = {
    "type": "object",
    "required": [*LENGTHS],
    "properties": {key: {"type": "number"} for key in LENGTHS},
}


def _variants(setting: dict[str, Any], norms: Sequence[str]) -> dict[str, Any]:
    """A variant may change any setting, by dotted key too; a name alone is the name of a norm."""
    names = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": [*norms, *_NO_WORD]}}
    return {"anyOf": [{"type": "object", "minProperties": 1, "additionalProperties": setting}, names]}


def json_schema(vocabulary: Mapping[str, Mapping[str, Described]]) -> dict[str, Any]:
    """The schema (draft 2020-12) of studies over everything that is registered."""
    settings = Settings.model_json_schema()
    definitions = settings["$defs"]
    for section in SECTIONS.values():
        add_words_for_none(definitions[section.__name__], section)
    properties, changes = _settings(settings["properties"], definitions, vocabulary)
    dotted: dict[str, Any] = {rf"^({'|'.join(properties)})\.": {}, "^<<$": {}}
    setting = {
        "type": ["object", "null"],
        "properties": {**changes, "role": {"const": "check"}, "check_of": _WORD},
        "patternProperties": dotted,
        "additionalProperties": False,
        "not": _TWO_LENGTHS,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bnbench study",
        "type": "object",
        # a task may name the data set of a study that names none
        "required": [key for key in CHOICES if key not in (*DEFAULT_CHOICES, *OPEN, "dataset")],
        "additionalProperties": False,
        "not": _TWO_LENGTHS,
        "patternProperties": {**dotted, "^x-": {"description": "a place for anchors; no setting"}},
        "properties": {
            "name": _WORD,
            "description": {**_WORD, "type": [*_WORD["type"], "null"]},
            "seeds": _SEEDS,
            "variants": _variants(setting, sorted(vocabulary["norm"])),
            "baseline": {**_WORD, "type": [*_WORD["type"], "null"]},
            **_goals(vocabulary),
            "sweep": _SWEEP,
            "expect": expect_schema(),
            **properties,
        },
        "$defs": definitions,
    }


def _settings(
    fields: dict[str, Any], definitions: dict[str, Any], vocabulary: Mapping[str, Mapping[str, Described]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a study, and those that a variant may change: there, options alone are enough."""
    fields["vary"]["uniqueItems"] = True
    of_the_study = {
        "probe": _probe(fields["probe"], definitions, sorted(vocabulary["probe"])),
        "evaluate": _ways(),
        "test_sets": _test_sets(vocabulary, definitions),
    }
    whole: dict[str, Any] = {}
    partial: dict[str, Any] = {}
    for key, schema in (fields | of_the_study).items():
        if key in CHOICES:
            whole[key] = _choice(vocabulary[key], definitions, key)
            partial[key] = _choice(vocabulary[key], definitions, key, partial=True)
        else:
            whole[key] = _short_forms(key, schema)
            if key not in (*of_the_study, "vary"):
                partial[key] = whole[key]
    return whole, partial


def _test_sets(
    vocabulary: Mapping[str, Mapping[str, Described]], definitions: dict[str, Any]
) -> dict[str, Any]:
    """By name: a corruption, or a data set."""
    corruption = _choice(vocabulary["corruption"], definitions, "corruption")
    dataset = _choice(vocabulary["dataset"], definitions, "dataset")
    forms = [
        *corruption["anyOf"],
        *(
            {"type": "object", "required": [key], "additionalProperties": False, "properties": {key: form}}
            for key, form in (("corruption", corruption), ("dataset", dataset))
        ),
    ]
    return {
        "description": Settings.model_fields["test_sets"].description,
        "anyOf": [
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": MOST_SETS,
                "propertyNames": {"pattern": f"^{NAME.pattern}$"},
                "additionalProperties": {"anyOf": forms},
            },
            {"type": "null"},
        ],
    }


def _ways() -> dict[str, Any]:
    """A way of inference by its name, or with its options."""
    fields = Inference.model_json_schema()["properties"]
    options = [
        {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": {"const": name}, **{key: fields[key] for key in own}},
        }
        for name, own in OPTIONS.items()
    ]
    way = {"anyOf": [{"enum": list(OPTIONS)}, *options]}
    description = Settings.model_fields["evaluate"].description
    return {
        "description": description,
        "anyOf": [way, {"type": "array", "minItems": 1, "items": way}, {"type": "null"}],
    }


def _probe(schema: dict[str, Any], definitions: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """`probe: true` means the defaults; the measures are the registered ones, each once."""
    keys = definitions["Probe"]["properties"]
    keys["what"]["items"] = {"enum": list(names)}
    for key in ("at", "what", "layers"):
        for form in keys[key].get("anyOf", [keys[key]]):
            if form.get("type") == "array":
                form["uniqueItems"] = True
    return {**schema, "anyOf": [*schema["anyOf"], {"type": "boolean"}]}


def _short_forms(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    """`init: he` is `init: {name: he}`; where null is allowed, `none` means it."""
    if key == "batches":
        return {"anyOf": [schema, {"enum": ["none", *_NO_WORD]}]}
    section = SECTIONS.get(key)
    if section and "name" in section.model_fields:
        return {"anyOf": [schema, section.model_json_schema()["properties"]["name"]]}
    if is_optional_number(Settings.model_fields[key].annotation):
        return or_a_word_for_none(schema)
    return schema


def _choice(
    entries: Mapping[str, Described], definitions: dict[str, Any], key: str, partial: bool = False
) -> dict[str, Any]:
    """A name alone, or a mapping with that name and its options; partial: nothing is required."""
    names = sorted(entries)
    nothing = [*(_NO_WORD if key in CAN_BE_NONE else []), *([AUTO] if key in OPEN else [])]
    forms: list[dict[str, Any]] = [{"enum": [*names, *nothing]}]
    for name in names:
        options = entries[name].schema()
        definitions.update(options.pop("$defs", {}))
        # where the name is the section's own default, its options alone are enough
        needed = [] if key in OPEN or name == DEFAULT_CHOICES.get(key) else ["name"]
        other = _NO_WORD if key in CAN_BE_NONE and name == "none" else []
        which = {"enum": [name, *other]} if other else {"const": name}
        forms.append(
            {
                "type": "object",
                "description": entries[name].summary,
                "required": [] if partial else [*needed, *options.get("required", [])],
                "additionalProperties": False,
                "properties": {"name": which, **options["properties"]},
            }
        )
    if key == "augment":
        forms.append(_list_of(names, definitions))
    return {"anyOf": forms}


def _list_of(names: Sequence[str], definitions: dict[str, Any]) -> dict[str, Any]:
    """A sequence of augmentations: names, or names with options."""
    known = {"enum": [name for name in names if name not in (SEQUENCE, "none")]}
    step = {"type": "object", "required": ["name"], "properties": {"name": known}}
    definitions["AugmentationStep"] = {"anyOf": [known, step]}
    return {"type": "array", "items": {"$ref": "#/$defs/AugmentationStep"}}
