"""Findings as files: every mistake at once with its line; and what is done is not trained again."""

import json
from pathlib import Path
from typing import Any

import pytest

import bnbench
from bnbench.analysis.findings.stored import read_replicated
from bnbench.api.findings import find_finding, read_findings, shipped_findings
from bnbench.api.plugins import known_names
from bnbench.api.replicate import plan_jobs
from bnbench.base.errors import BnbenchError, ConfigError, ResultsError

GOOD = """\
citation: {authors: Yuxin Wu and Kaiming He, year: 2018, title: Group Normalization, arxiv: "1803.08494"}
where: table 2
claim: With both, training does not fail.
published: {values: [97.0, 90.0], unit: "%", runs: 1}
quantity: batch.test_accuracy - none.test_accuracy
criterion: "> 0"
scale: other
deviations: [digits in place of ImageNet]
study: {dataset: digits, model: {name: mlp, hidden: [8]}, optimizer: {name: sgd, lr: 0.1}, epochs: 1, seeds: 3,
  variants: {none: {norm: none}, batch: {norm: batch}}}
"""
STUDY = GOOD[GOOD.index("study:") :].rstrip()


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        plan_jobs([write(folder, text)], known_names(), folder)
    return [f"{one.place.rpartition(':')[2]}: {one.message}" for one in error.value.mistakes]


