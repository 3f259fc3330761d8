"""`--shard K/N`: a partition of the runs, the same everywhere; and the workflow of GitHub Actions that uses it."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.cli.app import app
from bnbench.study.plan import RunSpec
from bnbench.study.shards import part_of
from tests.same_results import assert_same
from tests.tiny_study import TINY

WORKFLOW = Path(__file__).parents[2] / "docs/examples/shards.yaml"


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> str:
    return " ".join(result.stderr.replace("│", " ").split())


def plan(variants: int, seeds: int) -> list[RunSpec]:
    settings: Any = None
    return [
        RunSpec(f"v{variant}", {}, seed, f"{variant:012x}", settings)
        for seed in range(10, 10 + seeds)
        for variant in range(variants)
    ]


def seconds(spec: RunSpec) -> float:
    return 1.0 + int(spec.cell, 16)


@pytest.mark.parametrize(
    ("variants", "seeds", "parts"),
    [(3, 10, 8), (3, 8, 8), (3, 5, 1), (5, 2, 8), (7, 3, 8), (1, 1, 4), (20, 500, 7), (4, 3, 100)],
)
def test_every_run_is_in_exactly_one_part(variants: int, seeds: int, parts: int) -> None:
    runs = plan(variants, seeds)
    shards = [part_of(runs, (part, parts), seconds) for part in range(1, parts + 1)]
    assert Counter(one.key for shard in shards for one in shard) == Counter(one.key for one in runs)
    place = {one.key: index for index, one in enumerate(runs)}
    for shard in shards:
        places = [place[one.key] for one in shard]
        assert places == sorted(places)  # in the plan's order
    if parts <= seeds:  # whole seeds, and as many as any other part or one fewer
        sizes = [len({one.seed for one in shard}) for shard in shards]
        assert all(len(shard) == size * variants for shard, size in zip(shards, sizes, strict=True))
        assert max(sizes) - min(sizes) <= 1
    else:
        assert all(len({one.seed for one in shard}) <= 1 for shard in shards)


def test_the_variants_of_a_seed_are_spread_by_their_seconds() -> None:
    """Costs 1 to 6 for two parts: 6+3+2 (or a like sum) against 5+4+1, the best there is is 10 and 11."""
    shards = [part_of(plan(6, 1), (part, 2), seconds) for part in (1, 2)]
    assert sorted(sum(map(seconds, shard)) for shard in shards) == [10, 11]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("9/8", "9/8: the parts are numbered from 1/8 to 8/8"),
        ("0/8", "0/8: the parts are numbered from 1/8 to 8/8"),
        ("1/0", "1/0: a study has 1 to 10,000 parts"),
        ("1/20000", "1/20000: a study has 1 to 10,000 parts"),
        ("a/b", "'a/b' is not a part of so many, such as 2/8"),
        ("2", "'2' is not a part of so many"),
        ("-1/8", "'-1/8' is not a part of so many"),
        ("1/8/2", "'1/8/2' is not a part of so many"),
        ("1.5/8", "'1.5/8' is not a part of so many"),
        ("", "'' is not a part of so many"),
    ],
)
def test_a_part_that_can_not_be_is_a_usage_error(text: str, problem: str, tmp_path: Path) -> None:
    done = run("compare", "smoke", "--shard", text, "--output", tmp_path / "x")
    assert done.exit_code == 2
    assert problem in said(done)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("shard", [(9, 8), (0, 8), "2/8", (1, 2, 3), (True, 2), 3])
def test_the_same_in_python(shard: Any) -> None:
    with pytest.raises(BnbenchError, match="shard: "):
        bnbench.Running(shard=shard)


def test_looks_and_gates_are_refused_in_a_part(tmp_path: Path) -> None:
    done = run("compare", "smoke", "seeds=auto", "--shard", "1/2", "--output", tmp_path / "x")
    assert (done.exit_code, "smoke has `seeds: auto`" in said(done)) == (1, True)
    gate = ("--fail-if", "batch.test_accuracy < 0.5")
    done = run("compare", "smoke", "--shard", "1/2", *gate, "--output", tmp_path / "x")
    assert (done.exit_code, "--fail-if at `bnbench merge`" in said(done)) == (2, True)
    assert not (tmp_path / "x").exists()


def commands(workflow: dict[str, Any], job: str) -> list[str]:
    """The commands of a job that call bnbench."""
    texts = [step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step]
    return [text for text in texts if text.startswith("bnbench")]


def test_the_workflow_of_github_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, with two parts in place of eight and a small study; the oracle is one folder of all runs."""
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["jobs"]["train"]["strategy"]["matrix"]["shard"] == list(range(1, 9))
    assert workflow["jobs"]["judge"]["needs"] == "train"
    monkeypatch.chdir(tmp_path)
    whole = bnbench.compare({**TINY, "seeds": 3}, output="whole")
    study = tmp_path / "whole/study.yaml"
    (training,) = commands(workflow, "train")
    for part in (1, 2):
        text = training.replace("${{ matrix.shard }}/8", f"{part}/2").replace(
            "quickstart seeds=8", str(study)
        )
        assert f"{study} --shard {part}/2 --output" in text
        done = run(*shlex.split(text)[1:])
        assert done.exit_code == 0, done.output
        assert f"This shard has {(4, 2)[part - 1]} of 6 runs" in said(done)
        assert f"Shard {part}/2 is complete" in said(done)
        shutil.move("ci-results", f"shards/shard-{part}")
    merging, reporting = map(shlex.split, commands(workflow, "judge"))
    place = merging.index("shards/*")
    words = [*merging[1:place], "shards/shard-1", "shards/shard-2", "--output", "merged"]
    done = run(*words, "--fail-if", "batch.val_loss worse than none")
    assert done.exit_code == 4, done.output  # too short a training: all runs are stuck at chance
    assert_same(Path("whole"), Path("merged"))
    assert len(whole.runs) == 6
    assert run(*reporting[1 : reporting.index(">>")]).exit_code == 0


def test_a_part_without_runs_is_done(tmp_path: Path) -> None:
    done = run("train", "smoke", "seeds=1", "--shard", "2/2", "--output", tmp_path / "x")
    assert done.exit_code == 0, done.output
    assert "This shard has 0 of 1 runs" in said(done)
