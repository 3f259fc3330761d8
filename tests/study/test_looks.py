"""`seeds: auto`: which looks a study gets, what is refused, and that the resolved study says it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from bnbench.base.errors import ConfigError
from bnbench.study import Study, Vocabulary, json_schema, load_study, load_variant, resolved
from bnbench.study.looks import looks_up_to

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
seeds: SEEDS
variants:
  none: {norm: none}
  batch: {norm: batch}
"""
Load = Callable[[str], Study]


@pytest.fixture
def load(write_study: Callable[[str], Path], vocabulary: Vocabulary) -> Load:
    return lambda seeds: load_study(write_study(STUDY.replace("SEEDS", seeds)), [], vocabulary)


@pytest.mark.parametrize(
    ("most", "looks"),
    [  # the first four as the audit of the statistics has them
        (20, (5, 8, 12, 20)),
        (40, (5, 8, 12, 20, 30, 40)),
        (10, (5, 8, 10)),
        (30, (5, 8, 12, 20, 30)),
        (5, (5,)),
        (6, (6,)),
        (9, (5, 9)),
        (100, (5, 8, 12, 20, 30, 40, 60, 80, 100)),
    ],
)
def test_the_looks_up_to_a_number_of_seeds(most: int, looks: tuple[int, ...]) -> None:
    assert looks_up_to(most) == looks


@pytest.mark.parametrize(
    ("seeds", "looks"),
    [
        ("auto", (5, 8, 12, 20)),
        ("{auto: true}", (5, 8, 12, 20)),
        ("{auto: true, max: 10}", (5, 8, 10)),
        ("{auto: true, looks: [6, 12]}", (6, 12)),
    ],
)
def test_a_study_with_looks(load: Load, vocabulary: Vocabulary, seeds: str, looks: tuple[int, ...]) -> None:
    study = load(seeds)
    assert study.looks == looks
    assert study.seeds == tuple(range(looks[-1]))
    jsonschema.validate(yaml.safe_load(STUDY.replace("SEEDS", seeds)), json_schema(vocabulary))


def test_the_resolved_study_has_the_looks(load: Load, tmp_path: Path, vocabulary: Vocabulary) -> None:
    values = resolved(load("{auto: true, max: 10}"), tmp_path)
    assert values["seeds"] == {"auto": True, "max": 10, "looks": [5, 8, 10]}
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(values))
    assert load_study(again, [], vocabulary).looks == (5, 8, 10)
    assert load_study(again, ["seeds=auto"], vocabulary).looks == (5, 8, 12, 20)
    assert load_study(again, ["seeds=3"], vocabulary).looks == ()


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("{auto: true, max: 4}", "seeds.max: 4 is below 5, where the first look is"),
        ("{auto: true, max: 4}", "seeds: 4"),  # the fix
        ("{auto: true, max: 0}", "seeds.max: 0 is below 5"),
        ("{auto: true, max: many}", "seeds.max: 'many' is wrong"),
        ("{auto: true, max: 100000}", "from 5 to 10,000"),
        ("{auto: true, max: true}", "seeds.max: True is wrong"),
        ("{auto: true, maxx: 20}", 'unknown key "maxx". Did you mean "max"?'),
        ("{max: 20}", "auto is not true"),
        ("{auto: false, max: 20}", "auto is not true"),
        ("{auto: true, looks: [8, 5]}", "growing numbers of seeds"),
        ("{auto: true, max: 20, looks: [5, 8]}", "from 5 to max (20)"),
        ("{auto: true, looks: [3, 5]}", "growing numbers of seeds"),
        ("{auto: true, looks: 5}", "growing numbers of seeds"),
        ("Auto", 'Did you mean "auto"?'),
        ("automatic", "not a number of seeds"),
    ],
)
def test_looks_that_are_refused(load: Load, seeds: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(seeds)
    assert said in str(caught.value)


def test_one_variant_has_nothing_to_decide(
    write_study: Callable[[str], Path], vocabulary: Vocabulary
) -> None:
    study = write_study(STUDY.replace("SEEDS", "auto"))
    with pytest.raises(ConfigError, match="there is one variant"):
        load_variant(study, "batch", [], vocabulary)
    assert load_variant(study, "batch", ["seeds=2"], vocabulary).seeds == (0, 1)
    with pytest.raises(ConfigError, match="there is one variant"):
        load_study(study, ["variants={a: {norm: batch}}"], vocabulary)