def test_a_finding_of_ten_lines(tmp_path: Path) -> None:
    (asked,), wrong = read_findings([write(tmp_path, GOOD)])
    assert not wrong
    (claim,) = asked.finding.claims
    assert asked.finding.citation.short == "Wu and He 2018"
    assert asked.finding.citation.link == "https://arxiv.org/abs/1803.08494"
    assert claim.published.band(ratio=False) == pytest.approx((0.07, 0.07), abs=1.01e-2)
    assert asked.finding.data == ("digits",)
    assert GOOD.count("\n") <= 10


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (GOOD.partition("\n")[0] + "\n", "", "citation: it is missing"),
        ("year: 2018, ", "", "1: citation.year: it is missing. Fix: year: 2018"),
        (', arxiv: "1803.08494"', "", "1: citation: it says nowhere where the paper is"),
        ("authors: Yuxin Wu and Kaiming He", "author: He", 'key "author" in citation. Did you mean "authors"?'),
        (', unit: "%"', "", "4: published.unit: it is missing"),
        ("values: [97.0, 90.0]", "values: [97.0]", "4: published.values: [97.0] is wrong"),
        ("values: [97.0, 90.0], ", "", "4: published: it needs value (one number) or values"),
        ("runs: 1", "runs: 0.5", "4: published.runs: 0.5 is wrong"),
        ("runs: 1", "runs: many", "4: published.runs: 'many' is wrong"),
        ("where: table 2\n", "", "where: it is missing"),
        ('criterion: "> 0"', "criterion: bigger", "6: criterion: 'bigger' can't be read"),
        ('criterion: "> 0"', 'criteria: "> 0"', '6: unknown key "criteria" in a finding. Did you mean "criterion"?'),
        ('"> 0"', '"> 3"', "'batch.test_accuracy - none.test_accuracy > 3.0': it is from -1 to 1"),
        ("scale: other", "scale: ours", "7: scale: 'ours' is wrong. Fix: same"),
        ("deviations: [digits in place of ImageNet]\n", "", "deviations: it is missing"),
        ("none.test_accuracy", "nine.test_accuracy", 'unknown variant "nine". Did you mean "none"?'),
        ("batch.test_accuracy -", "batch.test_acuracy -", "5: quantity: "),
        ("batch.test_accuracy - none.test_accuracy", "batch.test_accuracy", "published.values are two numbers"),
        ("none.test_accuracy", "none.test_accuracy > 0", "has a comparison"),
        ("batch.test_accuracy -", "batch.test_accuracy", "5: quantity: "),
        ("dataset: digits", "dataset: digitz", '9: unknown data set "digitz". Did you mean "digits"?'),
        ("where: table 2", "where: table 2\nwhere: table 3", '3: duplicate key "where"'),
        (STUDY, "study: no_such_study", "9: study: 'no_such_study': no such study"),
        ("values: [97.0, 90.0]", "values: null", "4: published: it needs value (one number) or values"),
        ('"> 0"', '"within 3 of 0"', "within 3: it is from -1 to 1, no two values are further apart"),
        ('"> 0"', "''", "6: criterion: it is missing"),
        ("none.test_accuracy", "none.test_loss", "none.test_loss is a loss: they can't be compared"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_and_its_fix(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    found = mistakes(tmp_path, GOOD.replace(old, new))
    assert any(expected in one for one in found), found


def test_all_mistakes_are_reported_at_once_also_those_of_the_study(tmp_path: Path) -> None:
    text = GOOD.replace("year: 2018, ", "").replace(', unit: "%"', "").replace("scale: other", "scale: x")
    found = mistakes(tmp_path, text.replace("digits,", "digitz,").replace("test_accuracy -", "test_accuracy"))
    assert [one.partition(":")[0] for one in found] == ["1", "4", "5", "7", "9"]


def test_names(tmp_path: Path) -> None:
    good, again = write(tmp_path, GOOD), tmp_path / "other"
    again.mkdir()
    _, wrong = read_findings([good, write(again, GOOD)])
    assert 'a second finding named "mine"' in wrong[0].message
    with pytest.raises(ConfigError, match="it is a folder"):
        find_finding(str(tmp_path))
    with pytest.raises(ConfigError, match="no such finding"):
        find_finding("wu2018")


def test_claims_of_a_finding_and_two_findings_of_a_study(tmp_path: Path) -> None:
    head = GOOD.partition("claim:")[0]
    (tmp_path / "shared.yaml").write_text(STUDY.removeprefix("study: "))
    claim = '{claim: C, published: a plot, quantity: Q, criterion: "> 0", scale: other}'
    one = claim.replace("Q", "batch.test_accuracy - none.test_accuracy")
    other = claim.replace("Q", "none.test_loss / batch.test_loss").replace("> 0", "> 1")
    text = f"{head}deviations: []\nstudy: shared.yaml\nclaims:\n  up: {one}\n  down: {other}\n"
    names = [write(tmp_path, text), write(tmp_path, text.replace("down", "low"), "second.yaml")]
    (job,) = plan_jobs(names, known_names(), tmp_path)
    assert [item.finding.name for item in job.asked] == ["mine", "second"]
    assert [claim.name for claim in job.asked[1].finding.claims] == ["up", "low"]
    assert job.folder == tmp_path / "shared"


def test_replicate_trains_once_keeps_its_values_and_follows_the_text(tmp_path: Path) -> None:
    path, output = write(tmp_path, GOOD), tmp_path / "out"
    events: list[Any] = []
    first = bnbench.replicate(path, output=output, jobs=1, listeners=events.append)
    assert len(first.claims) == 1
    assert first.claims[0].n == 3
    results = bnbench.load(output / "mine")
    accuracy = {(run["variant"], run["seed"]): run["final_test_accuracy"] for run in results.runs}
    differences = [accuracy["batch", seed] - accuracy["none", seed] for seed in range(3)]
    assert first.claims[0].ours == pytest.approx(sum(differences) / 3, rel=1e-12)
    events.clear()
    write(tmp_path, GOOD.replace("values: [97.0, 90.0]", "values: [98.0, 90.0]"))
    again = bnbench.replicate(path, output=output, jobs=1, listeners=events.append)
    assert not events
    assert again.records[0]["published"] == [98.0, 90.0]
    assert bnbench.load_replication(output).records == again.records
    assert read_replicated(output / "mine.json").cpu_seconds is not None
    write(tmp_path, GOOD.replace("hidden: [8]", "hidden: [9]"))
    assert "another study" in bnbench.load_replication(output).warnings[0]


def test_a_damaged_file_is_a_warning_and_no_file_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no finding"):
        bnbench.load_replication(tmp_path)
    (tmp_path / "x.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(ResultsError, match="damaged"):
        bnbench.load_replication(tmp_path)
    with pytest.raises(BnbenchError, match="no finding is named"):
        bnbench.replicate()


def test_every_shipped_finding_has_its_quantities() -> None:
    plan_jobs([path.stem for path in shipped_findings()], known_names(), Path("results"))


def test_further_ways_of_inference_are_measured_on_the_same_runs(tmp_path: Path) -> None:
    text = GOOD.replace("- none.test_accuracy", "- batch@batch.test_accuracy").replace(
        "epochs: 1,", "epochs: 1, evaluate: [running, batch],"
    )
    (claim,) = bnbench.replicate(write(tmp_path, text), output=tmp_path / "out", jobs=1).claims
    runs = [json.loads(file.read_text()) for file in tmp_path.glob("out/mine/runs/batch-*/seed-*/run.json")]
    differences = [run["final"]["test_accuracy"] - run["inference"]["batch"]["test_accuracy"] for run in runs]
    assert claim.n == len(differences) == 3
    assert any(differences)
    assert claim.ours == pytest.approx(sum(differences) / 3, abs=1e-12)
