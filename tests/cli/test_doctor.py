"""`bnbench doctor` as a command: answer, exit codes, formats, rules of a plugin, bad input."""

from __future__ import annotations

import json

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from bnbench.cli.app import app

MODEL = """
import torch
from torch import nn


def helper():
    return 1


class Net(nn.Module):
    def __init__(self, norm=True):
        super().__init__()
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(4)])
        self.norm = nn.GroupNorm(3, 3)
        self.head = nn.Linear(3, 2)
        print("it was made")

    def forward(self, x):
        print("called")
        return self.head(self.norm(self.blocks(x).mean((2, 3))))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)


class Raises(Net):
    def forward(self, x):
        if self.training:
            raise KeyboardInterrupt
        return super().forward(x)


def optimizer(model):
    return torch.optim.SGD(model.blocks.parameters(), lr=0.1, weight_decay=1e-4)


def no_optimizer(model):
    return 3


def broken(model):
    raise ValueError("no such thing")


def no_argument():
    pass
"""
PLUGIN = '''
from bnbench.network.doctor.rules import Symptom, rules


@rules.register("X01", title="three channels", cost="None at all.", severity="error")
def three(patient):
    """A norm has three channels.

    Fix: four.
    """
    for site in patient.norms:
        if site.behaviour.num_features == 3:
            site.module.weight.data.zero_()
            site.module.eval()
            yield Symptom(site.name, 3, "channels", "It has three channels.", "four")
'''


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "80"})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODEL)
    (tmp_path / "mine.py").write_text(PLUGIN)
    return tmp_path


RULES = ("--rules", "D06,D19", "--input", "3x8x8")


def test_the_answer_comes_first_and_findings_that_are_alike_share_a_line(folder):
    result = invoke("doctor", "net.py:Net", *RULES)
    assert result.exit_code == 0
    assert result.stdout.startswith("net.py:Net: 1 error, 4 warnings (5 normalizations, 2 rules).")
    assert "in 4 places" in result.stdout
    assert result.stdout.index("D19") < result.stdout.index("D06")
    assert "it was made" not in result.stdout
    assert "called" not in result.stdout
    whole = invoke("doctor", "net.py:Net", *RULES, "--all").stdout
    assert all(f"blocks.{place}.0" in whole for place in range(4))


@pytest.mark.parametrize(("given", "code"), [((), 4), (("--ignore", "D19"), 0), (("--rules", "d06"), 0)])
def test_strict_exits_with_4_where_a_finding_is_an_error(folder, given, code):
    options = RULES if "--rules" not in given else RULES[2:]
    assert invoke("doctor", "net.py:Net", *options, *given, "--strict").exit_code == code


def test_json_has_every_finding_by_itself(folder):
    result = invoke("doctor", "net.py:Net", *RULES, "--format", "json")
    values = json.loads(result.stdout)
    assert [one["rule"] for one in values["findings"]] == ["D19"] + ["D06"] * 4
    assert set(values["findings"][0]) >= {"rule", "severity", "place", "evidence", "cost", "fix"}
    assert [one["name"] for one in values["sites"]] == [*(f"blocks.{i}.1" for i in range(4)), "norm"]
    assert {one["action"] for one in values["sites"]} == {"left"}
    assert values["proofs"][0]["passed"] is True


