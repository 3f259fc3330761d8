"""`bnbench merge`: the oracle is one folder that trained all runs; parts of it are copies that lack some."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import bnbench
from bnbench.base.errors import ResultsError
from bnbench.base.files import to_json
from bnbench.cli.app import app
from bnbench.results import placing
from tests.same_results import assert_same
from tests.tiny_study import TINY

SEEDS = range(4)
STUDY: dict[str, Any] = {**TINY, "epochs": 12, "optimizer": {"name": "sgd", "lr": 0.5}}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("merge")
    bnbench.compare({**STUDY, "seeds": len(SEEDS)}, output=root / "whole")
    return root / "whole"


Part = Callable[..., Path]


@pytest.fixture
def part(trained: Path, tmp_path: Path) -> Part:
    """A copy of the whole folder with the runs of some seeds alone, as a shard leaves them."""

    def make(name: str, seeds: Iterable[int]) -> Path:
        folder = Path(shutil.copytree(trained, tmp_path / name))
        for path in folder.glob("runs/*/seed-*"):
            if int(path.name.removeprefix("seed-")) not in seeds:
                shutil.rmtree(path)
        return folder

    return make


def edit(folder: Path, variant: str, seed: int, **changes: Any) -> Path:
    """Change the run.json of a run; the folder of the run."""
    (path,) = folder.glob(f"runs/{variant}-*/seed-{seed}/run.json")
    values = json.loads(path.read_text())
    path.unlink()  # it may be a link
    path.write_text(to_json(values | changes))
    return path.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_parts_become_the_folder_that_trained_all_of_them(trained: Path, part: Part, tmp_path: Path) -> None:
    a, b, c = part("a", [0, 2]), part("b", [1]), part("c", [3, 2])
    before = [contents(folder) for folder in (a, b, c)]
    done = run("merge", a, b, c, "--output", tmp_path / "all", "--fail-if", "batch.test_accuracy < 2%")
    assert done.exit_code == 0, done.output
    assert "8 runs of 3 folders" in said(done)
    assert "batch against none" in " ".join(done.stdout.split())
    assert_same(trained, tmp_path / "all")
    for name in ("plan.json", "study.yaml", "environment.json"):
        assert (tmp_path / "all" / name).read_text() == (trained / name).read_text(), name
    assert [contents(folder) for folder in (a, b, c)] == before
    failed = run(
        "merge", a, b, c, "--output", tmp_path / "all", "--fail-if", "batch.test_accuracy > 2%", "-q"
    )
    assert failed.exit_code == 4


def test_a_part_that_is_missing_is_counted_and_may_come_later(
    trained: Path, part: Part, tmp_path: Path
) -> None:
    a, b, merged = part("a", [0, 1, 2]), part("b", [3]), tmp_path / "all"
    done = run("merge", a, "--output", merged, "-q")
    assert done.exit_code == 5
    assert "2 of 8 planned runs are in none of the folders" in said(done)
    assert f"bnbench compare {merged}/study.yaml --output {merged}" in said(done)
    assert run("merge", b, "--output", merged, "-q").exit_code == 0
    assert_same(trained, merged)


def test_other_seeds_and_variants_are_put_together(tmp_path: Path, trained: Path) -> None:
    """Of a study whose parts were asked for by hand: seeds by an override, a variant by `train`."""
    bnbench.compare(STUDY, output=tmp_path / "a", seeds=[0, 1])
    bnbench.train(STUDY, "none", output=tmp_path / "n", seeds=[2, 3])
    bnbench.train(STUDY, "batch", output=tmp_path / "b", seeds=[2, 3])
    comparison = bnbench.merge([tmp_path / "a", tmp_path / "b", tmp_path / "n"], tmp_path / "all")
    assert [(run["variant"], run["seed"]) for run in comparison.runs] == [
        (variant, seed) for variant in ("none", "batch") for seed in SEEDS
    ]
    assert (tmp_path / "all/study.yaml").read_text() == (trained / "study.yaml").read_text()
    assert any("baseline: none in" in text and "batch in" in text for text in comparison.warnings)
    looked = json.loads((tmp_path / "all/plan.json").read_text())["earlier"]
    assert looked == []  # two seeds show no verdict


def test_looks_of_the_folders_are_kept(part: Part, tmp_path: Path) -> None:
    """Each folder showed a result at 3 seeds: what comes after it says so. The same plan in both is no such look."""
    a, b = part("a", [0, 1, 2]), part("b", [1, 2, 3])
    for folder, seeds in ((a, [0, 1, 2]), (b, [1, 2, 3])):
        plan = json.loads((folder / "plan.json").read_text())
        plan["cells"] = [{**cell, "seeds": seeds} for cell in plan["cells"]]
        (folder / "plan.json").write_text(to_json(plan))
    comparison = bnbench.merge([a, b], tmp_path / "all")
    looked = json.loads((tmp_path / "all/plan.json").read_text())["earlier"]
    assert [(look["seeds"], look["primary"]) for look in looked] == [(3, "test_accuracy")]
    assert any("after a look at 3" in text for text in comparison.cautions)


def test_a_result_wins_over_a_crash_and_a_damaged_run(trained: Path, part: Part, tmp_path: Path) -> None:
    a, b = part("a", SEEDS), part("b", SEEDS)
    crashed = {"outcome": "crashed", "error": "OSError: no", "final": {}, "best": {}}
    edit(a, "none", 0, **crashed)
    (edit(b, "none", 1) / "history.csv").unlink()
    (edit(a, "batch", 2) / "checkpoint.safetensors").unlink()  # left behind: the other one has more
    done = run("merge", a, b, a, "--output", tmp_path / "all", "-q")
    assert done.exit_code == 0, done.output
    assert "is there twice: it counts once" in said(done)
    assert "seed-1: left out, as it can't be read" in said(done)
    assert_same(trained, tmp_path / "all")


def test_a_run_that_crashed_everywhere_stays_crashed(part: Part, tmp_path: Path) -> None:
    a, b = part("a", SEEDS), part("b", [1])
    edit(a, "none", 0, outcome="crashed", error="OSError: no", final={}, best={})
    assert run("merge", a, b, "--output", tmp_path / "all", "-q").exit_code == 3


def test_conflicts_are_named_all_at_once_and_nothing_is_written(part: Part, tmp_path: Path) -> None:
    a, b = part("a", SEEDS), part("b", SEEDS)
    run_json = json.loads(next(b.glob("runs/batch-*/seed-3/run.json")).read_text())
    edit(b, "batch", 3, best=run_json["best"] | {"val_loss": 9.0}, environment={"python": "2.7"})
    edit(a, "batch", 1, train_seconds=1e4, notes=["later"])  # no number of the run
    for name, place, value in (
        ("steps.csv", 2, "9.5"),
        ("history.csv", 1, "0.015625"),
    ):  # a line's last number
        path = next(b.glob("runs/none-*/seed-0")) / name
        lines = path.read_text().splitlines()
        path.unlink()
        lines[place] = lines[place].rpartition(",")[0] + f",{value}"
        path.write_text("\n".join(lines) + "\n")
    weights = next(b.glob("runs/none-*/seed-2")) / "checkpoint.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()
    weights.write_bytes(data)
    done = run("merge", a, b, "--output", tmp_path / "all")
    text = said(done)
    assert done.exit_code == 1
    assert "3 runs have two results that differ" in text
    assert "batch, seed 3: best val_loss" in text
    assert "and 9.0" in text
    assert "none, seed 0: history.csv from step 0 on; steps.csv from step 2 on" in text
    assert "none, seed 2: the weights" in text
    assert f"{a}/runs/" in text
    assert f"rm -r {b}/runs/" in text
    assert not (tmp_path / "all").exists()


def test_different_studies_are_named_with_what_differs(part: Part, tmp_path: Path) -> None:
    bnbench.compare({**STUDY, "optimizer": {"name": "sgd", "lr": 0.2}}, output=tmp_path / "b", seeds=1)
    a = part("a", [0])
    done = run("merge", a, tmp_path / "b", "--output", tmp_path / "all")
    assert done.exit_code == 1
    assert f"{a} and {tmp_path / 'b'} hold different studies" in said(done)
    assert f"optimizer.lr: 0.5 in {a}, 0.2 in {tmp_path / 'b'}" in said(done)
    assert not (tmp_path / "all").exists()


def test_what_can_not_be_merged_is_named_all_at_once(part: Part, tmp_path: Path) -> None:
    a, summary, nothing = part("a", [0]), part("summary", []), part("nothing", [])
    (summary / "plan.json").unlink()
    (tmp_path / "empty").mkdir()
    done = run("merge", a, summary, tmp_path / "empty", tmp_path / "gone", "--output", tmp_path / "all")
    assert done.exit_code == 1
    for text in ("keeps summary.json alone", "no results of bnbench here", "gone: there is no such folder"):
        assert text in said(done)
    done = run("merge", nothing, "--output", tmp_path / "all")
    assert (done.exit_code, "none of the runs is in" in said(done)) == (1, True)
    assert not (tmp_path / "all").exists()
    assert run("merge", "--output", tmp_path / "all").exit_code == 2
    assert run("merge", a).exit_code == 2
    with pytest.raises(ResultsError, match="no folder to merge"):
        bnbench.merge([], tmp_path / "all")


@pytest.mark.parametrize("place", ["a", "a/all", ".", "link"])
def test_the_folders_are_only_read(place: str, part: Part, tmp_path: Path) -> None:
    a = part("a", [0])
    (tmp_path / "link").symlink_to(a)
    before = contents(a)
    done = run("merge", a, "--output", tmp_path / place)
    assert done.exit_code == 1
    assert ("Those are only read" in said(done)) or ("is not empty" in said(done))
    assert contents(a) == before


def test_an_output_of_another_study_or_with_other_files_is_refused(part: Part, tmp_path: Path) -> None:
    a, other = part("a", [0]), tmp_path / "other"
    bnbench.compare({**STUDY, "batch_size": 16}, output=other, seeds=1)
    before = contents(other)
    done = run("merge", a, "--output", other)
    assert (done.exit_code, "hold different studies" in said(done)) == (1, True)
    assert contents(other) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("x")
    done = run("merge", a, "--output", tmp_path / "mine")
    assert (done.exit_code, "holds no results of bnbench (but notes.txt)" in said(done)) == (1, True)


@pytest.mark.parametrize("instant", [1, 2, 3, 7])
def test_a_merge_that_was_killed_is_repeated(
    instant: int, trained: Path, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th run that takes its place is the last thing that the first process does."""
    a, b, merged = part("a", [0, 1]), part("b", [2, 3]), tmp_path / "all"
    put, count = placing.put, iter(range(1, 100))

    def killed(aside: Path, target: Path) -> None:
        if next(count) == instant:
            os._exit(7)
        put(aside, target)

    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr("bnbench.results.folder.put", killed)
            bnbench.merge([a, b], merged)
        finally:  # no test goes on in the child
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert run("merge", a, b, "--output", merged, "-q").exit_code == 0
    assert_same(trained, merged)


