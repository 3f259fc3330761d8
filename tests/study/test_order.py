"""Keys have no order, and however a setting is written, it is one setting."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.study import Settings, Vocabulary, load_study, load_variant

Write = Callable[..., Path]

MINIMAL = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 1e-2}\n"

#: Options of each section, and the name that they belong to, where the study has another one.
SECTIONS = [
    ("dataset: npz", "dataset.path: /x.npz"),
    ("model: cnn", "model.channels: [4]"),
    ("norm: batch", "norm.eps: 0.01"),
    ("optimizer: adam", "optimizer.lr: 0.3"),
    ("schedule: cosine", "schedule.warmup_epochs: 0.5"),
    ("loss: double_softmax", "loss.label_smoothing: 0.1"),
    ("init: he", "init.scale: 2.0"),
    ("validation: {fraction: 0.3}", "validation.split_seed: 4"),
]


def nested(name: str, option: str) -> str:
    """`norm: batch` and `norm.eps: 0.01` in one mapping."""
    section, _, value = option.partition(".")
    key = name.partition(": ")[2]
    given = key.strip("{}") if "{" in key else f"name: {key}"
    return f"{section}: {{{value}, {given}}}"


def words(line: str) -> str:
    return line.replace(": ", "=", 1)


def only(path: Path, vocabulary: Vocabulary, *overrides: str, variant: str | None = None) -> Settings:
    study = load_study(path, overrides, vocabulary)
    return study.variants[variant or next(iter(study.variants))]


@pytest.mark.parametrize(("name", "option"), SECTIONS, ids=lambda text: text.partition(":")[0])
def test_a_name_and_its_options_in_any_order_and_any_place(
    name: str, option: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    section = name.partition(":")[0]
    others = "".join(line + "\n" for line in MINIMAL.splitlines() if not line.startswith(f"{section}:"))
    plain = write_study(MINIMAL, "plain.yaml")
    found = [only(write_study(f"{others}{nested(name, option)}\n"), vocabulary)]
    for lines in itertools.permutations([name, option]):
        both = "\n".join(lines)
        found.append(only(write_study(f"{others}{both}\n"), vocabulary))
        found.append(only(plain, vocabulary, *map(words, lines)))
        flow = ", ".join(lines)
        found.append(only(write_study(f"{MINIMAL}variants: {{a: {{{flow}}}}}\n"), vocabulary))
        merged = f"x-shared: &s {{{lines[0]}}}\n{MINIMAL}variants: {{a: {{<<: *s, {lines[1]}}}}}\n"
        found.append(only(write_study(merged), vocabulary))
        changed = [f"variants.a.{words(line)}" for line in lines]
        found.append(only(write_study(f"{MINIMAL}variants: {{a: {{}}}}\n"), vocabulary, *changed))
        found.append(load_variant(plain, None, [*map(words, lines)], vocabulary).cells[0].settings)
        swept = ", ".join(f"{line.replace(': ', ': [', 1)}]" for line in lines)
        found.append(
            load_study(write_study(f"{MINIMAL}sweep: {{{swept}}}\n"), [], vocabulary).cells[0].settings
        )
    assert [settings for settings in found if settings != found[0]] == []
    key, _, value = option.partition(": ")
    kept = found[0].model_dump(mode="json")[section]
    assert str(kept.get("options", kept)[key.partition(".")[2]]) == value


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("optimizer.lr: 0.01", True),
        ("optimizer.lr: 1.0e-2", True),
        ("optimizer.lr: 0.3", False),
        ("optimizer.name: sgd", True),
        ("optimizer.name: adam", False),
    ],
)
def test_one_setting_twice_is_one_value_or_a_mistake(
    text: str, same: bool, write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(f"{MINIMAL}{text}\n")
    if same:
        assert only(path, vocabulary) == only(write_study(MINIMAL), vocabulary)
        return
    with pytest.raises(ConfigError, match=r":4: optimizer\..* but optimizer.*:3. Fix: leave one of them out"):
        load_study(path, [], vocabulary)


def test_an_override_twice_is_one_value_or_a_mistake(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(MINIMAL)
    assert only(path, vocabulary, "epochs=3", "epochs=3").epochs == 3
    for pair in itertools.permutations(["optimizer.lr=1", "optimizer={name: sgd, lr: 2}"]):
        with pytest.raises(
            ConfigError, match=r"command line: optimizer.*optimizer.lr: [12], but optimizer.lr: [12]"
        ):
            load_study(path, pair, vocabulary)
    with pytest.raises(ConfigError, match="command line: epochs=4: epochs is given twice: 3 and 4"):
        load_study(path, ["epochs=3", "epochs=4"], vocabulary)


def test_merge_keys_merge_as_levels_do(write_study: Write, vocabulary: Vocabulary) -> None:
    text = f"""
x-batch: &batch {{norm: {{name: batch, eps: 0.5, momentum: 0.3}}, epochs: 7}}
x-fast: &fast {{epochs: 2, seeds: 3}}
<<: *fast
{MINIMAL}
variants:
  dotted: {{<<: *batch, norm.eps: 0.25}}
  nested: {{<<: *batch, norm: {{eps: 0.75}}}}
  both: {{<<: [*batch, {{epochs: 9, batch_size: 8}}]}}
  other: {{<<: *batch, norm: layer}}
