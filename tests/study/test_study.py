"""Studies: what is read, what is merged, and what the user is told where it is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bnbench.api.shipped import find_study, shipped_studies
from bnbench.base.errors import ConfigError
from bnbench.study import Study, Vocabulary, json_schema, load_study, load_variant, resolved
from bnbench.study.yaml_source import read_value, read_yaml

Write = Callable[..., Path]

MINIMAL = """
dataset: digits
model: mlp
optimizer: {name: sgd, lr: 1e-2}
"""


def mistakes_of(path: Path, vocabulary: Vocabulary, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_study(path, overrides, vocabulary)
    return [str(mistake).replace(str(path), path.name) for mistake in caught.value.mistakes]


# YAML as people mean it


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1_000", 1000),
        ("010", 10),
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("'5'", "5"),
        ("[64, 1e-1]", [64, 0.1]),
        ("0x10", "0x10"),
    ],
)
def test_values_are_read_as_people_mean_them(text: str, value: object) -> None:
    read = read_value(text)
    assert read == value
    assert type(read) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_as_python_writes_it(value: float) -> None:
    assert float(read_value(repr(value))) == value


def test_a_python_tag_makes_no_object() -> None:
    with pytest.raises(ConfigError):
        read_yaml("x: !!python/name:os.system", "s.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "s.yaml:1: a study is a mapping of keys to values, such as dataset: mnist."),
        ("a: [1", "s.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'."),
        ("a:\n\tb: 1", "s.yaml:2: not valid YAML: found character '\\t' that cannot start any token"
                        " (indent with spaces, not tabs)."),
        ("a: &a [*a]", "s.yaml:1: not valid YAML: it contains itself."),
    ],
)  # fmt: skip
def test_faults_of_form(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_yaml(text, "s.yaml")


def test_duplicate_keys_are_told_with_everything_else(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 1,\n  lr: 2}\nepochs: -1\nmodel: cnn\n"
    path = write_study(text)
    with pytest.raises(ConfigError) as caught:
        load_study(path, ["norm={name: batch, name: layer}", "seeds=2"], vocabulary)
    assert [str(mistake).replace(str(path), "s.yaml") for mistake in caught.value.mistakes] == [
        's.yaml:4: duplicate key "lr": it stands at s.yaml:3 already.',
        "s.yaml:5: epochs: -1 is wrong: it should be greater than or equal to 0.",
        's.yaml:6: duplicate key "model": it stands at s.yaml:2 already.',
        'command line: norm={name: batch, name: layer}: duplicate key "name".',
    ]


# What a study means


def test_the_smallest_study(write_study: Write, vocabulary: Vocabulary) -> None:
    study = load_study(write_study(MINIMAL), [], vocabulary)
    assert (study.name, study.seeds, study.baseline) == ("study", (0, 1, 2, 3, 4), "none")
    settings = study.variants["none"]
    assert settings.model.options == {
        "hidden": [64],
        "depth": None,
        "activation": "relu",
        "norm_position": "before",
        "bias": "auto",
        "dropout": None,
    }
    assert settings.optimizer.options["lr"] == 0.01
    assert settings.schedule.name == "constant"


@pytest.mark.parametrize("none", ["no", "off", "null", "none", "~", "'null'", "false"])
def test_every_way_to_say_no_norm(none: str, write_study: Write, vocabulary: Vocabulary) -> None:
    study = load_study(write_study(MINIMAL + f"norm: {none}\n"), [], vocabulary)
    assert study.variants["none"].norm.name == "none"


def test_variants_merge_key_by_key_and_a_new_name_replaces_the_section(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(
        MINIMAL
        + """
norm: {name: batch, momentum: 0.3}
variants:
  same:   {}
  eps:    {norm: {eps: 1e-3}}
  dotted: {norm.eps: 1e-2, optimizer.lr: 1}
  other:  {norm: batch_custom}
  adam:   {optimizer: {name: adam, lr: 2e-3}}
