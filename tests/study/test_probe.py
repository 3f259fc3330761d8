"""The key `probe`: its forms, its steps, its mistakes with their lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.study import Study, Vocabulary, load_study, resolved, to_yaml
from bnbench.study.plan import cell_identity
from bnbench.study.probe import DEFAULT_WHAT, Probe

BASE = """
dataset: digits
model: mlp
optimizer: {name: sgd, lr: 0.1}
"""
Load = Callable[..., Study]


@pytest.fixture
def load(tmp_path: Path, vocabulary: Vocabulary) -> Load:
    def make(text: str, *overrides: str) -> Study:
        (tmp_path / "s.yaml").write_text(BASE.lstrip() + text)
        return load_study(tmp_path / "s.yaml", overrides, vocabulary)

    return make


def probe_of(study: Study) -> Probe | None:
    (probe,) = {settings.probe for settings in study.variants.values()}
    return probe


@pytest.mark.parametrize("text", ["probe: true", "probe: {}", "probe: on"])
def test_the_defaults(text: str, load: Load) -> None:
    assert probe_of(load(text)) == Probe()
    assert Probe().what == DEFAULT_WHAT


@pytest.mark.parametrize("text", ["", "probe: false", "probe: null", "probe: none", "probe:"])
def test_no_probe(text: str, load: Load) -> None:
    assert probe_of(load(text)) is None
    assert "probe" not in resolved(load(text), Path.cwd())


def test_the_steps_of_a_run() -> None:
    assert Probe().steps(540) == (0, 1, 10, 100, 200, 300, 400, 500, 540)
    assert Probe().steps(41) == (0, 1, 10, 41)
    assert Probe().steps(0) == Probe().costly_steps(0) == (0,)
    long = Probe().steps(50_000)
    assert len(long) == 104
    assert (long[3], long[4], long[-1]) == (100, 500, 50_000)
    assert Probe().steps(10_000)[4:] == tuple(range(200, 10_001, 100))
    assert Probe().steps(10_001)[4:] == (*range(200, 10_001, 200), 10_001)
    assert Probe(every=1000).steps(50_000)[:6] == (0, 1, 10, 100, 1000, 2000)
    assert len(Probe(every=1000).steps(50_000)) == 54
    assert Probe(at=(0, 7)).costly_steps(512) == (0, 1, 2, 4, 7, 8, 16, 32, 64, 128, 256, 512)
    assert Probe(at=()).costly_steps(1) == (1,)


def test_the_command_line_has_the_last_word(load: Load) -> None:
    study = "probe: {at: [0, 5], what: [weights]}"
    assert probe_of(load(study, "probe.every=7")) == Probe(at=(0, 5), every=7, what=("weights",))
    assert probe_of(load(study, "probe=false")) is None
    assert probe_of(load(study, "probe=true")) == Probe(at=(0, 5), what=("weights",))  # its own stays
    assert probe_of(load("", "probe.every=7")) == Probe(every=7)
    assert probe_of(load("", "probe=true", "probe.every=7")) == Probe(every=7)
    assert probe_of(load("", "probe.what=gradients")) == Probe(what=("gradients",))


def test_it_is_a_setting_of_every_variant_and_of_the_identity(load: Load) -> None:
    variants = "\nvariants: [none, batch]"
    probed, plain = load(f"probe: true{variants}"), load(variants)
    assert [settings.probe for settings in probed.variants.values()] == [Probe(), Probe()]
    for name in ("none", "batch"):
        one, other = probed.variants[name], plain.variants[name]
        assert cell_identity(one, None) != cell_identity(other, None)
        assert "probe" not in other.identity()
    assert probed.changes == ()
    changed = load(variants, "probe=true").changes
    assert changed == (("probe", True),)
    assert load(variants, "probe={at: [0]}").changes == (("probe", {"at": [0]}),)


def test_a_resolved_study_has_the_same_probe(load: Load, tmp_path: Path, vocabulary: Vocabulary) -> None:
    study = load("probe: {at: [0, 2], layers: [1, last, head], samples: 9}")
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(resolved(study, tmp_path)))
    again = load_study(path, (), vocabulary)
    assert probe_of(again) == probe_of(study) == Probe(at=(0, 2), layers=(1, "last", "head"), samples=9)
    assert [cell_identity(s, None) for s in again.variants.values()] == [
        cell_identity(s, None) for s in study.variants.values()
    ]


MISTAKES = {
    "probe: 3": "4: probe: 3 is wrong: it should be true, or a mapping of keys to values. Fix: probe: {at:",
    "probe: [activations]": "4: probe: ['activations'] is wrong: it should be true, or a mapping",
    "probe:\n  at: [0, -1]": "5: probe.at: -1 is no step: steps are whole numbers from 0",
    "probe:\n  at: [0, 1.5]": "5: probe.at: 1.5 is no step",
    "probe:\n  at: [0, true]": "5: probe.at: True is no step",
    "probe:\n  at: [1, 1]": "5: probe.at: 1 repeated. Fix: name each once.",
    "probe:\n  at: soon": "5: probe.at: 'soon' is no step",
    "probe:\n  at: {a: 1}": "5: probe.at: {'a': 1} is wrong: it should be a list of steps from 0",
    "probe:\n  every: 0": "5: probe.every: 0 is no number of steps. Fix: every: 100",
    "probe:\n  every: -5": "5: probe.every: -5 is no number of steps.",
    "probe:\n  every: often": "5: probe.every: 'often' is wrong: it should be a valid integer",
    "probe:\n  every: true": "5: probe.every: True is wrong: a number is wanted, not true or false.",
    "probe:\n  what: [actvations]": '5: probe.what: unknown measure "actvations". Did you mean "activations"?',
    "probe:\n  what: []": "5: probe.what: [] names nothing. Fix: leave the key out, or a list of measures",
    "probe:\n  what: [weights, weights]": "5: probe.what: weights repeated.",
    "probe:\n  layers: []": "5: probe.layers: [] names nothing.",
    "probe:\n  samples: 1": "5: probe.samples: 1 is wrong: it should be greater than or equal to 2.",
    "probe:\n  step: [1]": '5: unknown key "step" in probe. Known: at, every, layers, samples, what.',
    "probe:\n  evry: 3": '5: unknown key "evry" in probe. Did you mean "every"?',
    "probe: true\nframework: keras": "4: probe with framework: keras",
    "variants:\n  a: {}\n  b:\n    probe: true": "7: probe belongs to the study, no variant may change it.",
    "variants:\n  a: {norm: batch}\n  b:\n    probe: {}": "7: probe belongs to the study, no variant may change it.",
    "variants:\n  a: {}\n  b:\n    probe.every: 3": "7: probe belongs to the study, no variant may change it.",
    "probe: true\nsweep:\n  probe.every: [1, 2]": "6: probe belongs to the study, no variant may change it.",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_its_line(text: str, load: Load) -> None:
    with pytest.raises(ConfigError) as raised:
        load(text)
    (mistake,) = raised.value.mistakes
    assert str(mistake).partition("s.yaml:")[2].startswith(MISTAKES[text]), str(mistake)


def test_all_mistakes_come_at_once(load: Load) -> None:
    with pytest.raises(ConfigError) as raised:
        load("probe:\n  at: [-1, -2]\n  every: 0\n  what: [x]\n  foo: 1\nepochs: 0.5")
    lines = sorted(
        str(mistake).partition("s.yaml:")[2].partition(":")[0] for mistake in raised.value.mistakes
    )
    assert lines == ["5", "5", "6", "7", "8", "9"]
