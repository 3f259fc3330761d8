"""The folder of a study's results: one question, one name. Oracle: the names as the documentation states them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbench.results.naming import MAX_BYTES, MAX_CHARACTERS, folder_name
from bnbench.study import Study, Vocabulary, load_study, load_variant

STUDY = """
name: s
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 2
seeds: 2
target: {metric: val_accuracy, value: 0.9}
variants: {a: {}, b: {norm: batch, optimizer.lr: 0.5}}
"""
HASH = r"-[0-9a-f]{8}"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(STUDY)
    return tmp_path / "s.yaml"


def name_of(study: Path, vocabulary: Vocabulary, *overrides: str) -> str:
    return folder_name(load_study(study, overrides, vocabulary))


PLAIN: dict[str, list[str]] = {
    "nothing": [],
    "seeds": ["seeds=10"],
    "a list of seeds": ["seeds=[3, 4]"],
    "seeds in parts": ["seeds={auto: true, max: 8}"],
    "an added variant": ["variants.c.norm=layer"],
    "an added variant with two keys": ["variants.c.norm=layer", "variants.c.optimizer.lr=0.2"],
    "all variants written again, and one more": [
        "variants={a: {}, b: {norm: batch, optimizer.lr: 0.5}, c: {norm: layer}}"
    ],
    "the study's own value": ["epochs=2"],
    "its own value, written otherwise": ["epochs=2.0", "optimizer.lr=1e-1", "model.hidden=[8]"],
    "its own choice": ["model=mlp"],
    "a default written out": ["batch_size=32", "clip_norm=none", "primary=test_accuracy"],
    "a variant's own value": ["variants.b.norm=batch", "variants.b.optimizer.lr=5e-1"],
    "a description": ["description=other words"],
    "a key of the user's": ["x-mine=1"],
    "its own target": ["target={value: 0.90, metric: val_accuracy}"],
    "its own baseline": ["baseline=a"],
}


@pytest.mark.parametrize("overrides", PLAIN.values(), ids=PLAIN.keys())
def test_what_stays_in_the_study_s_folder(overrides: list[str], study: Path, vocabulary: Vocabulary) -> None:
    assert name_of(study, vocabulary, *overrides) == "s"


CHANGED: dict[str, list[list[str]]] = {
    "s+epochs=20": [["epochs=20"], ["epochs=20.0"], ["epochs=20", "seeds=7"], ["epochs=2e1"]],
    "s+optimizer.lr=0.01": [["optimizer.lr=0.01"], ["optimizer.lr=1e-2"], ["optimizer={lr: 0.010}"]],
    "s+batch_size=64+epochs=20": [["epochs=20", "batch_size=64"], ["batch_size=64", "epochs=20"]],
    "s+optimizer=adam+optimizer.lr=0.02": [
        ["optimizer=adam", "optimizer.lr=0.02"],
        ["optimizer={name: adam, lr: 2e-2}"],
        ["optimizer.lr=0.02", "optimizer=adam", "variants.c.norm=layer"],
    ],
    "s+model.hidden=16,16": [["model.hidden=[16, 16]"], ["model={name: mlp, hidden: [16, 16]}"]],
    "s+model.hidden=16": [["model.hidden=[16]"], ["model.hidden.0=16"]],
    "s+variants.b.norm=layer": [["variants.b.norm=layer"], ["variants.b={norm: layer}"]],
    "s+variants.b.norm.eps=0.001": [["variants.b.norm.eps=1e-3"]],
    "s+epochs=9+variants.b.epochs=3": [["variants.b.epochs=3", "epochs=9"]],
    "s+variants.b.epochs=3": [["variants.b.epochs=3"], ["epochs=2", "variants.b.epochs=3"]],
    "s+sweep.optimizer.momentum=0,0.9": [
        ["sweep={optimizer.momentum: [0, 0.9]}"],
        ["sweep.optimizer.momentum=[0.0, 9e-1]"],
    ],
    "s+primary=test_loss": [["primary=test_loss"]],
    "s+baseline=b": [["baseline=b"]],
    "s+margin=test_accuracy,0.01": [["margin={metric: test_accuracy, value: 1e-2}"]],
    "s+clip_norm=1": [["clip_norm=1"], ["clip_norm=1.0"]],
    "s+init=he": [["init=he"], ["init={name: he}"], ["init.name=he"]],
    "s+vary=init": [["vary=[init]"]],
    "t": [["name=t"]],
    "t+epochs=3": [["name=t", "epochs=3"]],
}


@pytest.mark.parametrize(
    ("name", "overrides"), [(name, words) for name, ways in CHANGED.items() for words in ways]
)
def test_another_question_has_a_name_of_its_own(
    name: str, overrides: list[str], study: Path, vocabulary: Vocabulary
) -> None:
    assert name_of(study, vocabulary, *overrides) == name


HASHED: dict[str, list[str]] = {
    rf"s\+dataset=npz\+dataset\.path=data-x-y\.npz{HASH}": ["dataset={name: npz, path: /data/x y.npz}"],
    rf"s\+variants=a,[0-9a-f]{{8}}{HASH}": ["variants={a: {}}"],
    rf"s\+batch_size=64\+epochs=7\+evaluate_every=10\+init\.scale=2\+opti{HASH}": [
        "evaluate_every=10", "batch_size=64", "epochs=7", "optimizer.momentum=0.9", "init.scale=2",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "overrides"), HASHED.items())
def test_what_a_name_can_t_hold_leaves_a_hash(
    pattern: str, overrides: list[str], study: Path, vocabulary: Vocabulary
) -> None:
    assert re.fullmatch(pattern, name_of(study, vocabulary, *overrides))


def test_long_values_and_capitals_that_differ_have_different_names(
    study: Path, vocabulary: Vocabulary
) -> None:
    ways = (
        ["dataset={name: npz, path: /data/X.npz}"],
        ["dataset={name: npz, path: /data/x.npz}"],
        ["dataset={name: npz, path: /data-x.npz}"],
        [f"model.hidden=[{', '.join(['8'] * 40)}]"],
        [f"model.hidden=[{', '.join(['8'] * 41)}]"],
        ["variants={a: {}}"],
        ["variants={a: {epochs: 3}}"],
    )
    names = [name_of(study, vocabulary, *words) for words in ways]
    assert len({name.casefold() for name in names}) == len(ways)


def test_a_relative_path_is_the_same_place(
    study: Path, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = name_of(study, vocabulary, "dataset={name: npz, path: d.npz}")
    assert here == name_of(study, vocabulary, f"dataset={{name: npz, path: {tmp_path / 'd.npz'}}}")


def test_overrides_that_make_it_a_study(tmp_path: Path, vocabulary: Vocabulary) -> None:
    """There is nothing to hold them against: what they say is what they change."""
    path = tmp_path / "part.yaml"
    path.write_text("optimizer: {name: sgd, lr: 0.1}\nmodel: mlp\nvariants: {a: {}, b: {norm: batch}}\n")
    assert name_of(path, vocabulary, "dataset=digits", "seeds=2") == "part+dataset=digits"


def test_one_variant_has_its_own_folder(study: Path, vocabulary: Vocabulary) -> None:
    trained = load_variant(study, "b", ["epochs=3", "optimizer.lr=0.5"], vocabulary)
    assert folder_name(trained, f"-{trained.baseline}") == "s-b+epochs=3"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.text(min_size=1), VALUES), min_size=1, max_size=4))
def test_every_file_system_can_hold_the_name(changes: list[tuple[str, object]]) -> None:
    """Oracle: Windows's rules, the strictest: no <>:"/\\|?*, no control character, no dot or space at the end."""
    study = Study("s", "", (0,), {}, "a", (), None, (), changes=tuple(changes))
    name = folder_name(study)
    assert name.startswith("s+")
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f]|[. ]$', name)
    assert name == folder_name(study)
    assert len(name) <= MAX_CHARACTERS + 9
    assert len(name.encode()) <= MAX_BYTES + 9


