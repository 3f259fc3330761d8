"""What a study wants to know: targets, the primary metric, the margin; none of them changes a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.results import ResultsFolder
from bnbench.study import Margin, Target, Vocabulary, json_schema, load_study, resolved
from bnbench.study.plan import make_plan

Write = Callable[..., Path]

MINIMAL = """dataset: digits
model: mlp
optimizer: {name: sgd, lr: 1e-2}
"""
GOALS = "margin: {metric: test_accuracy, value: 2e-3}\nprimary: val_loss\n"
MATCH = "target: [{metric: val_accuracy, value: match_baseline}, {metric: val_loss, value: 0.5}]\n"


def test_margin_primary_and_match_baseline_are_read_and_resolved(
    write_study: Write, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    study = load_study(write_study(MINIMAL + GOALS + MATCH), [], vocabulary)
    assert (study.margin, study.primary) == (Margin("test_accuracy", 0.002), "val_loss")
    assert study.targets[0].match_baseline
    assert math.isnan(study.targets[0].value)
    assert study.targets[1] == Target("val_loss", 0.5)
    plain = resolved(study, tmp_path)
    assert plain["target"][0] == {"metric": "val_accuracy", "value": "match_baseline"}
    assert (plain["margin"], plain["primary"]) == ({"metric": "test_accuracy", "value": 0.002}, "val_loss")
    again = load_study(write_study(json.dumps(plain), "again.yaml"), [], vocabulary)
    assert resolved(again, tmp_path) == plain


def test_defaults(write_study: Write, vocabulary: Vocabulary) -> None:
    study = load_study(write_study(MINIMAL), [], vocabulary)
    assert (study.margin, study.primary) == (None, "test_accuracy")


def test_they_are_no_part_of_a_run(write_study: Write, vocabulary: Vocabulary) -> None:
    plans = [
        make_plan(load_study(write_study(MINIMAL + text), [], vocabulary), lambda settings: {})
        for text in ("", GOALS, MATCH)
    ]
    assert len({plan[0].cell for plan in plans}) == 1


def test_the_results_folder_keeps_them_and_older_folders_load(
    write_study: Write, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    study = load_study(write_study(MINIMAL + GOALS + MATCH), [], vocabulary)
    folder = ResultsFolder(tmp_path / "out")
    folder.open_for(study, make_plan(study, lambda settings: {}))
    results = folder.load()
    assert (results.margin, results.primary) == (study.margin, "val_loss")
    assert results.targets[0].match_baseline
    assert math.isnan(results.targets[0].value)
    assert results.targets[1] == study.targets[1]
    plan = json.loads((folder.path / "plan.json").read_text())
    del plan["primary"], plan["margin"]
    plan["targets"] = [{"metric": "val_loss", "value": 0.5}]
    (folder.path / "plan.json").write_text(json.dumps(plan))
    older = folder.load()
    assert (older.margin, older.primary, older.targets) == (None, "test_accuracy", (Target("val_loss", 0.5),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("primary: test_acc", 'study.yaml:4: unknown metric "test_acc". Did you mean "test_accuracy"?'),
        ("margin: 0.002", "study.yaml:4: margin: 0.002 is not of the form {metric: test_accuracy, value: 0.002}."),
        ("margin: {metric: test_los, value: 1}", 'study.yaml:4: unknown metric "test_los". Did you mean "test_loss"?'),
        ("margin:\n  metric: test_accuracy\n  value: 0", "study.yaml:6: margin.value: 0 is wrong: it should be"),
        ("margin: {metric: val_accuracy, value: 2}", "2 is wrong: it should be between 0 and 1: 0.002 is 0.2 percen"),
        ("margin: {metric: val_loss, value: -1}", "margin.value: -1 is wrong: it should be above 0."),
        ("margin: {metric: val_loss, value: .inf}", "margin.value: inf is not a number."),
        ("target: {metric: val_loss, value: match_baselin}", "not a number. Did you mean \"match_baseline\""),
        ("target: {metric: val_loss, value: true}", "target.value: True is not a number."),
        ("variants: {a: {margin: {metric: val_loss, value: 1}}}", "margin belongs to the study, no variant may change"),
        ("variants: {a: {primary: val_loss}}", "primary belongs to the study, no variant may change it."),
    ],
)  # fmt: skip
def test_mistakes_have_their_line(
    text: str, message: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(MINIMAL + text)
    with pytest.raises(ConfigError) as caught:
        load_study(path, [], vocabulary)
    assert message in str(caught.value).replace(str(path), path.name)


def test_the_command_line_can_set_them(write_study: Write, vocabulary: Vocabulary) -> None:
    words = ["margin={metric: val_loss, value: 0.1}", "primary=test_loss"]
    study = load_study(write_study(MINIMAL), words, vocabulary)
    assert (study.margin, study.primary) == (Margin("val_loss", 0.1), "test_loss")


def test_the_schema_knows_them(vocabulary: Vocabulary) -> None:
    properties = json_schema(vocabulary)["properties"]
    assert "val_loss" in properties["primary"]["anyOf"][0]["enum"]
    assert properties["margin"]["anyOf"][0]["required"] == ["metric", "value"]
    assert {"const": "match_baseline"} in properties["target"]["anyOf"][0]["properties"]["value"]["anyOf"]


def test_a_gap_can_be_asked_for_everywhere_and_a_target_is_on_the_validation_part(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    text = (
        "primary: gap_loss\nmargin: {metric: gap_accuracy, value: 0.01}\nmetrics: [gap, val_gap_macro_f1]\n"
    )
    study = load_study(
        write_study(MINIMAL + text + "target: {metric: val_gap_loss, value: 0.1}\n"), [], vocabulary
    )
    assert (study.primary, study.targets) == ("gap_loss", (Target("val_gap_loss", 0.1),))
    assert "may reach it at step 0" in " ".join(study.warnings)
    with pytest.raises(ConfigError, match=r"study.yaml:7: target: gap_loss can't be a target.*val_gap_loss"):
        load_study(write_study(MINIMAL + text + "target: {metric: gap_loss, value: 0.1}\n"), [], vocabulary)