"""
    study = load_study(write_study(text), [], vocabulary)
    norms = {name: settings.norm.options for name, settings in study.variants.items()}
    assert [norms[name]["eps"] for name in ("dotted", "nested", "both")] == [0.25, 0.75, 0.5]
    assert [norms[name]["momentum"] for name in ("dotted", "nested")] == [0.3, 0.3]
    assert (study.variants["both"].epochs, study.variants["both"].batch_size) == (7, 8)
    assert study.variants["other"].norm.name == "layer"
    assert study.seeds == (0, 1, 2)


def test_elements_of_lists(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(f"{MINIMAL}model.hidden: [64, 32]\ntarget: [{{metric: val_accuracy, value: 0.9}}]\n")
    assert only(path, vocabulary, "model.hidden.1=8").model.options["hidden"] == [64, 8]
    assert load_study(path, ["target.0.value=0.8"], vocabulary).targets[0].value == 0.8
    assert only(write_study(MINIMAL, "plain.yaml"), vocabulary, "model.hidden.0=32").model.options[
        "hidden"
    ] == [32]
    for word, message in {
        "model.hidden.2=8": "command line: model.hidden.2=8: model.hidden.2: there is no element 2 in [64, 32]",
        "target.1.value=1": "command line: target.1.value=1: target.1.value: there is no element 1 in [{",
        "model.hidden.x=8": "command line: model.hidden.x=8: model.hidden.x: there is no element x",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load_study(path, [word], vocabulary)
        assert str(caught.value).startswith(message)


def test_a_variant_whose_name_has_dots(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(f"{MINIMAL}variants: {{a: {{}}, a.b: {{norm: batch}}}}\n")
    study = load_study(path, ["variants.a.b.norm.eps=0.5", "variants.a.epochs=2"], vocabulary)
    assert study.variants["a.b"].norm.options["eps"] == 0.5
    assert (study.variants["a"].epochs, study.variants["a.b"].epochs) == (2, 5)
    study = load_study(path, ["variants.c.d.norm=layer"], vocabulary)
    assert study.variants["c.d"].norm.name == "layer"
    with pytest.raises(
        ConfigError, match=r"variants.q.r: no variant of the study is meant by q.r. Known: a, a.b"
    ):
        load_study(path, ["variants.q.r=3"], vocabulary)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("norm={name: layr}", 'command line: norm={name: layr}: unknown norm "layr"'),
        ("optimizer.lr=fast", "command line: optimizer.lr=fast: optimizer.lr: 'fast' is wrong"),
        ("optimizer={lr: 0}", "command line: optimizer={lr: 0}: optimizer.lr: 0 is wrong"),
        ("seeds=0", "command line: seeds=0: seeds: 0"),
        (
            "target={metric: val_acc, value: 1}",
            "command line: target={metric: val_acc, value: 1}: unknown metric",
        ),
        ("target.value=high", "command line: target.value=high: target.value: 'high' is not a number"),
        ("variants.b.norm=layr", 'command line: variants.b.norm=layr: unknown norm "layr"'),
        ("variants.b={norm: layr}", 'command line: variants.b={norm: layr}: unknown norm "layr"'),
        (
            "sweep={optimizer.lr: [0.1, x]}",
            "command line: sweep={optimizer.lr: [0.1, x]}: optimizer.lr: 'x' is",
        ),
        ("baseline=nome", 'command line: baseline=nome: unknown variant "nome"'),
        ("epochs=1", "command line: epochs=1: schedule.warmup_epochs: 2 with epochs: 1"),
        ("norm=[", "command line: norm=[: not valid YAML"),
    ],
)
def test_a_mistake_on_the_command_line_is_blamed_on_its_word(
    word: str, message: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    text = "variants: {none: {norm: none}, b: {schedule.warmup_epochs: 2}}\n"
    path = write_study(
        f"{MINIMAL}norm: {{name: batch}}\ntarget: {{metric: val_accuracy, value: 0.9}}\n{text}"
    )
    with pytest.raises(ConfigError) as caught:
        load_study(path, [word], vocabulary)
    assert [str(m) for m in caught.value.mistakes if str(m).startswith(message)], str(caught.value)
    assert "study.yaml" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "key", "value"), [("none", "clip_norm", None), ("off", "max_train_samples", None)]
)
def test_words_for_none(
    word: str, key: str, value: object, write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(f"{MINIMAL}clip_norm: 1\nmax_train_samples: 100\n")
    assert getattr(only(path, vocabulary, f"{key}={word}"), key) is value


def test_a_setting_that_every_variant_overrules_is_reported(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    text = "variants: {a: {norm: batch, epochs: 1}, b: {norm: layer, epochs: 2}}\n"
    study = load_study(write_study(f"{MINIMAL}epochs: 9\n{text}"), [], vocabulary)
    assert study.warnings[0].endswith(
        "study.yaml:4: epochs changes nothing: every variant sets epochs itself."
    )
    study = load_study(write_study(f"{MINIMAL}epochs: 9\n"), ["epochs=1"], vocabulary)
    assert not study.warnings  # the command line overrules it, as it should
    with pytest.raises(
        ConfigError, match=r"study.yaml:4: norm.eps changes nothing: .* its options go with its name"
    ):
        load_study(write_study(f"{MINIMAL}norm.eps: 0.1\n{text}"), [], vocabulary)
