"""A study as a dict: the same study as the same YAML, the same mistakes, named by key."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bnbench.base.errors import ConfigError
from bnbench.study import Vocabulary, load_study, override_texts, resolved, to_yaml
from bnbench.study.overrides import ARGUMENT

BASE: dict[str, Any] = {
    "name": "mine",
    "dataset": "digits",
    "model": {"name": "mlp", "hidden": [8, 8]},
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "optimizer.lr": 0.1,
    "epochs": 1,
    "seeds": [0, 1, 2],
    "variants": {"none": {"norm": "none"}, "batch": {"norm": {"name": "batch", "eps": 1e-3}}},
}
STUDIES: dict[str, dict[str, Any]] = {
    "plain": BASE,
    "sweep": {**BASE, "sweep": {"optimizer.lr": [0.1, 1.0], "batch_size": [16, 32]}},
    "x keys": {**BASE, "x-notes": {"anything": [1, None]}},
    "a merge": {**BASE, "<<": {"batch_size": 16, "epochs": 9}},
    "variants as a list": {**BASE, "variants": ["none", "batch"]},
    "none as None": {**BASE, "variants": {"a": {"norm": None}, "b": {"norm": "batch"}}},
    "none as False": {**BASE, "variants": {"a": {"norm": False}, "b": {"norm": "batch"}}},
    "whole numbers as names": {**BASE, "variants": {1: {"norm": "none"}, 2: {"norm": "batch"}}, "baseline": 2},
    "a target": {
        **BASE, "target": {"metric": "val_accuracy", "value": 0.9}, "margin": {"metric": "test_loss", "value": 1},
    },
}  # fmt: skip


def _resolved(given: Any, vocabulary: Vocabulary, overrides: list[str] | None = None) -> str:
    return to_yaml(resolved(load_study(given, overrides or [], vocabulary, ARGUMENT), Path.cwd()))


@pytest.mark.parametrize("name", STUDIES)
def test_a_dict_is_the_same_study_as_its_file(
    name: str, write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    path = write_study(yaml.safe_dump(STUDIES[name], sort_keys=False), "mine.yaml")
    assert _resolved(STUDIES[name], vocabulary) == _resolved(path, vocabulary)


class Framework(enum.Enum):
    TORCH = "torch"


def test_tuples_paths_enums_and_numpy_are_the_values_that_they_hold(vocabulary: Vocabulary) -> None:
    same = {
        **BASE,
        "model": {"name": np.str_("mlp"), "hidden": (np.int64(8), 8)},
        "optimizer.lr": np.float64(0.1),
        "epochs": np.int32(1),
        "seeds": np.arange(3),
        "framework": Framework.TORCH,
    }
    assert _resolved(same, vocabulary) == _resolved(BASE, vocabulary)


def test_a_path_is_taken_as_its_text(tmp_path: Path, vocabulary: Vocabulary) -> None:
    digits = {**BASE, "dataset": {"name": "npz", "path": tmp_path / "d.npz"}}
    as_text = {**BASE, "dataset": {"name": "npz", "path": str(tmp_path / "d.npz")}}
    assert _resolved(digits, vocabulary) == _resolved(as_text, vocabulary)


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        ({"optimzer": "sgd"}, 'study["optimzer"]', 'Did you mean "optimizer"?'),
        ({"optimizer.lr": "fast"}, 'study["optimizer.lr"]', "fast"),
        ({"optimizer.lr": Fraction(1, 3)}, 'study["optimizer.lr"]', "a Fraction can't stand in a study"),
        ({"optimizer.lr": np.bool_(True)}, 'study["optimizer.lr"]', "a number is wanted, not true or false"),
        ({"epochs": True}, 'study["epochs"]', "epochs"),
        ({"epochs": -1}, 'study["epochs"]', "epochs"),
        ({"epochs": 10**30}, 'study["epochs"]', "31 digits is too large"),
        ({"model": {"hidden": {8, 9}}}, 'study["model"]["hidden"]', "Fix: a list, which has an order"),
        ({"variants": {"a": {"norm": Fraction}}}, 'study["variants"]["a"]["norm"]', "the class Fraction"),
        ({"description": b"text"}, 'study["description"]', "a bytes can't stand in a study"),
        ({3.5: 1}, "study[3.5]", "the key 3.5 is not text"),
        ({True: 1}, "study[True]", "the key True is not text"),
        ({"variants": {1: {}, "1": {}}}, 'study["variants"]["1"]', 'duplicate key "1"'),
        ({"name": "a\x1bb"}, 'study["name"]', "control character U+001B"),
        ({"<<": 3}, 'study["<<"]', "<< takes a dict"),
    ],
)
def test_a_mistake_names_the_key(
    change: dict[Any, Any], place: str, message: str, vocabulary: Vocabulary
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study({**BASE, **change}, [], vocabulary)
    mistakes = {mistake.place: mistake.message for mistake in caught.value.mistakes}
    assert message in mistakes[place]


def test_every_mistake_is_named_at_once(vocabulary: Vocabulary) -> None:
    wrong = {**BASE, "epochs": -1, "optimzer": "sgd", "batch_size": None}
    with pytest.raises(ConfigError) as caught:
        load_study(wrong, ["nosuch=1"], vocabulary, ARGUMENT)
    places = [mistake.place for mistake in caught.value.mistakes]
    assert len(places) == 4
    assert any(place.startswith("argument overrides") for place in places)


def test_a_dict_that_holds_itself_is_refused(vocabulary: Vocabulary) -> None:
    endless: dict[str, Any] = {}
    endless["variants"] = endless
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_study(endless, [], vocabulary)


def test_a_dict_is_left_as_it_is(vocabulary: Vocabulary) -> None:
    given = {**BASE, "variants": {"none": {"norm": "none"}}}
    before = yaml.safe_dump(given)
    load_study(given, ["variants.batch.norm=batch", "seeds=2"], vocabulary)
    assert yaml.safe_dump(given) == before


def test_an_empty_dict_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError, match="it is empty"):
        load_study({}, [], vocabulary)


VALUES = [
    0.1,
    1e-30,
    "1",
    "no",
    "a b",
    "x: y",
    "",
    "two\nlines",
    [1, [2]],
    {"name": "sgd"},
    True,
    None,
    (1, 2),
]


@pytest.mark.parametrize(("key", "value"), list(itertools.product(["optimizer.lr", "x-any"], VALUES)))
def test_overrides_of_a_dict_are_the_words_of_a_command_line(key: str, value: Any) -> None:
    from bnbench.study.yaml_source import read_value

    (text,) = override_texts({key: value})
    plain = list(value) if isinstance(value, tuple) else value
    assert text.startswith(f"{key}=")
    assert read_value(text.partition("=")[2], key) == plain


def test_overrides_as_a_dict_and_as_words_give_the_same_study(vocabulary: Vocabulary) -> None:
    words = override_texts({"optimizer.lr": np.float32(0.5), "variants.batch.norm.eps": 1e-5, "seeds": 4})
    assert words == ["optimizer.lr=0.5", "variants.batch.norm.eps=1.0e-05", "seeds=4"]
    same = ["optimizer.lr=0.5", "variants.batch.norm.eps=1e-5", "seeds=4"]
    assert _resolved(BASE, vocabulary, words) == _resolved(BASE, vocabulary, same)


@pytest.mark.parametrize("key", ["a=b", "", 3])
def test_an_override_without_a_key_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError, match="is not a key"):
        override_texts({key: 1})