"""
    )
    variants = load_study(path, [], vocabulary).variants
    assert variants["same"].norm.options["momentum"] == 0.3
    assert variants["eps"].norm.options | {"eps": 0} == variants["same"].norm.options | {"eps": 0}
    assert variants["eps"].norm.options["eps"] == 1e-3
    assert (variants["dotted"].norm.options["eps"], variants["dotted"].optimizer.options["lr"]) == (1e-2, 1.0)
    assert variants["other"].norm.options["momentum"] == 0.1
    assert "momentum" not in variants["adam"].optimizer.options


def test_a_sweep_crosses_every_variant(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(
        MINIMAL
        + "variants: {none: {}, batch: {norm: batch}}\nsweep: {optimizer.lr: [0.1, 1], batch_size: [8, 16]}\n"
    )
    cells = load_study(path, [], vocabulary).cells
    assert len(cells) == 8
    assert cells[5].variant == "batch"
    assert dict(cells[5].setting) == {"optimizer.lr": 0.1, "batch_size": 16}
    assert (cells[5].settings.optimizer.options["lr"], cells[5].settings.batch_size) == (0.1, 16)


def test_the_command_line_overrides(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(MINIMAL + "norm: batch\n")
    study = load_study(
        path, ["optimizer.lr=1e-3", "seeds=[7, 9]", "norm.eps=1e-2", "model.hidden=[8]"], vocabulary
    )
    settings = study.variants["batch"]
    assert study.seeds == (7, 9)
    assert settings.optimizer.options["lr"] == 1e-3
    assert (settings.norm.name, settings.norm.options["eps"]) == ("batch", 1e-2)
    assert settings.model.options["hidden"] == [8]


def test_one_variant_alone_and_the_command_line_has_the_last_word(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(
        MINIMAL + "variants: {none: {}, small: {norm: batch, batch_size: 8}}\nbaseline: none\n"
    )
    study = load_variant(path, "small", ["batch_size=4"], vocabulary)
    assert list(study.variants) == ["small"]
    assert study.variants["small"].batch_size == 4
    assert load_variant(path, None, [], vocabulary).baseline == "none"


def test_one_variant_that_is_no_mapping_or_whose_study_sweeps(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(MINIMAL + "variants: {a: batch, b: }\nsweep: {batch_size: [8, 16]}\n")
    with pytest.raises(
        ConfigError, match=r"study.yaml:5: variants.a: 'batch' is not a mapping. Fix: a: {norm: batch}."
    ):
        load_variant(path, "a", [], vocabulary)
    study = load_variant(path, "b", [], vocabulary)
    assert len(study.cells) == 1
    assert study.warnings == ("one variant is trained as it is: the study's sweep is left out.",)


def test_the_resolved_study_is_the_same_study(vocabulary: Vocabulary, tmp_path: Path) -> None:
    for path in shipped_studies():
        study = load_study(path, [], vocabulary)
        copy = tmp_path / path.name
        copy.write_text(yaml.safe_dump(resolved(study, tmp_path), sort_keys=False))
        again = load_study(copy, [], vocabulary)
        assert (again.variants, again.seeds, again.targets) == (study.variants, study.seeds, study.targets)


def test_a_relative_path_is_relative_to_its_file(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study("dataset: {name: npz, path: mine/x.npz}\nmodel: mlp\noptimizer: {name: sgd, lr: 1}\n")
    options = load_study(path, [], vocabulary).variants["none"].dataset.options
    assert options["path"] == str(path.parent / "mine" / "x.npz")
    options = load_study(path, ["dataset.path=x.npz"], vocabulary).variants["none"].dataset.options
    assert options["path"] == str(Path.cwd() / "x.npz")


def test_a_path_inside_the_project_is_written_relative_to_the_results(
    write_study: Write, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study("dataset: {name: npz, path: mine/x.npz}\nmodel: mlp\noptimizer: {name: sgd, lr: 1}\n")
    study = load_study(path, [], vocabulary)
    inside, results = path.parent, path.parent / "results" / "study"
    monkeypatch.chdir(inside)
    assert resolved(study, results)["dataset"]["path"] == str(Path("../../mine/x.npz"))
    results.mkdir(parents=True)
    (results / "study.yaml").write_text(yaml.safe_dump(resolved(study, results)))
    assert load_study(results / "study.yaml", [], vocabulary).variants == study.variants
    monkeypatch.chdir(results)
    assert resolved(study, results)["dataset"]["path"] == str(inside / "mine" / "x.npz")


def test_identity_forgets_the_path_and_nothing_else(write_study: Write, vocabulary: Vocabulary) -> None:
    text = "dataset: {name: npz, path: %s}\nmodel: mlp\noptimizer: {name: sgd, lr: 1}\nepochs: %d\n"

    def identity(path: str, epochs: int) -> dict[str, object]:
        study = load_study(write_study(text % (path, epochs)), [], vocabulary)
        return study.variants["none"].identity()

    assert identity("a.npz", 3) == identity("b.npz", 3)
    assert identity("a.npz", 3) != identity("a.npz", 4)


# Mistakes


def test_all_mistakes_at_once_each_with_its_line(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(
        """\
        dataset: mnits
        model: {name: mlp, hiden: [64], activation: rellu}
        optimizer: {name: adam, lr: fast, momentum: 0.9}
        batchsize: 32
        batch_size: 1
        epochs: -1
        seeds: [1, 1, 2]
        validation: {fraction: 2, spilt_seed: 1}
        schedule: step
        variants:
          none: {norm: bathc}
          b: {norm: {name: batch, moment: 0.1}}
          c: {seeds: 3, clip_norm: -1}
          d/e: {}
          f: {norm: batch}
        baseline: nonne
        target: {metric: test_acc, value: 97}
        sweep: {optimizer.lr: 0.1}
        evaluate_every: sometimes
        """
    )
    told = "\n".join(mistakes_of(path, vocabulary, "foo"))
    for line in [
        'study.yaml:1: unknown data set "mnits". Did you mean "mnist"? Known: ',
        "study.yaml:2: model.activation: 'rellu' is not one of relu, sigmoid, tanh, gelu, none or linear.",
        'study.yaml:2: unknown key "hiden" in model mlp. Did you mean "hidden"? Known: activation, bias, depth, ',
        "study.yaml:3: optimizer.lr: 'fast' is wrong: it should be a valid number",
        'study.yaml:3: unknown key "momentum" in optimizer adam. Known: betas, ',
        'study.yaml:4: unknown key "batchsize". Did you mean "batch_size"? Known: ',
        "study.yaml:6: epochs: -1 is wrong: it should be greater than or equal to 0.",
        "study.yaml:7: seeds: 1 repeated. The same seed twice is one run, not two replicates.",
        'study.yaml:8: unknown key "spilt_seed" in validation. Did you mean "split_seed"?',
        "study.yaml:8: validation.fraction: 2 is wrong: it should be less than 1.",
        "study.yaml:9: schedule.milestones is missing.",
        'study.yaml:11: unknown norm "bathc". Did you mean "batch"? Known: ',
        'study.yaml:12: unknown key "moment" in norm batch. Did you mean "momentum"? Known: ',
        "study.yaml:13: seeds belongs to the study, no variant may change it.",
        "study.yaml:13: clip_norm: -1 is wrong: it should be greater than 0.",
        "study.yaml:14: variant name 'd/e': '/' can't be in it. Fix: use letters, digits",
        'study.yaml:16: unknown variant "nonne". Did you mean "none"? Known: b, c, f, none.',
        'study.yaml:17: unknown metric "test_acc". Did you mean "test_accuracy"? Known: ',
        "study.yaml:18: sweep.optimizer.lr: 0.1 is not a list with values in it.",
        "study.yaml:19: evaluate_every: 'sometimes' is wrong: it should be epoch, or a number of steps from 1.",
        'command line: "foo" is not of the form key=value, such as epochs=3.',
    ]:
        assert line in told
    assert told.count("\n") == 20, told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "variants: []",
            "study.yaml:5: variants is empty: there is nothing to compare. Fix: variants: {none:",
        ),
        ("variants: {}", "study.yaml:5: variants is empty"),
        ("variants: 3", "study.yaml:5: variants is not a mapping of names to settings"),
        (
            "variants: {a: batch}",
            "study.yaml:5: variants.a: 'batch' is not a mapping. Fix: a: {norm: batch}.",
        ),
        (
            "seeds: 0",
            "study.yaml:5: seeds: 0: a study has 1 to 10,000 seeds.",
        ),
        ("seeds: []", "study.yaml:5: seeds: [] is neither"),
        ("seeds: true", "study.yaml:5: seeds: True is neither"),
        ("seeds: [0, -1]", "study.yaml:5: seeds: -1 is not a seed: an integer from 0 to 2**63 - 1."),
        ("name: a/b", "study.yaml:5: name: 'a/b' can't be a folder's name"),
        ("epochs: true", "study.yaml:5: epochs: True is wrong: a number is wanted, not true or false."),
        ("epochs: .nan", "study.yaml:5: epochs: nan is wrong"),
        ("clip_norm: .inf", "study.yaml:5: clip_norm: inf is wrong: it should be a finite number."),
        ("target: 0.9", "study.yaml:5: target: 0.9 is not of the form {metric: val_accuracy, value: 0.97}."),
        (
            "target: {metric: val_accuracy, value: high}",
            "study.yaml:5: target.value: 'high' is not a number.",
        ),
        (
            "target: {metric: test_accuracy, value: 0.9}",
            "test_accuracy can't be a target: the test set is looked at",
        ),
        ("sweep: 1", "study.yaml:5: sweep is not a mapping of keys to lists."),
        ("sweep: {epochs: [1, 1]}", "study.yaml:5: sweep.epochs: [1, 1] repeats a value: 1."),
        (
            "sweep: {optimizer.lr: [1, 1.0]}",
            "study.yaml:5: sweep: {'optimizer.lr': 1.0} gives none the same runs as {'optimizer.lr': 1}.",
        ),
        (
            "sweep: {engine: [stacked, sequential]}",
            "gives none the same runs as {'engine': 'stacked'} (engine changes no run's identity).",
        ),
        ("sweep: {epochs: [1, zwei]}", "study.yaml:5: epochs: 'zwei' is wrong"),
        ("sweep: {epoch: [1, 2]}", 'study.yaml:5: unknown key "epoch". Did you mean "epochs"?'),
        ("norm: {eps: 1}", 'study.yaml:5: unknown key "eps" in norm none. Known: no options.'),
    ],
)
def test_one_mistake(text: str, message: str, write_study: Write, vocabulary: Vocabulary) -> None:
    told = mistakes_of(write_study(MINIMAL + text), vocabulary)
    assert len(told) == 1, told
    assert message in told[0]


@pytest.mark.parametrize("key", ["dataset", "model", "optimizer"])
def test_what_must_be_there(key: str, write_study: Write, vocabulary: Vocabulary) -> None:
    text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(key))
    told = mistakes_of(write_study(text), vocabulary)
    assert len(told) == 1
    assert f"{key} is missing. Known: " in told[0]


def test_an_override_that_every_variant_overrules_is_a_mistake(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(MINIMAL + "variants: {none: {norm: none}, b: {norm: batch}}\n")
    assert mistakes_of(path, vocabulary, "norm=layer") == [
        "command line: norm=layer would change nothing: every variant sets norm itself. "
        "Fix: variants.NAME.norm=layer, with the variant that is meant."
    ]
    path = write_study(MINIMAL + "sweep: {optimizer.lr: [0.1, 1]}\n")
    assert mistakes_of(path, vocabulary, "optimizer.lr=5") == [
        "command line: optimizer.lr=5 would change nothing: the sweep sets optimizer.lr. "
        "Fix: sweep=null optimizer.lr=5."
    ]


def test_the_same_name_again_keeps_its_options(write_study: Write, vocabulary: Vocabulary) -> None:
    study = load_study(
        write_study(MINIMAL + "norm: {name: batch, momentum: 0.3}\n"), ["norm=batch"], vocabulary
    )
    assert study.variants["batch"].norm.options["momentum"] == 0.3


def test_odd_keys_and_odd_names_are_told_not_raised(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(MINIMAL, "study two.yaml")
    assert load_study(path, [], vocabulary).name == "study-two"
    assert 'unknown key "int"' in mistakes_of(path, vocabulary, "int=3")[0]
    assert "a number is wanted, not true or false" in mistakes_of(path, vocabulary, "optimizer.lr=true")[0]
    with pytest.raises(ConfigError, match="train has one variant; name the key alone"):
        load_variant(path, None, ["variants.none.norm=batch"], vocabulary)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "{metric: val_accuracy, value: 97}",
            "no run can reach val_accuracy 97, a share, at most 1. Fix: 0.97.",
        ),
        ("{metric: train_loss, value: -0.1}", "no run can reach train_loss -0.1: a loss is never below 0."),
    ],
)
def test_a_target_that_no_run_can_reach_is_refused(
    target: str, said: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    assert said in mistakes_of(write_study(MINIMAL + f"target: {target}"), vocabulary)[0]


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("primary: recall:3", "test_recall:3"),
        ("primary: balanced_accuracy", "test_balanced_accuracy"),
        ("target: {metric: loss, value: 0.1}", "val_loss"),
    ],
)
def test_a_metric_without_its_part_gets_the_usual_one_as_fix(
    key: str, fix: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(MINIMAL + key)
    assert mistakes_of(path, vocabulary)[0].endswith(f"a metric begins with its part. Fix: {fix}.")


def test_a_file_that_is_not_there_names_the_shipped_studies() -> None:
    with pytest.raises(ConfigError, match=r'no such study. Did you mean "quickstart"\? Shipped: .*smoke'):
        find_study("quickstrat.yaml")


@pytest.mark.parametrize("path", shipped_studies(), ids=lambda path: path.stem)
def test_shipped_studies_are_right_and_say_what_they_show(path: Path, vocabulary: Vocabulary) -> None:
    study = load_study(path, [], vocabulary)
    assert path.read_text().startswith("# ")
    assert study.name == path.stem
    assert study.description


def test_json_schema_knows_every_name(vocabulary: Vocabulary) -> None:
    schema = json_schema(vocabulary)
    text = json.dumps(schema)
    for entries in vocabulary.values():
        for name in entries:
            assert f'"{name}"' in text
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", True),
        ("norm: off\ntarget: null\noptimizer.momentum: 0.3", True),
        ("variants: {b: {optimizer: {lr: 1.0}, model.hidden: [8]}, c: }", True),
        ("norm: {name: batch, eps: 1e-3}\nsweep: {optimizer.lr: [0.1]}", True),
        ("variants: {none: , batch: {norm.name: batch, norm.eps: 1}}\nx-mine: [1]", True),
        ("variants: [none, batch]\nname: 1e3\nbaseline: batch", True),
        ("init: he\nclip_norm: none\nmax_train_samples: null", True),
        ("sweep: {batch_size: [32, 64], optimizer.lr: 0.1 * batch_size / 128}", True),
        ("sweep: {optimizer: {lr: [0.1]}}", True),
        ("sweep: [{epochs: 1, batch_size: 8}, {epochs: 2, batch_size: 4}]", True),
        ("variants: [none, bathc]", False),
        ("sweep: {epochs: []}", False),
        ("sweep: [3]", False),
        ("init: hee", False),
        ("clip_norm: some", False),
        ("variants: {a: {x-mine: 1}}", False),
        ("norm: bathc", False),
        ("norm: {name: batch, epsilon: 1e-3}", False),
        ("batchsize: 3", False),
        ("epochs: -1", False),
        ("epochs: 0", True),
        ("steps: 100", True),
        ("steps: 100\nepochs: 3", False),
        ("variants: {b: {steps: 100, epochs: 3}}", False),
        ("variants: {b: {nrm: batch}}", False),
        ("variants: {b: {optimizr.lr: 1}}", False),
    ],
)
def test_json_schema_and_the_loader_agree(
    text: str, right: bool, write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(MINIMAL + text)
    schema = Draft202012Validator(json_schema(vocabulary))
    assert schema.is_valid(read_yaml(path.read_text(), "s.yaml").data) is right
    if right:
        load_study(path, [], vocabulary)
    else:
        assert mistakes_of(path, vocabulary)


def test_studies_are_frozen(write_study: Write, vocabulary: Vocabulary) -> None:
    study: Study = load_study(write_study(MINIMAL), [], vocabulary)
    with pytest.raises(ValueError, match="frozen"):
        study.variants["none"].epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (
            "{name: group, groups: autoo}",
            "norm.groups: 'autoo' is wrong: it should be a valid integer, or auto.",
        ),
        ("{name: group, groups: -2}", "norm.groups: -2 is wrong: it should be greater than 0, or auto."),
        ("{name: group, groups: 1.5}", "norm.groups: 1.5 is wrong: it should be a valid integer, or auto."),
        ("{name: batch, momentum: x}", "norm.momentum: 'x' is wrong: it should be a valid number."),
        (
            "{name: filter_response, learn_eps: x}",
            "norm.learn_eps: 'x' is wrong: it should be a valid boolean, or auto.",
        ),
    ],
)
def test_a_value_that_may_be_of_several_types_is_one_mistake(
    norm: str, message: str, vocabulary: Vocabulary, write_study: Callable[[str], Path]
) -> None:
    path = write_study(f"dataset: digits\nmodel: mlp\noptimizer: {{name: sgd, lr: 0.1}}\nnorm: {norm}\n")
    with pytest.raises(ConfigError) as caught:
        load_study(path, [], vocabulary)
    assert [mistake.message for mistake in caught.value.mistakes] == [message]
