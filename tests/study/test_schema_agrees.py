"""The JSON Schema takes what `check` takes: short forms, words for none, names that are defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bnbench.base.errors import ConfigError
from bnbench.study import Vocabulary, json_schema, load_study
from bnbench.study.yaml_source import read_yaml

BASE = (
    "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\nvariants: {a: {batch_size: 16}, b: {}}\n"
)


@pytest.mark.parametrize(
    "text",
    [
        "norm: {name: no}",
        "norm: {name: ~}",
        "norm: {name: batch, momentum: none}",
        "norm: {name: batch, momentum: off}",
        "schedule: {warmup_epochs: 0.5}",
        "loss: {label_smoothing: 0.1}",
        "margin: ~",
        "clip_norm: none",
        "max_train_samples: off",
        "batches: none",
        "batches: {classes: none}",
        "clip: agc",
        "clip: none",
        "clip: {name: agc, ratio: 0.1}",
        "train: norm",
        "seeds: {auto: true, max: 12}",
        "sweep: {epochs: [1, 2], schedule.warmup_epochs: epochs / 10}",
    ],
)
def test_what_both_take(text: str, write_study: Callable[..., Path], vocabulary: Vocabulary) -> None:
    assert load_study(write_study(BASE + text), [], vocabulary)
    Draft202012Validator(json_schema(vocabulary)).validate(read_yaml(BASE + text, "study").data)


@pytest.mark.parametrize(
    "text",
    [
        "schedule: {milestones: [1]}",
        "norm: {eps: 1e-3}",
        "norm: {name: off, eps: 1}",
        "loss: {smooth: 1}",
        "batches: {groups: 2}",
        "batches: 2",
        "clip: norm",
        "train: none",
    ],
)
def test_what_neither_takes(text: str, write_study: Callable[..., Path], vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError):
        load_study(write_study(BASE + text), [], vocabulary)
    assert not Draft202012Validator(json_schema(vocabulary)).is_valid(read_yaml(BASE + text, "study").data)


@pytest.mark.parametrize(
    ("groups", "right"),
    [
        ("none", True),
        ("{gamma: {weight_decay: 0, lr_factor: 0.1}, biases: {lr_factor: 2}}", True),
        ("{gama: {weight_decay: 0}}", False),
        ("{gamma: {lr_factor: -1}}", False),
        ("{gamma: {lr: 1}}", False),
        ("gamma", False),
    ],
)
def test_both_agree_on_groups_of_the_optimizer(
    groups: str, right: bool, write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    text = BASE.replace("lr: 0.1}", f"lr: 0.1, groups: {groups}}}")
    valid = Draft202012Validator(json_schema(vocabulary)).is_valid(read_yaml(text, "study").data)
    assert valid is right
    if right:
        assert load_study(write_study(text), [], vocabulary)
    else:
        with pytest.raises(ConfigError):
            load_study(write_study(text), [], vocabulary)


@pytest.mark.parametrize(
    "text",
    [
        "max_train_samples: 0",
        "max_eval_samples: 0",
        "clip_norm: 0",
        "clip: {name: agc, ratio: 0}",
        "batches: {classes: 0}",
        "probe: {every: 0}",
        "probe: {samples: 1}",
        "evaluate: {name: precise, samples: 1}",
        "evaluate: {name: batch, size: 1}",
        "evaluate: {name: example_weighted, alpha: 1.5}",
        "optimizer: {groups: {gamma: {weight_decay: -1}}}",
    ],
)
def test_both_refuse_a_number_beyond_its_bound(
    text: str, write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    base = BASE.replace("optimizer: {name: sgd, lr: 0.1}\n", "") if text.startswith("optimizer") else BASE
    study = base + text.replace("{groups", "{name: sgd, lr: 0.1, groups")
    with pytest.raises(ConfigError):
        load_study(write_study(study), [], vocabulary)
    assert not Draft202012Validator(json_schema(vocabulary)).is_valid(read_yaml(study, "study").data)


#: Words with a schema, with a list of schemas, and with a schema for each name.
ONE, MANY = (
    {"items", "additionalProperties", "propertyNames", "not"},
    {"anyOf", "oneOf", "allOf", "prefixItems"},
)
NAMED = {"properties", "patternProperties", "$defs"}


def words_of(schema: Any) -> Iterator[str]:
    """Every word of a JSON Schema, without the names of its properties."""
    if not isinstance(schema, dict):
        return
    yield from schema
    inner = [schema[word] for word in ONE & set(schema)]
    inner += [form for word in MANY & set(schema) for form in schema[word]]
    inner += [form for word in NAMED & set(schema) for form in schema[word].values()]
    for form in inner:
        yield from words_of(form)


def test_the_schema_has_no_word_that_editors_ignore(vocabulary: Vocabulary) -> None:
    """Pydantic writes its own `ge` where a bound stands outside a validated type. Oracle: the published keywords."""
    notes = {"$schema", "title", "description", "default", "examples", "$defs"}
    known = {*Draft202012Validator.VALIDATORS, *notes}
    assert "minimum" in known

    assert set(words_of(json_schema(vocabulary))) <= known
