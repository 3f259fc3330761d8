"""`bnbench replicate`, end to end on the embedded digits."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.api import replicate as api
from bnbench.api.findings import shipped_findings
from bnbench.cli.app import app

Run = Callable[..., Result]

FINDING = """\
citation: {authors: "A. Author, B. Writer and C. Scribe", year: 2019, title: "A [bold] & risky_title", doi: 10.1/2_3}
where: table 1
claim: Batch norm is better after one epoch.
published: {values: [97.0, 90.0], unit: "%", runs: one, decimals: 1}
quantity: batch.test_accuracy - none.test_accuracy
criterion: "> 0"
scale: same
deviations: [digits in place of ImageNet]
study: {dataset: digits, model: {name: mlp, hidden: [16]}, optimizer: {name: sgd, lr: 0.05}, epochs: 1, seeds: 3,
  variants: {none: {norm: none}, batch: {norm: batch}}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in a folder with one finding, mine.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("mine.yaml").write_text(FINDING)
    return lambda *words: CliRunner().invoke(app, ["replicate", *words])


def test_list_has_every_shipped_finding(run: Run) -> None:
    rows = json.loads(run("list", "--format", "json").stdout)
    assert [row["name"] for row in rows] == [path.stem for path in shipped_findings()]
    assert len(rows) >= 14
    assert len({row["paper"] for row in rows}) >= 9
    assert {row["done"] for row in rows} == {"no"}
    for width in ("80", "40"):
        text = CliRunner().invoke(app, ["replicate", "list"], env={"COLUMNS": width}).stdout
        assert all(path.stem in text for path in shipped_findings())


def test_the_whole_way(run: Run) -> None:
    first = run("run", "mine.yaml", "--jobs", "1")
    assert first.exit_code == 0, first.output
    assert "Study mine (1 of 1): mine" in first.stderr
    text = " ".join(first.stdout.split())
    assert "A. Author, B. Writer and C. Scribe 2019, A [bold] & risky_title." in text
    assert "97.0 and 90.0 %" in text
    assert "Deviations: digits in place of ImageNet." in text
    assert "Repeat: bnbench replicate run mine.yaml" in text
    assert re.search(r"1 finding of 1 paper, 1 claim: 1 \w+", text)
    page = Path("results/findings/report.html").read_text()
    assert "risky_title" in page
    assert "src=" not in page  # nothing is fetched
    assert "<script" not in page
    again = run("run", "mine.yaml")
    assert "Done already" in again.stderr
    assert again.stdout == first.stdout
    assert run("report").stdout == first.stdout


def test_every_format_has_the_numbers(run: Run) -> None:
    run("run", "mine.yaml", "--jobs", "1", "--quiet")
    (record,) = json.loads(run("report", "--format", "json").stdout)["claims"]
    assert record["paper"] == "Author et al. 2019"
    assert (record["published_low"], record["published_high"]) == pytest.approx((0.069, 0.071))
    (row,) = csv.DictReader(io.StringIO(run("report", "--format", "csv").stdout))
    assert float(row["ours"]) == record["ours"]
    assert row["deviations"] == "digits in place of ImageNet"
    ours = f"{100 * record['ours']:+.1f}"[:3]
    for name in ("markdown", "latex"):
        text = run("report", "--format", name).stdout
        assert ours in text
        assert record["verdict"] in text
    assert r"97.0 and 90.0 \%" in run("report", "--format", "latex").stdout


def test_nothing_is_cut_at_40_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("run", "mine.yaml", "--jobs", "1", "--quiet")
    monkeypatch.setenv("COLUMNS", "40")
    narrow = run("report").stdout
    assert "…" not in narrow
    assert max(map(len, narrow.splitlines())) <= 44  # a long word stands whole
    assert "97.0 and 90.0 %" in narrow


def test_overrides_are_deviations(run: Run) -> None:
    result = run("run", "mine.yaml", "epochs=2", "--jobs", "1")
    assert "set by hand: epochs=2" in " ".join(result.stdout.split())
    assert Path("results/findings/mine+epochs=2").is_dir()
    assert "Done already" not in run("run", "mine.yaml", "--jobs", "1").stderr  # another question


def test_mistakes_come_before_training(run: Run) -> None:
    Path("bad.yaml").write_text(FINDING.replace("year: 2019, ", "").replace(', unit: "%"', ""))
    result = run("run", "mine.yaml", "bad.yaml")
    assert result.exit_code == 1
    assert "2 mistakes" in result.stderr
    assert "bad.yaml:1: citation.year: it is missing" in result.stderr
    assert "bad.yaml:4: published.unit: it is missing" in result.stderr
    assert not Path("results").exists()


def test_an_unknown_name_and_no_name(run: Run) -> None:
    name = shipped_findings()[0].stem
    result = run("run", name[:-1])
    assert result.exit_code == 1
    assert f'Did you mean "{name}"?' in result.stderr
    assert run("run", "epochs=2").exit_code == 2
    assert run("report", "nowhere").exit_code == 1
    assert "nowhere: it holds no finding that was run" in " ".join(run("report", "nowhere").stderr.split())


def test_data_that_are_missing_leave_the_other_findings(run: Run) -> None:
    Path("gone.yaml").write_text(FINDING.replace("dataset: digits", "dataset: {name: npz, path: gone.npz}"))
    result = run("run", "gone.yaml", "mine.yaml", "--jobs", "1")
    assert result.exit_code == 1
    assert "gone.npz" in result.stderr
    assert "Left out; the others follow." in result.stderr
    assert "1 finding of 1 paper" in result.stdout


def test_what_was_finished_is_kept_after_an_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other.yaml").write_text(FINDING.replace("hidden: [16]", "hidden: [8]"))
    prepare = api.Job.prepare

    def interrupted(job: api.Job, *rest: object) -> object:
        if job.study.name == "other":
            raise KeyboardInterrupt
        return prepare(job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(api.Job, "prepare", interrupted)
    result = run("run", "mine.yaml", "other.yaml", "--jobs", "1")
    assert result.exit_code == 130
    assert "Interrupted. Finished runs are kept" in result.stderr
    assert "1 finding of 1 paper" in result.stdout
    assert Path("results/findings/mine.json").is_file()
