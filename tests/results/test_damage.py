"""A real results folder, damaged in many ways: named and counted, or refused; nothing is lost in silence."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from bnbench.cli.app import app

STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 128
epochs: 2
seeds: 3
variants:
  none:  {norm: none}
  batch: {norm: batch}
target: {metric: val_accuracy, value: 0.5}
"""
PLANNED = {(variant, str(seed)) for variant in ("none", "batch") for seed in range(3)}
SAMPLES = "test_samples.safetensors"
#: The run that is damaged.
VICTIM = ("batch", "1")

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a real run of two variants on three seeds left, without the weights."""
    root = tmp_path_factory.mktemp("healthy")
    (root / "tiny.yaml").write_text(STUDY)
    out = root / "tiny"
    result = CliRunner().invoke(
        app, ["compare", str(root / "tiny.yaml"), "-o", str(out), "-q", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    for name in ("checkpoint.safetensors", "report.html", "summary.json", "summary.csv"):
        for path in out.rglob(name):
            path.unlink()
    return out


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    return shutil.copytree(healthy, tmp_path / "tiny")


def victim(folder: Path) -> Path:
    (found,) = folder.glob(f"runs/{VICTIM[0]}-*/seed-{VICTIM[1]}")
    return found


def report(folder: Path) -> tuple[Result, dict[tuple[str, str], dict[str, str]]]:
    """What `report --format csv` says, and its rows by variant and seed."""
    result = CliRunner().invoke(app, ["report", str(folder), "--format", "csv"])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    rows = {(row["variant"], row["seed"]): row for row in csv.DictReader(result.stdout.splitlines())}
    return result, rows


def edit(name: str, change: Callable[[Any], Any]) -> Damage:
    """Change the JSON of a file of the run, or of the folder where the name starts with a slash."""

    def damage(folder: Path) -> None:
        path = folder / name[1:] if name.startswith("/") else victim(folder) / name
        values = json.loads(path.read_text())
        changed = change(values)
        path.write_text(json.dumps(values if changed is None else changed))

    return damage


def put(key: str, value: Any, name: str = "run.json") -> Damage:
    """Set a dotted key."""

    def change(values: Any) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            values = values[int(parent)] if isinstance(values, list) else values[parent]
        values[int(last) if isinstance(values, list) else last] = value

    return edit(name, change)


def put_yaml(key: str, value: Any) -> Damage:
    """Set a key of study.yaml."""

    def damage(folder: Path) -> None:
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: value}))

    return damage


def drop(key: str, name: str = "run.json") -> Damage:
    return edit(name, lambda values: values.pop(key) and None)


def raw(name: str, content: bytes) -> Damage:
    return lambda folder: (victim(folder) / name).write_bytes(content)


def lines(name: str, change: Callable[[list[str]], list[str]]) -> Damage:
    def damage(folder: Path) -> None:
        path = victim(folder) / name
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return damage


def instead(name: str, what: str) -> Damage:
    """A folder, a file, a link to itself or nothing in a file's (or the run's own folder's) place."""

    def damage(folder: Path) -> None:
        path = victim(folder) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if what == "folder":
            path.mkdir()
        elif what == "file":
            path.write_text("not a folder")
        elif what == "loop":
            path.symlink_to(path)

    return damage


def column(name: str, drop: str) -> Damage:
    """Take a column out of a CSV file."""

    def change(text: list[str]) -> list[str]:
        index = text[0].split(",").index(drop)
        return [",".join(cell for i, cell in enumerate(row.split(",")) if i != index) for row in text]

    return lines(name, change)


