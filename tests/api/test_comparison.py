"""What `compare` returns: records, figures, its look in a notebook; and the same again from its folder."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bnbench
from bnbench.analysis.difference import VERDICTS
from bnbench.base.errors import BnbenchError, GateError, ResultsError, UnknownNameError
from bnbench.reports.sentences.headline import headline
from tests.tiny_study import TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison") / "tiny"


@pytest.fixture(scope="module")
def comparison(folder: Path) -> bnbench.Comparison:
    study = {
        **TINY,
        "sweep": {"optimizer.lr": [0.1, 1.0]},
        "target": {"metric": "val_accuracy", "value": 0.3},
    }
    return bnbench.compare(study, output=folder)


def test_it_is_the_same_from_its_folder(comparison: bnbench.Comparison, folder: Path) -> None:
    loaded = bnbench.load(str(folder))
    assert loaded == comparison
    assert loaded.verdicts == comparison.verdicts
    assert repr(loaded) == repr(comparison)
    assert comparison != "tiny"


def test_another_result_is_not_equal(comparison: bnbench.Comparison, tmp_path: Path) -> None:
    assert bnbench.compare(TINY, output=tmp_path / "tiny") != comparison


def test_load_needs_no_torch(comparison: bnbench.Comparison, folder: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None
import bnbench
comparison = bnbench.load({str(folder)!r})
bnbench.report({str(folder)!r})
print(len(comparison.runs), len(comparison.figures), type(comparison.figure(comparison.figures[0])).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "12"
    assert done.stderr == ""


@pytest.mark.parametrize("call", ["compare(study)", "train(study)", "check(study)"])
def test_training_without_torch_says_what_to_install(call: str) -> None:
    code = f"""
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None
import bnbench
from bnbench.base.errors import BnbenchError
study = "quickstart"
try:
    bnbench.{call}
except BnbenchError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("torch can't be imported: ")
    assert done.stdout.endswith("Fix: pip install torch torchvision\n")


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("name", ["runs", "history", "comparisons", "verdicts"])
def test_records_are_flat_dicts_of_plain_values(comparison: bnbench.Comparison, name: str) -> None:
    records = getattr(comparison, name)
    assert records
    assert all(type(record) is dict and all(map(_is_plain, record.values())) for record in records)
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert {"variant", "setting.optimizer.lr"} <= set(records[0])


def test_runs_are_the_rows_of_the_csv_file(comparison: bnbench.Comparison, folder: Path) -> None:
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(comparison.runs) == 2 * 2 * 3
    for row, run in zip(rows, comparison.runs, strict=True):
        assert {key: "" if value is None else str(value) for key, value in run.items()} == row


def test_the_history_is_every_runs(comparison: bnbench.Comparison, folder: Path) -> None:
    files = list(folder.glob("runs/*/*/history.csv"))
    assert len(comparison.history) == sum(len(file.read_text().splitlines()) - 1 for file in files)
    first = comparison.history[0]
    assert (first["variant"], first["seed"], first["step"]) == ("none", 0, 0)


def test_a_verdict_has_its_word_and_its_sentence(comparison: bnbench.Comparison) -> None:
    assert [verdict["setting.optimizer.lr"] for verdict in comparison.verdicts] == [0.1, 1.0]
    assert {verdict["verdict"] for verdict in comparison.verdicts} <= set(VERDICTS)


def test_without_a_sweep_a_verdict_has_its_sentence(tmp_path: Path) -> None:
    comparison = bnbench.compare(TINY, output=tmp_path / "tiny")
    (verdict,) = comparison.verdicts
    assert verdict["variant"] == "batch"
    assert verdict["verdict"] in VERDICTS
    assert verdict["sentence"] == comparison.sentences[0]


def test_to_pandas_makes_a_table_of_the_records(
    comparison: bnbench.Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DataFrame:
        @staticmethod
        def from_records(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return records

    pandas = types.ModuleType("pandas")
    pandas.DataFrame = DataFrame  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert comparison.to_pandas("history") == comparison.history
    assert comparison.to_pandas() == comparison.runs
    with pytest.raises(UnknownNameError, match=r'unknown records "run". Did you mean "runs"'):
        comparison.to_pandas("run")


def test_to_pandas_without_pandas_says_how_to_get_it(
    comparison: bnbench.Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BnbenchError, match="pip install pandas"):
        comparison.to_pandas()


def test_every_figure_is_a_chart_with_its_data(comparison: bnbench.Comparison) -> None:
    assert "val_accuracy" in comparison.figures
    for name in comparison.figures:
        specification = comparison.figure(name).to_dict()
        assert any(specification["datasets"].values()), name


def test_an_unknown_figure_is_an_error_that_names_them(comparison: bnbench.Comparison) -> None:
    with pytest.raises(UnknownNameError, match=r'unknown figure "val_acuracy". Did you mean "val_accuracy"'):
        comparison.figure("val_acuracy")


def test_figures_are_saved(comparison: bnbench.Comparison, tmp_path: Path) -> None:
    paths = comparison.save_figures(tmp_path / "figures")
    assert [path.stem for path in paths] == comparison.figures
    assert all(path.read_text().startswith("<svg") for path in paths)
    with pytest.raises(UnknownNameError, match='unknown format "gif"'):
        comparison.save_figures(tmp_path, "gif")


def test_it_shows_its_answer_first(comparison: bnbench.Comparison) -> None:
    lines = repr(comparison).splitlines()
    assert lines[0] == headline(comparison.summary)[0]
    assert lines[-1] == f"2 variants, 12 of 12 runs: {comparison.folder}"
    assert str(comparison) == repr(comparison)


def test_in_a_notebook_it_is_markup_that_needs_nothing_else(comparison: bnbench.Comparison) -> None:
    markup = comparison._repr_html_()
    assert "<table" in markup
    assert not re.search(r"<script|<link|<img|https?://|src=", markup)


def test_names_are_escaped_in_a_notebook(comparison: bnbench.Comparison) -> None:
    summary = replace(comparison.summary, name="<b>a</b> & \x1b", limits=("<script>",))
    markup = bnbench.Comparison(Path("<i>"), summary, comparison._results)._repr_html_()
    assert not re.search("<b>|<i>|<script>|\x1b", markup)
    assert all(text in markup for text in ("&lt;b&gt;a&lt;/b&gt; &amp; \\x1b", "&lt;script&gt;", "&lt;i&gt;"))


def test_conditions_have_an_outcome(folder: Path, comparison: bnbench.Comparison) -> None:
    gates = bnbench.report(folder, fail_if="batch.test_loss > 0").gates
    assert [gate.failed for gate in gates] == [True]
    with pytest.raises(GateError, match="nosuch"):
        bnbench.report(folder, fail_if=["nosuch.test_loss > 0"])


def test_report_writes_the_files_again(folder: Path, comparison: bnbench.Comparison) -> None:
    (folder / "summary.json").unlink()
    assert bnbench.report(folder) == comparison
    assert (folder / "summary.json").is_file()


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError):
        bnbench.load(tmp_path / "nothing")


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bnbench.report(bnbench.compare({**TINY, "seeds": 1}, output=tmp_path / "r").folder)
    with pytest.raises(BnbenchError):
        bnbench.compare({**TINY, "batch_size": 0}, output=tmp_path / "r2")
    assert capfd.readouterr() == ("", "")
