"""Names and numbers in figures are whole: legends, rows of a forest plot, cells of a heat map."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bnbench.analysis.contents import Summary
from bnbench.reports.figures import sweep_data
from bnbench.reports.figures.all import figures
from bnbench.reports.figures.files import write_figures

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.fabricated import cell, record, study

NONE = cell("none", [record("none", seed, [3.0, 2.0, 1.5]) for seed in range(3)])

LONG = [f"variant_{number:02d}_{'abcdefghij' * 3}" for number in range(29)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [LONG, ["torch", "torch_batch_keras", "keras_batch_torch", "x" * 60, "雪" * 40]]
)
def test_names_are_whole_in_the_files(tmp_path: Path, names: list[str]) -> None:
    cells = [cell(name, [record(name, seed, [3.0, 2.0, 1.0 + seed]) for seed in range(3)]) for name in names]
    for path in write_figures(study(NONE, *cells), tmp_path, "svg"):
        picture = ElementTree.fromstring(path.read_text())
        texts = ["".join(item.itertext()) for item in picture.iter() if item.tag.endswith("text")]
        assert not any("…" in text for text in texts), path
        assert set(names) <= set(texts), path
        if not path.stem.startswith(
            "differences"
        ):  # a legend has each name in one line; a forest plot folds it
            assert float(picture.attrib["width"]) >= max(map(least_of, names)), path


def least_of(name: str) -> float:
    """What a name needs at 8 pixels: half an em a letter, an em a character of Chinese."""
    return sum(4 if letter.isascii() else 8 for letter in name)


def swept(values: Mapping[tuple[float, int], float]) -> Summary:
    """Loss by learning rate and batch size, the same with every seed."""
    settings = [({"optimizer.lr": lr, "batch_size": size}, loss) for (lr, size), loss in values.items()]
    cells = [
        cell("none", [record("none", seed, [3.0, loss], setting=setting) for seed in range(3)], setting)
        for setting, loss in settings
    ]
    return replace(study(*cells), primary="test_loss")


def test_a_heat_map_of_a_loss_tells_its_cells_apart(tmp_path: Path) -> None:
    summary = swept({(0.1, 32): 0.164, (0.1, 64): 0.187, (0.2, 32): 0.255, (0.2, 64): 0.0141})
    figure = next(figure for figure in figures(summary) if figure.name == "heat_1")
    assert [row["text"] for row in figure.data["heat_1"]] == ["0.164", "0.187", "0.255", "0.014"]
    assert "none is best at optimizer.lr=0.2, batch_size=64 with 0.0141" in figure.alternative
    assert "%" not in figure.alternative
    assert figure.table.columns[2] == "test loss"
    write_figures(summary, tmp_path, "svg")
    assert {">0.164<", ">0.255<"} <= set(re.findall(">[0-9.]+<", (tmp_path / "heat_1.svg").read_text()))


def test_as_many_decimals_as_it_takes_to_tell_values_apart() -> None:
    texts = sweep_data.distinct_texts
    assert texts([0.164, 0.187], percent=False) == {0.164: "0.164", 0.187: "0.187"}
    assert texts([0.1641, 0.1642], percent=False) == {0.1641: "0.1641", 0.1642: "0.1642"}
    assert texts([0.0004, 0.3], percent=False) == {0.0004: "0.0004", 0.3: "0.3000"}
    assert texts([97.12, 97.13], percent=True) == {97.12: "97.12", 97.13: "97.13"}
    assert texts([97.12, 91.0], percent=True) == {97.12: "97.1", 91.0: "91.0"}
    assert texts([1e-9, 0.5], percent=False) == {1e-9: "1e-09", 0.5: "0.5"}
    assert texts([], percent=True) == {}