def test_a_full_disk_is_one_message_and_the_same_command_goes_on(
    trained: Path, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, merged = part("a", [0, 1]), part("b", [2, 3]), tmp_path / "all"
    link, count = os.link, iter(range(100))

    def full(*words: Any) -> None:
        if next(count) > 9:
            raise OSError(28, "No space left on device")
        link(*words)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", full)
        done = run("merge", a, b, "--output", merged)
    assert done.exit_code == 1
    assert "No space left on device" in said(done)
    assert "free some space and run the same command again" in said(done)
    assert run("merge", a, b, "--output", merged, "-q").exit_code == 0
    assert_same(trained, merged)


def test_folders_of_several_studies_are_merged_study_by_study(
    trained: Path, part: Part, tmp_path: Path
) -> None:
    for parent, name, seeds in (("m1", "s", [0, 1]), ("m2", "s", [2, 3]), ("m1", "t", SEEDS)):
        (tmp_path / parent).mkdir(exist_ok=True)
        part("x", seeds).rename(tmp_path / parent / name)
    shutil.rmtree(tmp_path / "m1/t")
    bnbench.compare({**STUDY, "batch_size": 16}, output=tmp_path / "m1/t", seeds=1)
    done = run("merge", tmp_path / "m1", tmp_path / "m2", "--output", tmp_path / "all", "-q")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "all").iterdir() if path.is_dir()) == ["s", "t"]
    assert_same(trained, tmp_path / "all/s")
    mixed = run("merge", tmp_path / "m1", part("a", [0]), "--output", tmp_path / "other")
    assert (mixed.exit_code, "holds results folders" in said(mixed)) == (1, True)


def test_data_beside_the_study_is_found_from_the_merged_folder(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path of data leads to the same place; one that leads nowhere stays as it is."""
    from bnbench.results.merged_study import merged_study
    from bnbench.study import read_yaml

    a = part("a", [0])
    (tmp_path / "images").mkdir()
    study = read_yaml((a / "study.yaml").read_text(), "study.yaml").data
    plan = json.loads((a / "plan.json").read_text())
    for path, expected in (("../images", "../../images"), ("../elsewhere", "../elsewhere")):
        values = study | {"dataset": {"name": "imagefolder", "path": path}}
        (a / "study.yaml").write_text(json.dumps(values))
        text = merged_study([a], plan, tmp_path / "deep/all")
        assert text is not None
        assert read_yaml(text, "study.yaml").data["dataset"]["path"] == expected