@given(st.tuples(VALUES, VALUES).filter(lambda pair: repr(pair[0]) != repr(pair[1])))
def test_other_values_have_other_names_whatever_the_case(pair: tuple[object, object]) -> None:
    """A key takes lists or single values, so only values of one kind can meet."""
    if isinstance(pair[0], list) != isinstance(pair[1], list):
        return
    names = [
        folder_name(Study("s", "", (0,), {}, "a", (), None, (), changes=(("k", value),))) for value in pair
    ]
    assert names[0].casefold() != names[1].casefold()


def documented() -> list[tuple[str, str]]:
    """The rows of the table in docs/identity.md whose command and folder are whole."""
    text = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()
    rows = re.findall(
        r"^\| `(?:bnbench compare my_study\.yaml|\.\.\.) ?([^`]*)`[^|]*\| `results/([^`]*)` \|$", text, re.M
    )
    return [(words, folder) for words, folder in rows]


@pytest.mark.parametrize(("words", "folder"), documented())
def test_the_documented_names(words: str, folder: str, tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / "my_study.yaml"
    path.write_text(STUDY.removeprefix("\nname: s").replace("a: {}, b:", "none: {}, batch:"))
    assert name_of(path, vocabulary, *shlex.split(words)) == folder


def test_the_table_is_read() -> None:
    assert len(documented()) == 5


def test_ways_of_inference_and_test_sets_name_the_folder_by_what_is_changed(
    write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    text = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\n"
    text += "test_sets: {dark: {name: brightness, factor: 0.5}}\n"

    def changed(*words: str) -> dict[str, Any]:
        return dict(load_study(write_study(text), words, vocabulary).changes)

    assert changed("test_sets.dark.factor=0.5") == {}
    assert changed("test_sets.dark.factor=0.4") == {"test_sets.dark.factor": 0.4}
    assert changed("evaluate=[running,precise]") == {"evaluate": ["precise"]}
    assert changed("evaluate=running") == {}
    assert changed("test_sets.faint=blur") == {"test_sets.faint": {"name": "blur", "sigma": 1.0}}
