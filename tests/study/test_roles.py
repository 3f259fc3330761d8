"""`role: check`: read, written out again, and refused where it has no meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from bnbench.api.shipped import shipped_studies
from bnbench.base.errors import ConfigError
from bnbench.study import Vocabulary, json_schema, load_study, load_variant, resolved

STUDY = """
dataset: digits
model: mlp
optimizer: {{name: sgd, lr: 0.01}}
{more}
variants:
  none: {{norm: none}}
  custom: {custom}
  builtin: {{norm: batch}}
  other: {other}
"""
CHECK = "{norm: batch_custom, role: check, check_of: builtin}"


def path_of(folder: Path, custom: str = CHECK, other: str = "{norm: layer}", more: str = "") -> Path:
    path = folder / "study.yaml"
    path.write_text(STUDY.format(custom=custom, other=other, more=more), encoding="utf-8")
    return path


def mistakes_of(path: Path, vocabulary: Vocabulary, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_study(path, overrides, vocabulary)
    return [str(mistake).replace(str(path), path.name) for mistake in caught.value.mistakes]


def test_a_check_is_a_role_and_no_setting(tmp_path: Path, vocabulary: Vocabulary) -> None:
    study = load_study(path_of(tmp_path), [], vocabulary)
    assert study.checks == {"custom": "builtin"}
    plain = load_study(path_of(tmp_path, custom="{norm: batch_custom}"), [], vocabulary)
    assert plain.checks == {}
    assert plain.variants == study.variants  # no part of a run's identity
    assert load_study(path_of(tmp_path, "{norm: batch_custom, check_of: builtin}"), [], vocabulary) == study


def test_it_is_written_out_and_read_again(tmp_path: Path, vocabulary: Vocabulary) -> None:
    study = load_study(path_of(tmp_path), [], vocabulary)
    values = resolved(study, tmp_path)
    assert (values["variants"]["custom"]["role"], values["variants"]["custom"]["check_of"]) == (
        "check",
        "builtin",
    )
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert load_study(again, [], vocabulary).checks == study.checks
    Draft202012Validator(json_schema(vocabulary)).validate(yaml.safe_load(path_of(tmp_path).read_text()))


def test_on_the_command_line(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = path_of(tmp_path, custom="{norm: batch_custom}")
    words = ["variants.custom.role=check", "variants.custom.check_of=builtin"]
    assert load_study(path, words, vocabulary).checks == {"custom": "builtin"}
    assert load_study(path_of(tmp_path), ["variants.custom.check_of=other"], vocabulary).checks == {
        "custom": "other"
    }


def test_alone_it_trains_as_any_variant(tmp_path: Path, vocabulary: Vocabulary) -> None:
    assert load_variant(path_of(tmp_path), "custom", [], vocabulary).checks == {}


@pytest.mark.parametrize(
    ("custom", "other", "more", "message"),
    [
        ("{norm: batch_custom, role: check}", "{norm: layer}", "",
         "study.yaml:8: variants.custom: role: check does not say which variant it checks. Fix: check_of: NAME"),
        ("{norm: batch_custom, role: checks, check_of: builtin}", "{norm: layer}", "",
         "variants.custom.role: 'checks' is not known. Known: check"),
        ("{norm: batch_custom, role: check, check_of: bultin}", "{norm: layer}", "",
         'variants.custom.check_of: unknown variant "bultin". Did you mean "builtin"?'),
        ("{norm: batch_custom, role: check, check_of: custom}", "{norm: layer}", "",
         "variants.custom.check_of: a variant can't check itself."),
        (CHECK, "{norm: layer, role: check, check_of: custom}", "",
         "variants.other.check_of: custom is a check itself. Fix: check_of: builtin."),
        (CHECK, "{norm: layer}", "baseline: custom",
         "baseline: custom is a check of builtin. Fix: baseline: builtin, or no role: check in custom."),
        ("{norm: batch_custom, role: [check], check_of: builtin}", "{norm: layer}", "", "['check'] is not a word"),
        ("{norm: batch_custom, role: check, check_of: {a: b}}", "{norm: layer}", "", "'b' is not a word"
         if False else "is not a word"),
        (CHECK, "{norm: layer}", "role: check", "role is a key of a variant, not of the study."),
    ],
    ids=["of nothing", "role", "unknown", "itself", "of a check", "baseline", "a list", "a mapping", "the study's"],
)  # fmt: skip
def test_what_is_refused(
    tmp_path: Path, vocabulary: Vocabulary, custom: str, other: str, more: str, message: str
) -> None:
    found = mistakes_of(path_of(tmp_path, custom, other, more), vocabulary)
    assert any(message in mistake for mistake in found), found


def test_the_first_variant_is_the_baseline_and_no_check(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\nvariants:\n"
        "  custom: {norm: batch_custom, check_of: batch}\n  batch: {norm: batch}\n"
    )
    assert any("baseline: custom is a check of batch" in mistake for mistake in mistakes_of(path, vocabulary))


def test_shipped_studies_declare_the_hand_written_layer_a_check(vocabulary: Vocabulary) -> None:
    for path in shipped_studies():
        study = load_study(path, [], vocabulary)
        norms = {settings.norm.name: name for name, settings in study.variants.items()}
        if {"batch_custom", "batch"} <= set(norms):
            assert study.checks == {norms["batch_custom"]: norms["batch"]}, path


def test_seeds_auto_has_nothing_to_decide_about_a_check(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\nseeds: auto\nvariants:\n"
        "  batch: {norm: batch}\n  custom: {norm: batch_custom, check_of: batch}\n"
    )
    assert any("nothing to compare it with" in mistake for mistake in mistakes_of(path, vocabulary))