LOST: dict[str, Damage] = {
    "run.json empty": raw("run.json", b""),
    "run.json cut": lambda folder: (
        (victim(folder) / "run.json").write_bytes((victim(folder) / "run.json").read_bytes()[:200]) and None
    ),
    "run.json a list": raw("run.json", b"[]"),
    "run.json null": raw("run.json", b"null"),
    "run.json nested without end": raw("run.json", b"[" * 100_000),
    "run.json no text": raw("run.json", b"\xff\xfe\x00\x81"),
    "run.json with a NUL": raw("run.json", b'{"schema_version": 1\x00}'),
    "run.json missing": instead("run.json", "nothing"),
    "run.json a folder": instead("run.json", "folder"),
    "run.json a link to itself": instead("run.json", "loop"),
    "run folder a file": instead("", "file"),
    "run folder a link to itself": instead("", "loop"),
    "newer run": put("schema_version", 99),
    "older run than any": put("schema_version", 0),
    "version a word": put("schema_version", "one"),
    "no outcome": drop("outcome"),
    "no final": drop("final"),
    "no seed": drop("seed"),
    "unknown outcome": put("outcome", "splendid"),
    "outcome of another type": put("outcome", ["finished"]),
    "steps a word": put("steps", "many"),
    "steps NaN": put("steps", float("nan")),
    "steps huge": put("steps", 10**400),
    "steps negative": put("steps", -42),
    "planned steps huge": put("planned_steps", 10**30),
    "seconds infinite": put("train_seconds", float("inf")),
    "seconds NaN": put("train_seconds", float("nan")),
    "seconds negative": put("train_seconds", -1.0),
    "a metric that is a word": put("final.val_loss", "low"),
    "a metric that is a list": put("final.val_loss", [1]),
    "a metric as huge as an integer can be": put("final.val_loss", 10**400),
    "a loss above float32": put("final.test_loss", 1e308),
    "an accuracy in percent": put("final.test_accuracy", 97.0),
    "a negative accuracy": put("final.val_accuracy", -0.1),
    "final empty": put("final", {}),
    "final a list": put("final", []),
    "samples negative": put("num_samples.test", -360),
    "environment a word": put("environment", "cpu"),
    "notes a number": put("notes", 3),
    "seed of another run": put("seed", 2),
    "variant of another run": put("variant", "none"),
    "cell of other settings": put("cell", "000000000000"),
    "another setting": put("setting", {"optimizer.lr": 1}),
    "history empty": raw("history.csv", b""),
    "history a header": lines("history.csv", lambda text: text[:1]),
    "history missing": instead("history.csv", "nothing"),
    "history a folder": instead("history.csv", "folder"),
    "history no text": raw("history.csv", b"\xff\xfe\x81\n"),
    "history cut at a line": lines("history.csv", lambda text: text[:-1]),
    "history cut in a line": lines("history.csv", lambda text: [*text[:-1], text[-1][:9]]),
    "history out of order": lines("history.csv", lambda text: [text[0], *reversed(text[1:])]),
    "history with a row twice": lines("history.csv", lambda text: [*text, text[-1]]),
    "history with a word": lines("history.csv", lambda text: [text[0], text[1].replace("0.0", "soon")]),
    "history without the target": column("history.csv", "val_accuracy"),
    "history without steps": column("history.csv", "step"),
    "history with an accuracy of 50": lines(
        "history.csv", lambda text: [*text[:-1], text[-1].rpartition(",")[0] + ",50"]
    ),
    "history with a field without end": raw("history.csv", b'step,epoch\n"' + b"x" * 200_000),
    "steps cut at a line": lines("steps.csv", lambda text: text[:-2]),
    "steps with a word": lines("steps.csv", lambda text: [*text[:-1], "22,oops"]),
    "steps without its column": column("steps.csv", "batch_loss"),
}  # fmt: skip


@pytest.mark.parametrize("damage", LOST.values(), ids=LOST.keys())
def test_a_damaged_run_is_named_and_missing_and_the_others_are_shown(damage: Damage, folder: Path) -> None:
    damage(folder)
    result, rows = report(folder)
    assert result.exit_code == 0, result.output
    assert set(rows) == PLANNED
    for key, row in rows.items():
        assert row["outcome"] == ("missing" if key == VICTIM else "finished")
        assert (row["final_test_accuracy"] == "") == (key == VICTIM)
    assert f"Warning: {victim_path(folder)}: left out, as" in result.stderr
    told = json.loads((folder / "summary.json").read_text())
    assert [variant["outcomes"]["missing"] for variant in told["variants"]] == [0, 1]
    assert {found["n"] for found in told["comparisons"]} == {2}


def victim_path(folder: Path) -> Path:
    """Its path, also where it can't be listed any more."""
    (cell,) = folder.glob(f"runs/{VICTIM[0]}-*")
    return cell / f"seed-{VICTIM[1]}"