#: The parts that sections 3.13 to 3.49 of SARIF 2.1.0 require, with the enumerations of level.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {"type": "object", "required": ["id"]},
                                    }
                                },
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {"type": "object", "required": ["executionSuccessful"]},
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message"],
                            "properties": {
                                "message": {"type": "object", "required": ["text"]},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "locations": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "properties": {
                                                    "region": {
                                                        "properties": {
                                                            "startLine": {"type": "integer", "minimum": 1}
                                                        }
                                                    }
                                                },
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_sarif_points_at_the_line_of_the_class_and_names_the_module(folder):
    values = json.loads(invoke("doctor", "net.py:Net", *RULES, "--format", "sarif").stdout)
    jsonschema.validate(values, SARIF)
    (run,) = values["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    line = MODEL.split("\n").index("class Net(nn.Module):") + 1
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "net.py"
        assert location["physicalLocation"]["region"]["startLine"] == line
    assert run["results"][0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "norm"
    assert [one["level"] for one in run["results"]] == ["error"] + ["warning"] * 4


def test_the_optimizer_of_a_file(folder):
    options = ("--rules", "D13,D14", "--input", "3x8x8", "--format", "json")
    values = json.loads(invoke("doctor", "net.py:Net", *options, "--optimizer", "net.py:optimizer").stdout)
    found = {(one["rule"], one["place"]) for one in values["findings"]}
    assert found == {("D14", "norm"), *(("D13", f"blocks.{place}.1") for place in range(4))}


def test_a_rule_of_ones_own_is_a_function_and_changes_nothing(folder):
    result = invoke(
        "doctor", "net.py:Net", "--plugin", "mine.py", "--rules", "X01,D19", "--format", "json", "--strict"
    )
    values = json.loads(result.stdout)
    assert [one["rule"] for one in values["findings"]] == ["D19"] + ["X01"] * 5
    assert values["proofs"][0]["passed"] is True
    assert result.exit_code == 4
    assert "A norm has three channels." in invoke("doctor", "--explain", "x01", "--plugin", "mine.py").stdout
    assert invoke("doctor", "--explain", "X01").exit_code == 1


def test_a_rule_that_raises_is_said_and_the_others_look(folder):
    text = PLUGIN.replace("yield Symptom", "raise ValueError('no') or Symptom").replace(
        "        if", "        yield from ()\n        if"
    )
    (folder / "mine.py").write_text(text)
    result = invoke("doctor", "net.py:Net", "--plugin", "mine.py", "--rules", "X01,D19", "--format", "json")
    values = json.loads(result.stdout)
    assert [one["rule"] for one in values["findings"]] == ["D19"]
    assert [(one["rule"], one["failed"]) for one in values["idle"]] == [("X01", True)]
    assert values["proofs"][0]["passed"] is True


def test_explain_prints_the_page(folder):
    text = invoke("doctor", "--explain", "d06").stdout
    assert text == invoke("doctor", "--explain", "D6").stdout
    assert "Fix. bias=False" in text
    assert text.startswith("D06: useless bias\n")
    assert "Public threads. allenai/allennlp#4990" in text
    assert max(map(len, text.split("\n"))) <= 80


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "MODEL"),
        (("net.py:Net", "--format", "xml"), 2, "xml"),
        (("net.py:Nett",), 1, 'Did you mean "Net"?'),
        (("other.py:Net",), 1, "other.py"),
        (("net.py:Plain",), 1, "has no normalization"),
        (("net.py:Net", "--rules", "D99"), 1, 'unknown rule "D99"'),
        (("net.py:Net", "--optimizer", "net.py"), 1, "it is not FILE.py:NAME"),
        (("net.py:Net", "--optimizer", "no.py:f"), 1, "there is no file no.py"),
        (("net.py:Net", "--optimizer", "net.py:optimise"), 1, 'Did you mean "optimizer"?'),
        (("net.py:Net", "--optimizer", "net.py:no_optimizer"), 1, "gave int"),
        (("net.py:Net", "--optimizer", "net.py:no_argument"), 1, "--optimizer net.py:no_argument: TypeError"),
        (("net.py:Net", "--optimizer", "net.py:broken"), 1, "ValueError: no such thing"),
        (("net.py:Net", "--plugin", "net.py"), 1, "it registers no rule"),
        (("net.py:Net", "--checkpoint", "none.pt"), 1, "none.pt"),
        (("net.py:Net", "--input", "4x8x8"), 1, "--input 4x8x8"),
        (("net.py:Net", "seeds=3"), 1, "--data"),
    ],
)
def test_bad_input_is_one_message(folder, words, code, said):
    result = invoke("doctor", *words)
    assert result.exit_code == code
    assert said in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr
    assert not result.stdout
