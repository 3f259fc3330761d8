"""Sweeps: lists, keys that follow others, settings one by one, and keys that not every variant has."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.study import Study, Vocabulary, load_study, resolved, to_yaml
from bnbench.study.arithmetic import read_formula

Write = Callable[..., Path]

MINIMAL = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 1e-2}\n"


def load(write_study: Write, vocabulary: Vocabulary, text: str, *overrides: str) -> Study:
    return load_study(write_study(MINIMAL + text + "\n"), overrides, vocabulary)


def refused(write_study: Write, vocabulary: Vocabulary, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(write_study, vocabulary, text, *overrides)
    return str(caught.value)


def settings_of(study: Study) -> list[tuple[str, dict[str, object]]]:
    return [(cell.variant, dict(cell.setting)) for cell in study.cells]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1 * batch_size / 128", 0.025),
        ("batch_size", 32.0),
        ("-(batch_size + 1) ** 2 / 3", -363.0),
        ("1e-3 * optimizer.lr", 5e-4),
        ("model.hidden.0 - 2", 62.0),
        ("2 ** -batch_size", 2.0**-32),
    ],
)
def test_arithmetic(text: str, value: float) -> None:
    numbers = {"batch_size": 32, "optimizer.lr": 0.5, "model.hidden.0": 64}
    assert read_formula(text).value(numbers.__getitem__) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3 * 4",
        "fast",
        "__import__('os')",
        "a.b()",
        "a if b else c",
        "a[0]",
        "a or b",
        "'x' * a",
        "a // 2",
        "a % 2",
        "1j * a",
        "a; b",
        "lambda: a",
        "(a := 3)",
        "a" * 300,
        "(" * 150 + "a" + ")" * 150,
    ],
)
def test_what_is_no_arithmetic(text: str, write_study: Write, vocabulary: Vocabulary) -> None:
    if text == "fast":  # the name of a key, for all that the grammar knows
        told = refused(write_study, vocabulary, f"sweep: {{batch_size: [8], optimizer.lr: {text}}}")
        assert "there is no number at fast" in told
        return
    with pytest.raises(ValueError, match=r"arithmetic|can be in it|no other key|longer"):
        read_formula(text)


@pytest.mark.parametrize(
    "text", ["a / 0", "9 ** 9 ** 9 * a", "(0 - 1) ** 0.5 * a", "1e999 * a", "10.0 ** 400 * a"]
)
def test_arithmetic_without_a_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"has no value|is not a number"):
        read_formula(text).value(lambda key: 1.0)


def test_a_key_that_follows_another(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "sweep: {batch_size: [32, 64], optimizer.lr: 0.1 * batch_size / 128, epochs: 128 / batch_size}"
    study = load(write_study, vocabulary, text)
    assert settings_of(study) == [
        ("none", {"batch_size": 32, "optimizer.lr": 0.025, "epochs": 4}),
        ("none", {"batch_size": 64, "optimizer.lr": 0.05, "epochs": 2}),
    ]
    assert [cell.settings.optimizer.options["lr"] for cell in study.cells] == [0.025, 0.05]
    assert [cell.settings.epochs for cell in study.cells] == [4, 2]


def test_a_key_may_follow_what_the_variant_has(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "variants: {a: {batch_size: 32}, b: {batch_size: 64, norm: batch}}\n"
    study = load(write_study, vocabulary, f"{text}sweep: {{optimizer.lr: 0.1 * batch_size / model.hidden.0}}")
    assert [cell.settings.optimizer.options["lr"] for cell in study.cells] == [0.05, 0.1]


def test_settings_one_by_one(write_study: Write, vocabulary: Vocabulary) -> None:
    rows = "sweep: [{batch_size: 32, optimizer.lr: 0.1}, {batch_size: 64, optimizer: {lr: 0.3}}]"
    study = load(write_study, vocabulary, rows.replace("optimizer: {lr: 0.3}", "optimizer.lr: 0.3"))
    assert settings_of(study) == [
        ("none", {"batch_size": 32, "optimizer.lr": 0.1}),
        ("none", {"batch_size": 64, "optimizer.lr": 0.3}),
    ]


def test_a_variant_without_the_key_trains_once(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "variants: {none, batch, ghost}\nsweep: {norm.ghost_size: [8, 16], batch_size: [32, 64]}"
    found = settings_of(load(write_study, vocabulary, text))
    sizes = [{"batch_size": 32}, {"batch_size": 64}]
    assert [setting for name, setting in found if name == "none"] == sizes
    assert [setting for name, setting in found if name == "batch"] == sizes
    assert [setting for name, setting in found if name == "ghost"] == [
        {"norm.ghost_size": ghost, **size} for ghost in (8, 16) for size in sizes
    ]


def test_nor_does_a_name_that_the_sweep_sets(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "sweep: {norm: [none, ghost], norm.ghost_size: [8, 16]}"
    assert [setting for _, setting in settings_of(load(write_study, vocabulary, text))] == [
        {"norm": "none"},
        {"norm": "ghost", "norm.ghost_size": 8},
        {"norm": "ghost", "norm.ghost_size": 16},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sweep: {norm.ghost_sizes: [8]}\nvariants: {none, ghost}",
            'in norm ghost. Did you mean "ghost_size"?',
        ),
        ("sweep: {optimizer.lr: [0.1, 1e-1]}", "sweep.optimizer.lr: [0.1, 0.1] repeats a value: 0.1"),
        ("sweep: {optimizer.lr: [1, 1.0]}", "gives none the same runs as {'optimizer.lr': 1}"),
        ("sweep: {norm: [none, no]}", "gives none the same runs as {'norm': 'none'}"),
        ("sweep: {optimizer.lr: [0.1], optimizer: {lr: [0.2]}}", "sweep.optimizer.lr stands there twice"),
        ("sweep: [{epochs: 1}, {epochs: 1}]", "sweep.1: {'epochs': 1} repeats a setting"),
        ("sweep: [{epochs: 1}, {batch_size: 8}]", "every setting has the same keys; here batch_size, epochs"),
        ("sweep: [{epochs: 1}, 3]", "sweep.1: 3 is not a setting"),
        ("sweep: [{epochs: 1}, {}]", "sweep.1: {} is not a setting"),
        ("sweep: {epochs: []}", "sweep.epochs: [] is not a list with values in it"),
        ("sweep: {epochs: 3}", "sweep.epochs: 3 is not a list with values in it"),
        ("sweep: {norm: batch}", "there is no number at batch"),
        ("sweep: {epochs: [1], batch_size: 2 * epoch}", 'there is no number at epoch. Did you mean "epochs"'),
        ("sweep: {epochs: 2 * batch_size, batch_size: 2 * epochs}", "follow each other in a circle"),
        ("sweep: {epochs: [1], batch_size: 3 / 2 * epochs}", "batch_size: 1.5 is wrong"),
        ("sweep: {seeds: [1, 2]}", "seeds belongs to the study"),
        ("sweep: {schedule.warmup_epochs: [1, 9]}", "schedule.warmup_epochs: 9 with epochs: 5"),
    ],
)
def test_a_sweep_that_has_no_meaning(
    text: str, message: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    told = refused(write_study, vocabulary, text)
    assert message in told
    assert "study.yaml:4" in told


@pytest.mark.parametrize(
    "text",
    [
        "sweep: {optimizer.lr: [0.1, 1], batch_size: [8, 16]}",
        "sweep: {batch_size: [32, 64], optimizer.lr: 0.1 * batch_size / 128}",
        "sweep: [{batch_size: 32, optimizer.lr: 0.1}, {batch_size: 64, optimizer.lr: 0.2}]",
        "variants: {none, batch, ghost}\nsweep: {norm.ghost_size: [8, 16]}",
        "sweep: {norm: [none, {name: batch, eps: 0.1}], model.hidden: [[8], [8, 8]]}",
        "sweep: {dataset: [digits, {name: npz, path: a/b.npz}], epochs: [1, 2]}",
        "variants: {adam: {optimizer: {name: adam, lr: 1}}, sgd: {}}\nsweep: {optimizer.lr: [0.1, 0.2]}",
    ],
)
def test_it_is_kept_and_read_back_from_anywhere(
    text: str, write_study: Write, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    study = load(write_study, vocabulary, text)
    elsewhere = tmp_path / "results" / "deep"
    elsewhere.mkdir(parents=True)
    (elsewhere / "study.yaml").write_text(to_yaml(resolved(study, elsewhere)))
    again = load_study(elsewhere / "study.yaml", [], vocabulary)
    assert (again.cells, again.variants, again.sweep) == (study.cells, study.variants, study.sweep)


def test_a_path_on_the_command_line_is_relative_to_where_it_is_typed(
    write_study: Write, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = "dataset: {name: npz, path: ~/x.npz}\nmodel: mlp\noptimizer: {name: sgd, lr: 1}\n"
    study = load_study(write_study(text), ["sweep.dataset.path=[a.npz, ~/b.npz]"], vocabulary)
    assert study.variants["none"].dataset.options["path"] == str(tmp_path / "x.npz")
    paths = [cell.settings.dataset.options["path"] for cell in study.cells]
    assert paths == [str(Path.cwd() / "a.npz"), str(tmp_path / "b.npz")]
    assert [cell.setting["dataset.path"] for cell in study.cells] == paths


def test_what_is_too_large_is_refused_at_once(write_study: Write, vocabulary: Vocabulary) -> None:
    numbers = ", ".join(map(str, range(1, 1001)))
    bombs = {
        f"sweep: {{epochs: [{numbers}], batch_size: [{numbers}]}}": "1,000,000 settings of 1 variants: a study has",
        "seeds: 60000": "seeds: 60000: a study has 1 to 10,000 seeds",
        f"seeds: 10000\nsweep: {{epochs: [{numbers}]}}": "1,000 cells x 10,000 seeds are 10,000,000 runs",
        "epochs: 1000001": "epochs: 1000001 is wrong: it should be less than or equal to 1000000",
    }
    for text, message in bombs.items():
        start = time.process_time()
        assert message in refused(write_study, vocabulary, text)
        assert time.process_time() - start < 5


def test_many_seeds_are_checked_in_no_time(write_study: Write, vocabulary: Vocabulary) -> None:
    start = time.process_time()
    assert len(load(write_study, vocabulary, "seeds: 10000").seeds) == 10_000
    assert time.process_time() - start < 1