REFUSED: dict[str, tuple[Damage, str]] = {
    "plan empty": (lambda folder: (folder / "plan.json").write_text(""), "damaged"),
    "plan nested without end": (lambda folder: (folder / "plan.json").write_text("[" * 99_999), "damaged"),
    "plan no text": (lambda folder: (folder / "plan.json").write_bytes(b"\xff\xfe"), "damaged"),
    "plan a folder": (
        lambda folder: ((folder / "plan.json").unlink(), (folder / "plan.json").mkdir())[1],
        "Is a directory",
    ),
    "plan missing": (lambda folder: (folder / "plan.json").unlink(), "plan.json is missing"),
    "plan of a newer version": (put("schema_version", 2, "/plan.json"), "schema version 2"),
    "plan of version true": (put("schema_version", "1", "/plan.json"), "schema_version is '1'"),
    "plan without cells": (drop("cells", "/plan.json"), "cells: Field required"),
    "plan with no cell": (put("cells", [], "/plan.json"), "cells"),
    "a cell that is a number": (put("cells.0", 3, "/plan.json"), "cells.0"),
    "seeds that are words": (put("cells.1.seeds", ["0", "1"], "/plan.json"), "cells.1.seeds.0"),
    "seeds that are no list": (put("cells.1.seeds", 3, "/plan.json"), "cells.1.seeds"),
    "a seed twice": (put("cells.1.seeds", [0, 1, 1], "/plan.json"), "seed 1 of batch is there twice"),
    "a variant twice": (
        edit("/plan.json", lambda plan: plan["cells"].append(plan["cells"][0])),
        "the variant none is there twice",
    ),
    "a variant outside the folder": (put("cells.1.variant", "../../none", "/plan.json"), "cells.1.variant"),
    "a variant of 300 letters": (put("cells.1.variant", "x" * 300, "/plan.json"), "cells.1.variant"),
    "a target of an unknown metric": (put("targets.0.metric", "val_f1", "/plan.json"), 'unknown metric "val_f1"'),
    "a target that is a word": (put("targets.0.value", "high", "/plan.json"), "targets.0.value"),
    "an unknown primary metric": (put("primary", "test_f1", "/plan.json"), 'unknown metric "test_f1"'),
    "a margin without a value": (put("margin", {"metric": "test_loss"}, "/plan.json"), "margin.value"),
    "a name that is a number": (put("name", 3, "/plan.json"), "name"),
    "all runs gone": (lambda folder: shutil.rmtree(folder / "runs"), "none of its runs is here"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_folder_without_a_plan_that_holds_is_refused_and_left_alone(
    damage: Damage, said: str, folder: Path
) -> None:
    damage(folder)
    before = sorted(folder.rglob("*"))
    result, rows = report(folder)
    assert result.exit_code == 1
    assert not rows
    assert str(folder) in result.stderr
    assert said in result.stderr
    assert sorted(folder.rglob("*")) == before


WARNED: dict[str, tuple[Damage, str]] = {
    "study no mapping": (lambda folder: (folder / "study.yaml").write_text("- 1"), "study.yaml"),
    "study no YAML": (lambda folder: (folder / "study.yaml").write_text("a: ["), "study.yaml"),
    "study missing": (lambda folder: (folder / "study.yaml").unlink(), "study.yaml"),
    "environment cut": (lambda folder: (folder / "environment.json").write_text('{"a'), "environment.json"),
    "environment no text": (
        lambda folder: (folder / "environment.json").write_bytes(b"\xff"),
        "environment.json",
    ),
    "environment of another version": (
        put("environment.torch", "1.13.0"),
        "the runs were not all trained under the same circumstances (torch: ",
    ),
    "answers on the samples cut": (
        lambda folder: (victim(folder) / SAMPLES).write_bytes((victim(folder) / SAMPLES).read_bytes()[:-9]),
        "no interval for new samples, as its answers on the test samples can't be read",
    ),
    "answers of one run gone": (
        lambda folder: (victim(folder) / SAMPLES).unlink(),
        "no interval for new samples, as its answers on the test samples are not there",
    ),
    "answers of another run": (
        lambda folder: shutil.copy(next(folder.glob("runs/none-*/seed-0")) / SAMPLES, victim(folder)),
        "its mean is not the run's test_",
    ),
    "answers that are no file of arrays": (raw("test_samples.safetensors", b"x" * 500), "can't be read"),
    "a study that varies nothing": (put_yaml("vary", 5), "study.yaml: vary: 5 is not a list"),
    "a check of a study that is there no more": (put("checks", {"batch": "none"}, "/plan.json"), ""),
    "a baseline that is not there": (put("baseline", "ghost", "/plan.json"), "the baseline ghost has no runs"),
    "runs of other settings": (
        lambda folder: shutil.copytree(victim(folder).parent, folder / "runs" / "batch-0123456789ab"),
        "also contains 3 runs with other settings or seeds",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), WARNED.values(), ids=WARNED.keys())
def test_what_no_number_needs_is_a_warning(damage: Damage, said: str, folder: Path) -> None:
    damage(folder)
    result, rows = report(folder)
    assert result.exit_code == 0, result.output
    assert set(rows) == PLANNED
    assert {row["outcome"] for row in rows.values()} == {"finished"}
    assert said in " ".join(result.stderr.split())


def test_a_plan_that_names_more_than_is_there(folder: Path) -> None:
    plan = folder / "plan.json"
    values = json.loads(plan.read_text())
    values["cells"].append({"variant": "ghost", "setting": {}, "cell": "0123456789ab", "seeds": [0, 1]})
    values["cells"][1]["seeds"] = [0, 1, 2, 3]
    plan.write_text(json.dumps(values))
    result, rows = report(folder)
    assert result.exit_code == 0
    assert {key for key, row in rows.items() if row["outcome"] == "missing"} == {
        ("ghost", "0"), ("ghost", "1"), ("batch", "3"),
    }  # fmt: skip


def test_swapped_run_folders_are_both_named(folder: Path) -> None:
    cell = victim(folder).parent
    (cell / "seed-0").rename(cell / "aside")
    (cell / "seed-1").rename(cell / "seed-0")
    (cell / "aside").rename(cell / "seed-1")
    result, rows = report(folder)
    assert {key for key, row in rows.items() if row["outcome"] == "missing"} == {
        ("batch", "0"),
        ("batch", "1"),
    }
    for seed in (0, 1):
        assert (
            f"{cell / f'seed-{seed}'}: left out, as it can't be right: run.json belongs to batch"
            in result.stderr
        )


def test_the_tables_and_the_page_of_a_damaged_folder(folder: Path) -> None:
    LOST["history cut at a line"](folder)
    result = CliRunner().invoke(app, ["report", str(folder)], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert "history.csv ends at step 11, the run at 22" in result.stdout
    assert "1 of 3 runs of batch is missing" in result.stdout
    assert (folder / "report.html").exists()


def compare(folder: Path, healthy: Path) -> Result:
    words = [
        "compare",
        str(healthy.parent / "tiny.yaml"),
        "-o",
        str(folder),
        "--format",
        "csv",
        "--device",
        "cpu",
    ]
    return CliRunner().invoke(app, words)


def plan_is(kind: str, folder: Path) -> None:
    plan = folder / "plan.json"
    plan.unlink()
    if kind == "a pipe":
        os.mkfifo(plan)
    elif kind == "a link to itself":
        plan.symlink_to(plan.name)
    else:
        plan.write_text("{")


@pytest.mark.parametrize("plan", ["cut", "a pipe", "a link to itself"])
@pytest.mark.parametrize("lost", ["run.json", "answers"])
def test_compare_mends_what_is_damaged(lost: str, plan: str, folder: Path, healthy: Path) -> None:
    if lost == "answers":
        (victim(folder) / SAMPLES).write_bytes(b"x" * 500)
    else:
        LOST["run.json cut"](folder)
    plan_is(plan, folder)
    result = compare(folder, healthy)
    assert result.exit_code == 0, result.output
    assert "can't be read" not in result.stderr
    assert "5 of 6 runs are finished already" in result.stderr
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["outcome"] for row in rows] == ["finished"] * 6


def test_a_file_in_place_of_the_runs_is_refused_before_anything_trains(folder: Path, healthy: Path) -> None:
    shutil.rmtree(folder / "runs")
    (folder / "runs").write_text("")
    result = compare(folder, healthy)
    assert result.exit_code == 1
    assert "runs: it is not a folder, so no run can be kept there." in result.stderr
    assert "epoch" not in result.stderr


JUNK: list[Any] = [
    None, True, -1, 0, 3.5, 10**400, 1e308, float("nan"), float("-inf"), "", "x", "\x00", [], [[]], {},
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_damaged_nothing_is_lost_in_silence(
    seed: int, healthy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = random.Random(seed)
    folder = shutil.copytree(healthy, tmp_path_factory.mktemp("fuzz") / "tiny")
    target = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    mangle(target, draw)
    result, rows = report(folder)
    shutil.rmtree(folder)
    assert result.exit_code in (0, 1, 3), result.output
    if result.exit_code == 1:
        assert str(folder) in result.stderr
        return
    lost = {key for key, row in rows.items() if row["outcome"] == "missing"}
    named = result.stderr.count(": left out, as")
    if target.name == "plan.json":  # it may have become another plan that holds
        unshown = PLANNED - {key for key, row in rows.items() if row["outcome"] == "finished"}
        assert not unshown or named or "of other settings or seeds" in result.stderr
    else:
        assert set(rows) == PLANNED
        assert len(lost) == named <= 1
        assert not lost or str(target.parent) in result.stderr


def mangle(path: Path, draw: random.Random) -> None:
    """Cut a file, overwrite some bytes, or put junk in the place of one value of its JSON."""
    content = bytearray(path.read_bytes())
    how = draw.choice(["cut", "bytes", "junk"])
    if how == "junk" and path.suffix == ".json":
        values = json.loads(content)
        places = [(values, key) for key in values]
        for value in list(values.values()):
            if isinstance(value, dict | list):
                places += [(value, key) for key in (value if isinstance(value, dict) else range(len(value)))]
        holder, key = draw.choice(places)
        holder[key] = draw.choice(JUNK)
        path.write_text(json.dumps(values))
        return
    if how == "cut":
        del content[draw.randrange(len(content)) :]
    else:
        for _ in range(draw.randint(1, 5)):
            content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)
