"""Nothing in a figure is cut or covered: every text lies inside its picture, and on no other text or line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.reports.figures.files import write_figures
from bnbench.results import StudyResults
from bnbench.study import Target
from tests.fabricated import cell, record, results
from tests.fabricated_extremes import STUDIES
from tests.reports.pictures import lines_of, size_of, texts_of

NAMES = ["none", *(f"variant_{number:02d}_{'abcdefghij' * 3}" for number in range(29))]


def many_variants() -> StudyResults:
    cells = [
        cell(name, [record(name, s, (2.3, 1.0 + i / 40, 0.5 + i / 60 + s * (i + 1) / 300)) for s in range(3)])
        for i, name in enumerate(NAMES)
    ]
    return results(*cells, targets=(Target("val_accuracy", 0.9),))


def swept(keys: Mapping[str, tuple[object, ...]], losses: tuple[float, ...] = (0.5,)) -> StudyResults:
    """Two variants at every setting; the losses in turn."""
    settings: list[dict[str, object]] = [{}]
    for key, values in keys.items():
        settings = [{**setting, key: value} for setting in settings for value in values]
    cells = [
        cell(
            v,
            [
                record(v, s, (2.3, 1.0, losses[i % len(losses)] + s / 90), setting=setting)
                if losses[i % len(losses)] == losses[i % len(losses)]
                else record(v, s, (2.3, math.nan), "not_finite", setting=setting)
                for s in range(3)
            ],
            setting,
        )
        for v in ("none", "batch")
        for i, setting in enumerate(settings)
    ]
    return replace(results(*cells), primary="test_loss")


MORE = {
    "30 variants": many_variants,
    "near rates": lambda: swept({"optimizer.lr": tuple(360.0 + 5 * i for i in range(9))}),
    "many cells": lambda: swept(
        {"optimizer.lr": tuple(round(0.01 * 1.7**i, 4) for i in range(12)), "batch_size": (16, 32, 64)},
        (0.12345, 0.12346, 1234.5, math.nan, 1e-7),
    ),
    "long values": lambda: swept(
        {"norm.mode": ("a" * 40, "b" * 40, "c"), "optimizer.name": ("sgd", "adam", "n" * 30)}
    ),
}


FROM_ELSEWHERE = (
    "two seeds", "ten seeds", "perfect", "nasty names", "one key swept", "a loss over two keys", "names swept",
    "huge loss", "tiny loss",
)  # fmt: skip


@pytest.fixture(scope="module", params=[*FROM_ELSEWHERE, *MORE])
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = (MORE | STUDIES)[request.param]()
    paths = write_figures(summarize(made), tmp_path_factory.mktemp("figures"), "svg")
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


@pytest.mark.slow
def test_every_text_lies_inside(pictures: dict[str, str]) -> None:
    for name, svg in pictures.items():
        width, height = size_of(svg)
        for text in texts_of(svg):
            assert text.left >= -1, (name, text)
            assert text.right <= width + 1, (name, text)
            assert text.top >= -1, (name, text)
            assert text.bottom <= height + 1, (name, text)


def test_no_text_covers_another(pictures: dict[str, str]) -> None:
    for name, svg in pictures.items():
        found = texts_of(svg)
        for index, text in enumerate(found):
            for other in found[index + 1 :]:
                assert not text.meets(other), (name, text, other)


def test_no_name_lies_on_the_zero_line(pictures: dict[str, str]) -> None:
    for name, svg in pictures.items():
        if not name.startswith("differences"):
            continue
        zero, *_ = lines_of(svg, "layer_0_marks")
        for text in texts_of(svg):
            if text.bottom < zero[3]:  # in the plot, not at its axis
                assert not text.left < zero[0] < text.right, (name, text)


def accuracies(*values: float, n: int = 3) -> Summary:
    """Two variants whose accuracies are these over the seeds; the loss that `record` turns into them."""
    losses = [10 * (1 - value) for value in values]
    return summarize(
        results(*(cell(v, [record(v, s, (loss, loss)) for s, loss in enumerate(losses)]) for v in "ab"))
    )


@pytest.mark.parametrize("values", [(1.0, 1.0, 0.97), (0.0, 0.0, 0.02), (1.0, 1.0, 1.0)])
def test_no_axis_of_an_accuracy_goes_beyond_0_or_100(values: tuple[float, ...], tmp_path: Path) -> None:
    write_figures(accuracies(*values), tmp_path, "svg")
    for name in ("val_accuracy", "train_accuracy"):
        ticks = [
            text.text
            for text in texts_of((tmp_path / f"{name}.svg").read_text())
            if text.role == "role-axis-label" and text.right < 60
        ]
        numbers = [float(tick.replace("−", "-")) for tick in ticks]
        assert numbers
        assert all(0 <= number <= 100 for number in numbers), numbers


def test_a_sweep_of_accuracies_ends_at_100(tmp_path: Path) -> None:
    cells = [
        cell(
            v, [record(v, s, (9.0, loss), setting=setting) for s, loss in enumerate((0.0, 0.0, 3.0))], setting
        )
        for v in ("none", "batch")
        for setting in ({"optimizer.lr": 0.1}, {"optimizer.lr": 1.0})
    ]
    write_figures(summarize(results(*cells)), tmp_path, "svg")
    texts = {text.text for text in texts_of((tmp_path / "sweep.svg").read_text())}
    assert "100" in texts  # the mean is 90, its standard deviation 17
    assert not {"105", "110", "120"} & texts
