"""The interval for new test samples. Oracles: loops over the formula, and coverage of a known truth."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from new_samples import accuracy, coverage
from scipy import stats

from bnbench.analysis.new_samples import NewSamples, new_samples_interval
from bnbench.analysis.paired import compare
from bnbench.analysis.serial import as_json
from bnbench.analysis.summary import summarize
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.results import Cell, StudyResults
from bnbench.results.samples import read_samples, samples_bytes
from bnbench.study.records import RunRecord, TestSamples

SEEDS, COUNT = 4, 60
RANDOM = np.random.default_rng(3)


def by_loops(differences: list[list[float]]) -> tuple[float, float]:
    """The formulas of the module, one number at a time."""
    seeds, samples = len(differences), len(differences[0])
    of_seeds = statistics.variance([statistics.fmean(row) for row in differences]) / seeds
    columns = list(zip(*differences, strict=True))
    within = statistics.fmean(statistics.variance(column) for column in columns)
    between = statistics.variance([statistics.fmean(column) for column in columns])
    of_samples = max(0.0, between - within / seeds) / samples
    variance = of_seeds + of_samples
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_samples**2 / (samples - 1))
    mean = statistics.fmean(value for row in differences for value in row)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    return mean - half, mean + half


@pytest.mark.parametrize(("seeds", "samples"), [(2, 2), (3, 50), (5, 400)])
def test_against_loops(seeds: int, samples: int) -> None:
    random = np.random.default_rng(seeds)
    differences = (
        random.normal(0, 1, samples)
        + random.normal(0.1, 1, (seeds, 1))
        + random.normal(0, 1, (seeds, samples))
    )
    assert new_samples_interval(differences) == pytest.approx(by_loops(differences.tolist()))


def test_with_no_scatter_between_samples_it_is_the_t_interval_over_seeds() -> None:
    differences = np.repeat([[0.01], [0.02], [0.03]], 5, axis=1)
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert new_samples_interval(differences) == pytest.approx((0.02 - half, 0.02 + half), rel=1e-5)


def test_with_no_scatter_between_seeds_it_is_the_t_interval_over_samples() -> None:
    """Two seeds that answer alike: 3 right more and 1 fewer of 8."""
    answers = [1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0]
    expected = stats.ttest_1samp(answers, 0).confidence_interval()
    assert new_samples_interval(np.array([answers, answers])) == pytest.approx(tuple(expected))


def test_it_covers_a_truth_that_the_interval_for_new_seeds_misses() -> None:
    """20 seeds on 360 samples know these samples, not the source: about half of the intervals miss it."""
    new_seeds, new_samples = coverage(accuracy, 20, 360, 400, np.random.default_rng(1), 1 / 360)
    assert new_seeds < 0.7
    assert 0.92 <= new_samples <= 0.985  # s.e. 0.011 at 0.95


def answers(right: np.ndarray, labels: str = "these") -> TestSamples:
    return TestSamples(right.astype(np.uint8), (1 - 0.5 * right).astype(np.float32), labels)


def cell(name: str, share: float, **more: Any) -> tuple[Cell, dict[tuple[str, int], TestSamples]]:
    kept, runs = {}, []
    for seed in range(SEEDS):
        found = answers(RANDOM.random(COUNT) < share + 0.02 * seed)
        kept[name, seed] = found
        final = {
            "test_accuracy": float(found.right.mean()),
            "test_loss": float(found.loss.mean()),
            "val_loss": 0.5,
        }
        runs.append(
            RunRecord(name, {}, seed, name, name, "finished", final=final, best=final,
                      num_samples={"test": COUNT}, **more)
        )  # fmt: skip
    return Cell(name, {}, name, tuple(range(SEEDS)), tuple(runs)), kept


NONE, NONE_ANSWERS = cell("none", 0.5)
BATCH, BATCH_ANSWERS = cell("batch", 0.9)
KEPT = {**NONE_ANSWERS, **BATCH_ANSWERS}


def results(kept: dict[tuple[str, int], TestSamples]) -> StudyResults:
    return StudyResults(
        "demo", "none", (), (NONE, BATCH), samples=lambda c, run: kept.get((c.variant, run.seed))
    )


def test_a_study_shows_both_intervals() -> None:
    summary = summarize(results(KEPT))
    found = next(c for c in summary.comparisons if c.verdict)
    matrix = [
        [float(a) - float(b) for a, b in zip(KEPT["batch", s].right, KEPT["none", s].right, strict=True)]
        for s in range(SEEDS)
    ]
    assert (found.new_low, found.new_high) == pytest.approx(
        (min(by_loops(matrix)[0], found.ci_low), max(by_loops(matrix)[1], found.ci_high))
    )
    assert found.num_samples == COUNT
    sentence = verdict_sentences(summary)[0]
    assert "(95% interval 28.1 to 56.9, p 0.0026, 4 seeds; the same for new test samples)" in sentence
    two = verdict_sentences(
        replace(summary, comparisons=tuple(replace(c, n=2) for c in summary.comparisons))
    )[0]
    assert "interval" not in two.partition(")")[0]
    assert "new test samples" not in two  # of two seeds, neither interval says anything
    table = next(t for t in tables(summary) if t.title == "Difference from none")
    assert table.columns[3] == "new samples"
    shown = {c["metric"]: c["new_low"] for c in as_json(summary)["comparisons"] if c["at"] == "final"}
    assert shown["test_accuracy"] == found.new_low
    assert shown["test_loss"] is not None
    assert shown["val_loss"] is None


@pytest.mark.parametrize("grain", [0.0, 0.5])
def test_it_is_never_narrower_than_the_first(grain: float) -> None:
    flat = {key: answers(np.arange(COUNT) < 30 + 3 * key[1]) for key in KEPT}
    for seed in range(SEEDS):
        flat["batch", seed] = answers(np.arange(COUNT) < 33 + 3 * seed + seed % 2)
    pairs = {name: Cell(name, {}, name, tuple(range(SEEDS)), tuple(
        RunRecord(name, {}, seed, name, name, "finished", final={"test_accuracy": float(flat[name, seed].right.mean())},
                  class_counts={"test": (int(1 / grain),)} if grain else {}, class_names=("a",))
        for seed in range(SEEDS))) for name in ("none", "batch")}  # fmt: skip
    study = StudyResults(
        "demo", "none", (), tuple(pairs.values()), samples=lambda c, run: flat[c.variant, run.seed]
    )
    first = compare(pairs["batch"], pairs["none"], "test_accuracy", "final")
    (found,) = NewSamples(study).added([first])
    assert found.new_low is not None
    assert found.new_low <= found.ci_low
    assert found.new_high >= found.ci_high


@pytest.mark.parametrize("broken", ["missing", "other labels", "other number", "not finite"])
def test_where_the_samples_are_not_the_same_there_is_no_second_interval(broken: str) -> None:
    kept = dict(KEPT)
    right = KEPT["batch", 2].right
    match broken:
        case "missing":
            del kept["batch", 2]
        case "other labels":
            kept["batch", 2] = answers(right, "those")
        case "other number":
            kept["batch", 2] = answers(right[:-1])
        case "not finite":
            kept["batch", 2] = TestSamples(right, np.full(COUNT, np.nan, np.float32), "these")
    found = {c.metric: c for c in summarize(results(kept)).comparisons if c.at == "final"}
    assert found["test_loss"].new_low is None
    assert (found["test_accuracy"].new_low is None) == (broken != "not finite")
    assert found["test_accuracy"].ci_low is not None


def test_a_file_that_can_not_be_read_is_a_warning() -> None:
    def load(cell: Cell, run: RunRecord) -> TestSamples | None:
        if (cell.variant, run.seed) == ("batch", 1):
            raise ValueError("it is not of 60 test samples")
        return KEPT[cell.variant, run.seed]

    summary = summarize(StudyResults("demo", "none", (), (NONE, BATCH), samples=load))
    assert summary.warnings == (
        "batch, seed 1: no interval for new samples, as its answers on the test samples can't be read: it is not of "
        "60 test samples.",
    )


def test_files_come_back(tmp_path: Path) -> None:
    path, run = tmp_path / "test_samples.safetensors", BATCH.records[0]
    assert read_samples(path, run) is None
    path.write_bytes(samples_bytes(KEPT["batch", 0]))
    back = read_samples(path, run)
    assert back is not None
    assert back.right.tolist() == KEPT["batch", 0].right.tolist()
    assert back.loss.tolist() == KEPT["batch", 0].loss.tolist()
    assert back.labels == "these"


def bytes_of(right: np.ndarray, loss: np.ndarray) -> bytes:
    return samples_bytes(TestSamples(right, loss, "these"))


GOOD = KEPT["batch", 0]
DAMAGE = {
    "empty": b"",
    "cut": bytes_of(GOOD.right, GOOD.loss)[:-1],
    "no header": b"\x00" * 300,
    "a huge header": b"\xff" * 300,
    "nested without end": (200).to_bytes(8, "little") + b"[" * 200,
    "another run's": bytes_of(KEPT["none", 0].right, KEPT["none", 0].loss),
    "too long": bytes_of(np.tile(GOOD.right, 50), np.tile(GOOD.loss, 50)),
    "very long": b"\x00" * 100_000,
    "shorter": bytes_of(GOOD.right[:-1], GOOD.loss[:-1]),
    "of two axes": bytes_of(GOOD.right.reshape(2, -1), GOOD.loss.reshape(2, -1)),
    "an answer of 7": bytes_of(np.where(np.arange(COUNT) == 0, 7, GOOD.right).astype(np.uint8), GOOD.loss),
    "other types": samples_bytes(TestSamples(GOOD.right.astype(np.int64), GOOD.loss, "these")),
    "other loss": bytes_of(GOOD.right, GOOD.loss * 2),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "test_samples.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\w"):
        read_samples(path, BATCH.records[0])


def test_bytes_changed_at_random_raise_nothing_else(tmp_path: Path) -> None:
    path, whole, random = (
        tmp_path / "test_samples.safetensors",
        bytes_of(GOOD.right, GOOD.loss),
        np.random.default_rng(0),
    )
    for _ in range(500):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 5)):
            content[place] = random.integers(0, 256)
        path.write_bytes(bytes(content))
        try:
            read_samples(path, BATCH.records[0])
        except ValueError:
            continue
