"""Whatever `check` accepts, a folder can hold and give back."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnbench.base.errors import ConfigError
from bnbench.results import ResultsFolder
from bnbench.study import Study, Vocabulary, load_study, name_fault, read_yaml, resolved, to_yaml
from bnbench.study.names import MAX_NAME, folder_name, twins
from bnbench.study.plan import make_plan

Write = Callable[..., Path]

MINIMAL = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 1e-2}\nseeds: 1\n"
WORDS = [
    "1e3",
    "null",
    "true",
    "no",
    "on",
    "2024-01-01",
    "0x10",
    "1_0",
    "1.5",
    "größe",
    "批归一化",
    "a.b",
    "x" * 100,
]


@pytest.mark.parametrize("name", WORDS)
def test_a_word_is_a_name_however_yaml_reads_it(
    name: str, write_study: Write, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    for how in (name, f'"{name}"'):
        if how == "null":
            continue  # a key without a value, as everywhere
        text = f"{MINIMAL}name: {how}\nvariants: {{none: {{}}, {how}: {{norm: batch}}}}\nbaseline: {how}\n"
        study = load_study(write_study(text), [], vocabulary)
        assert (study.name, list(study.variants)) == (name, ["none", name])
        assert study.baseline == ("none" if how == "null" else name)
        assert held(study, vocabulary, tmp_path / str(len(how))) == study
    assert load_study(write_study(MINIMAL), [f'name="{name}"'], vocabulary).name == name


def held(study: Study, vocabulary: Vocabulary, folder: Path) -> Study:
    """The study after its results folder was opened and its study.yaml read again."""
    results = ResultsFolder(folder)
    results.open_for(study, make_plan(study, lambda _: {}))
    cells = results.load().cells
    assert {cell.variant for cell in cells} == set(study.variants)
    assert [dict(cell.setting) for cell in cells] == [dict(cell.setting) for cell in study.cells]
    return replace(load_study(folder / "study.yaml", [], vocabulary), warnings=study.warnings)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "it is empty"),
        ("..", "it begins with '.'"),
        (".", "it begins with '.'"),
        ("-x", "it begins with '-'. Fix: begin with a letter or a digit, such as x"),
        ("\u0301a", "it begins with"),
        ("a.", "Windows drops the '.' at its end, such as a"),
        ("a/b", "'/' can't be in it. Fix: use letters, digits, '.', '_', '+', '-', such as a-b"),
        ("a\\b", "'\\\\' can't be in it"),
        ("a b", "' ' can't be in it"),
        ("a:b", "':' can't be in it"),
        ("a*", "'*' can't be in it"),
        ("con", "Windows keeps that name for a device"),
        ("NUL.txt", "Windows keeps that name for a device"),
        ("Com1", "Windows keeps that name for a device"),
        ("x" * 101, "101 bytes, and a folder's name has room for 100"),
        ("ö" * 51, "102 bytes, and a folder's name has room for 100"),
        ("a\u202eb", "'\\u202e' can't be in it"),
        ("a\u200bb", "'\\u200b' can't be in it"),
        (unicodedata.normalize("NFD", "größe"), "its accents are written apart"),
    ],
)
def test_a_name_that_a_folder_can_not_hold(
    name: str, said: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    assert said in name_fault(name)
    quoted = name.replace("\\", "\\\\")
    for text in (f'name: "{quoted}"\n', f'variants: {{none: {{}}, "{quoted}": {{norm: batch}}}}\n'):
        with pytest.raises(ConfigError) as caught:
            load_study(write_study(MINIMAL + text), [], vocabulary)
        assert said in str(caught.value)


def test_names_that_a_file_system_takes_for_one() -> None:
    assert twins(["a", "b"]) is None
    assert twins(["Batch", "none", "batch"]) == ("Batch", "batch")
    assert twins(["STRASSE", "straße"]) == ("STRASSE", "straße")


@given(st.text())
def test_every_file_name_becomes_a_name(stem: str) -> None:
    assert name_fault(folder_name(stem)) == ""


@given(st.text(max_size=30))
def test_every_text_is_read_back_as_it_was_written(text: str) -> None:
    try:
        read = read_yaml(to_yaml({"description": text, "norm": {"name": text}}), "s.yaml").data
    except ConfigError:
        assert any(unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co") for character in text)
        return
    assert read == {"description": text, "norm": {"name": text}}


NAMES = st.text(
    st.characters(categories=["L", "N", "Mn", "Pd", "Po"], include_characters="._+-"),
    min_size=1,
    max_size=110,
)
SEEDS = st.one_of(
    st.integers(-1, 20),
    st.lists(st.one_of(st.integers(-1, 2**64), st.floats()), min_size=1, max_size=3),
    st.sampled_from([1e1, True, "auto", 10_001, [2**63 - 1], [2**63]]),
)
RATES = st.lists(st.floats(1e-5, 10), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, variants=st.lists(NAMES, min_size=1, max_size=3, unique=True), seeds=SEEDS, rates=RATES)
def test_what_is_accepted_comes_back(
    name: str,
    variants: list[str],
    seeds: object,
    rates: list[float],
    vocabulary: Vocabulary,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("held")
    values = {
        "name": name,
        "dataset": "digits",
        "model": "mlp",
        "optimizer": {"name": "sgd", "lr": 0.1},
        "seeds": seeds,
        "variants": {variant: {"epochs": index + 1} for index, variant in enumerate(variants)},
        "sweep": {"optimizer.lr": rates},
    }
    (folder / "s.yaml").write_text(to_yaml(values), encoding="utf-8")
    try:
        study = load_study(folder / "s.yaml", [], vocabulary)
    except ConfigError:
        return
    assert study.name == name
    assert list(study.variants) == variants
    assert all(len(f"{variant}-{'0' * 12}".encode()) <= MAX_NAME + 13 for variant in variants)
    assert held(study, vocabulary, folder / "out") == study


def test_every_default_is_written_out_and_read_as_itself(vocabulary: Vocabulary, tmp_path: Path) -> None:
    for norm in vocabulary["norm"]:
        path = tmp_path / "s.yaml"
        path.write_text(f"{MINIMAL}norm: {norm}\n")
        study = load_study(path, [], vocabulary)
        path.write_text(to_yaml(resolved(study, tmp_path)))
        assert load_study(path, [], vocabulary) == study
