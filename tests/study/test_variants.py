"""What a variant means that is written shortly, and which two are one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.study import Study, Vocabulary, load_study, load_variant

Write = Callable[..., Path]

MINIMAL = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 1e-2}\n"


def load(write_study: Write, vocabulary: Vocabulary, text: str, *overrides: str) -> Study:
    return load_study(write_study(MINIMAL + text + "\n"), overrides, vocabulary)


def refused(write_study: Write, vocabulary: Vocabulary, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write_study, vocabulary, text, *overrides)
    return [str(mistake).rpartition("study.yaml:")[2] for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    "text",
    [
        "variants: {none, batch, layer}",
        "variants: {none: , batch: , layer: }",
        "variants: {none: null, batch: ~, layer: }",
        "variants: !!set {none, batch, layer}",
        "variants: [none, batch, layer]",
        "variants: [no, batch, layer]",
        "variants: [~, batch, layer]",
        "variants: {none: {norm: off}, batch: , layer: {norm: {name: layer}}}",
    ],
)
def test_a_name_alone_is_a_normalizer(text: str, write_study: Write, vocabulary: Vocabulary) -> None:
    study = load(write_study, vocabulary, text)
    assert {name: settings.norm.name for name, settings in study.variants.items()} == {
        "none": "none",
        "batch": "batch",
        "layer": "layer",
    }


def test_a_name_alone_may_get_more_on_the_command_line(write_study: Write, vocabulary: Vocabulary) -> None:
    for text in ("variants: {none, batch}", "variants: [none, batch]"):
        study = load(write_study, vocabulary, text, "variants.batch.norm.eps=0.5", "variants.layer=")
        assert study.variants["batch"].norm.options["eps"] == 0.5
        assert study.variants["layer"].norm.name == "layer"


def test_a_variant_of_the_command_line_alone(write_study: Write, vocabulary: Vocabulary) -> None:
    study = load(
        write_study,
        vocabulary,
        "variants: {none, mine}",
        "variants.layer.norm=layer",
        "variants.mine.norm=rms",
    )
    assert [settings.norm.name for settings in study.variants.values()] == ["none", "rms", "layer"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "variants: {none, bathc}",
            'variants.bathc has no value, and no norm is called "bathc". Did you mean "batch"? '
            "Fix: bathc: {norm: batch}, or bathc: {} for the study as it is.",
        ),
        (
            "variants: {none, mine}",
            'variants.mine has no value, and no norm is called "mine". '
            "Fix: mine: {norm: batch}, or mine: {} for the study as it is.",
        ),
        (
            "norm: batch\nvariants: {none: , crop: {augment: crop_flip}}",
            "variants.none has no value, and two meanings. "
            "Fix: none: {norm: none}, or none: {} for the study as it is, whose norm is batch.",
        ),
        ("variants: [none, bathc]", "variants.1: 'bathc' is not the name of a norm. Did you mean \"batch\"?"),
        (
            "variants: [none, {batch: {norm: batch}}]",
            "variants.1: {'batch': {'norm': 'batch'}} is not the name",
        ),
        ("variants: [none, off]", "variants.1: none stands there twice"),
        ("variants: {none: , a: batch}", "variants.a: 'batch' is not a mapping. Fix: a: {norm: batch}."),
        ("variants: {none: , a: [norm]}", "variants.a: ['norm'] is not a mapping. Fix: a: {norm: batch}."),
        ("variants: {none: , a: true}", "variants.a: True is not a mapping."),
        ("variants: none", "variants is not a mapping of names to settings"),
        ("variants: {Batch: , batch: {epochs: 1}}", "variants Batch and batch differ in case alone"),
    ],
)
def test_what_has_no_meaning_is_refused(
    text: str, message: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    assert any(message in told for told in refused(write_study, vocabulary, text))


def test_one_variant_may_be_the_study_as_it_is(write_study: Write, vocabulary: Vocabulary) -> None:
    for empty in ("", "{}"):
        study = load(write_study, vocabulary, f"variants: {{torch: {empty}, keras: {{framework: keras}}}}")
        assert study.variants["torch"].framework == "torch"


@pytest.mark.parametrize(
    "text",
    [
        "variants: {a: {}, b: {}}",
        "variants: {a: {norm: none}, b: {norm: no}}",
        "variants: {a: {norm: ~}, b: {norm: 'off'}}",
        "variants: {a: {norm: batch}, b: {norm: {name: batch, eps: 1e-5}}}",
        "variants: {a: {norm: {name: batch, eps: 0.00001}}, b: {norm: batch, norm.eps: 1.0e-5}}",
        "variants: {a: {}, b: {optimizer.lr: 0.01}}",
        "variants: {a: {epochs: 5}, b: {epochs: 5.0}}",
        "variants: {a: {model.hidden: [64]}, b: {model: {name: mlp, activation: relu}}}",
        "variants: {a: {schedule: {name: step, milestones: [1, 3]}}, b: {schedule: {name: step, milestones: [3, 1]}}}",
        "variants: {a: {clip_norm: none}, b: {clip_norm: null}}",
        "variants: {a: {engine: stacked}, b: {engine: sequential}}",
        "variants: {a: {augment: none}, b: {augment: auto}}",
        "variants: {a: {init: torch}, b: {init: auto}}",
        "variants: {a: {}, b: {loss: cross_entropy}}",
        "variants: {a: {optimizer.lr: 1}, b: {optimizer.lr: 2}}\nsweep: {optimizer.lr: [0.1, 0.2]}",
        "variants: {a: {norm: batch}, b: {norm: layer}}\nsweep: {norm: [group, rms]}",
    ],
)
def test_two_variants_with_the_same_settings_are_refused(
    text: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    told = refused(write_study, vocabulary, text)
    assert len(told) == 1, told
    assert "variants a and b have the same settings" in told[0]
    assert "or leave one of them out" in told[0]


def test_a_plugin_that_takes_equal_names_is_not_confused_with_options(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    study = load(write_study, vocabulary, "variants: {a: {norm: batch}, b: {norm: batch_custom}}")
    assert len(study.cells) == 2


def test_a_variant_that_is_called_as_a_norm_has_it(write_study: Write, vocabulary: Vocabulary) -> None:
    told = refused(write_study, vocabulary, "variants: {batch: {}, layer: {norm: layer}}")
    assert told == [
        "4: variants.batch: {} is the study as it is, whose norm is none. Fix: batch: {norm: batch}, or another name."
    ]
    study = load(write_study, vocabulary, "variants: {batch: {norm: layer}, none: {norm: none}}")
    assert study.warnings == ("the variant batch has norm: layer, though it is called as the norm batch is.",)
    study = load(write_study, vocabulary, "norm: batch\nvariants: {none: {}, batch: {batch_size: 64}}")
    assert not study.warnings  # no norms are compared


def test_training_one_variant_looks_at_that_one_alone(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(MINIMAL + "variants: {none, bathc: , a: {}, b: {}}\n")
    assert load_variant(path, "none", [], vocabulary).variants["none"].norm.name == "none"
    with pytest.raises(ConfigError, match=r"variants.bathc has no value"):
        load_variant(path, "bathc", [], vocabulary)
    with pytest.raises(ConfigError, match='unknown variant "c"'):
        load_variant(path, "c", [], vocabulary)


def test_keys_for_anchors_are_no_settings(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "x-a: &a {norm: batch}\nx-anything: [1, {b: 2}]\nvariants: {none: {}, b: *a}"
    assert load(write_study, vocabulary, text, "x-b=3").variants["b"].norm.name == "batch"
    assert 'unknown key "x-a"' in refused(write_study, vocabulary, "variants: {a: {x-a: 1}}")[0]
