"""Which key a mistake is blamed on, whether its fix works when it is pasted, and that checking takes linear time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnbench.base.errors import ConfigError
from bnbench.cli.app import app
from bnbench.study import Study, Vocabulary, load_study
from bnbench.study.cautions import step_cautions
from bnbench.study.names import name_fault

Write = Callable[..., Path]

MINIMAL = (
    "dataset: digits\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: sgd, lr: 0.1}\nepochs: 1\nseeds: 2\n"
)
PAIR = "variants: {none: {norm: none}, batch: {norm: batch}}\n"


def load(write_study: Write, vocabulary: Vocabulary, text: str, *overrides: str) -> Study:
    return load_study(write_study(MINIMAL + text), overrides, vocabulary)


def refused(write_study: Write, vocabulary: Vocabulary, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write_study, vocabulary, text, *overrides)
    return [str(mistake).rpartition("study.yaml:")[2] for mistake in caught.value.mistakes]


@pytest.mark.parametrize("norms", [("batch", "batch"), ("none", "no"), ("layer", "layer")])
def test_the_fix_for_equal_variants_works(
    norms: tuple[str, str], write_study: Write, vocabulary: Vocabulary
) -> None:
    first, second = norms
    (told,) = refused(
        write_study,
        vocabulary,
        f"variants: {{a: {{norm: {first}}}, b: {{norm: {second}}}, c: {{norm: rms}}}}",
    )
    fix = re.search(r"such as (b: {norm: \w+})", told)
    assert fix
    study = load(write_study, vocabulary, f"variants: {{a: {{norm: {first}}}, {fix[1]}, c: {{norm: rms}}}}")
    assert len({settings.norm.name for settings in study.variants.values()}) == 3


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (PAIR, "variants.batch.norm=none"),
        ("variants: {a: {}, b: {optimizer.lr: 0.2}}", "optimizer.lr=0.2"),
        (PAIR, "sweep={norm: [layer]}"),
        (PAIR, "seeds.max=4"),
        (PAIR, "sweep={model.hidden.5: [8, 16]}"),
    ],
)
def test_the_command_line_is_blamed_for_what_it_makes(
    text: str, word: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    told = refused(write_study, vocabulary, text, "epochs=2", word)
    assert all(message.startswith(f"command line: {word}: ") for message in told), told
    assert len(told) == 1 + (word == "seeds.max=4")


def test_a_sweep_that_makes_two_variants_equal_is_blamed(write_study: Write, vocabulary: Vocabulary) -> None:
    (told,) = refused(write_study, vocabulary, f"{PAIR}sweep: {{norm: [layer, rms]}}")
    assert told.startswith("7: variants none and batch have the same settings at {'norm': 'layer'}")
    assert "Fix: sweep what none and batch do not set themselves" in told


@pytest.mark.parametrize(
    "change",
    [
        "schedule: {name: step, milestones: [5]}",
        "schedule: {name: step, milestones: [0.5], gamma: 1}",
        "optimizer.decay_norm_and_bias: false",
    ],
)
def test_a_setting_without_effect_makes_no_other_variant(
    change: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    (told,) = refused(write_study, vocabulary, f"variants: {{a: {{}}, b: {{{change}}}}}")
    assert "variants a and b have the same settings" in told


def test_a_setting_with_effect_does(write_study: Write, vocabulary: Vocabulary) -> None:
    for change in (
        "schedule: {name: step, milestones: [0.5]}",
        "schedule: {name: step, milestones: [5], warmup_epochs: 0.5}",
        "optimizer: {name: sgd, lr: 0.1, weight_decay: 1e-4}",
    ):
        assert len(load(write_study, vocabulary, f"variants: {{a: {{}}, b: {{{change}}}}}").cells) == 2


@pytest.mark.parametrize("name", ["con", "CON.x", "lpt1.txt", "COM¹"])
def test_the_fix_for_a_name_of_windows_works(name: str) -> None:
    fix = re.search(r"such as (\S+)$", name_fault(name))
    assert fix
    assert not name_fault(fix[1])


def test_a_formula_gives_whole_numbers(write_study: Write, vocabulary: Vocabulary) -> None:
    sweep = "sweep: {optimizer.lr: [0.1, 0.2], batch_size: optimizer.lr ** -3}"
    study = load(write_study, vocabulary, PAIR + sweep)
    assert {cell.settings.batch_size for cell in study.cells} == {
        125,
        1000,
    }  # 0.2 ** -3 is 124.99999999999999


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            "schedule: {name: step, milestones: [0.99]}",
            "schedule.milestones: 0.99 comes after the last of 41 steps",
        ),
        ("schedule: {name: cosine, warmup_epochs: 0.99}", "only that one has the whole learning rate"),
        ("schedule: {name: cosine, warmup_epochs: 0.01}", "there is no warm-up"),
        ("schedule: {name: step, milestones: [0.97]}", ""),  # step 39.8: the last one is lower
        ("schedule: {name: cosine, warmup_epochs: 0.9}", ""),
    ],
)
def test_lengths_that_no_step_fits(
    change: str, found: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    settings = load(write_study, vocabulary, change).cells[0].settings
    told = list(step_cautions(settings, 41))
    assert len(told) == bool(found)
    assert found in "".join(told)


def test_check_warns_of_what_the_number_of_steps_makes(write_study: Write) -> None:
    study = write_study(f"{MINIMAL}{PAIR}evaluate_every: 1000\n")
    told = " ".join(CliRunner().invoke(app, ["check", str(study)]).output.split())
    assert "evaluate_every: 1000 is more than the 41 steps of the run" in told


def test_check_refuses_a_class_that_embedded_data_lacks(write_study: Write) -> None:
    words = ["check", str(write_study(MINIMAL + PAIR)), "primary=test_recall:11"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert 'unknown class "11"' in result.stderr


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "sweep: [" + ", ".join(f"{{optimizer.lr: {i + 1}}}" for i in range(15_000)) + "]",
            "15,000 settings",
        ),
        ("\n".join(f"k{i}: {i}" for i in range(30_000)), "more than 500 settings stand in one mapping"),
        ("model.hidden: [" + "8, " * 30_000 + "8]", "at most 1000"),
    ],
)
def test_much_is_refused_in_linear_time(
    text: str, what: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    start = time.process_time()
    base = text.startswith("model") and MINIMAL.replace("model: {name: mlp, hidden: [8]}", "model.name: mlp")
    with pytest.raises(ConfigError, match=what):
        load_study(write_study((base or MINIMAL) + text), [], vocabulary)
    assert time.process_time() - start < 10  # where it grew with the square: minutes


def test_what_is_missing_is_shown_where_it_goes(write_study: Write, vocabulary: Vocabulary) -> None:
    (told,) = refused(write_study, vocabulary, "", "optimizer=adam")
    assert told.endswith(
        "optimizer.lr is missing. Fix: give it with the name, as in optimizer: {name: ..., lr: ...}."
    )
    (told,) = refused(write_study, vocabulary, "", "model.hidden=8")
    assert told.endswith("or a list of layers, model.hidden: [8].")
    (told,) = refused(write_study, vocabulary, "", "model={name: cnn, channels: 8}")
    assert told.endswith("it should be a list, such as [8].")
