"""Collections of studies with claims: `compare FOLDER`, `report` of their results, and `--lang`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import bnbench
from bnbench.api.shipped import find_collection, shipped_collections
from bnbench.base.errors import ConfigError
from bnbench.cli import run as cli_run
from bnbench.cli.app import app
from bnbench.study import Vocabulary, load_study

Run = Callable[..., Result]

STUDY = """
dataset: digits
model: {{name: mlp, hidden: [{width}]}}
optimizer: {{name: sgd, lr: 0.1}}
batch_size: 64
max_train_samples: 320
epochs: 3
seeds: 3
variants: {{none: {{norm: none}}, batch: {{norm: batch}}}}
expect:
"""
SURE = """  - claim: {en: It learns., cs: Učí se.}
    source: {en: 'page: "learns"', cs: 'stránka: „učí se“'}
    measured: {en: test accuracy, cs: testovací přesnost}
    that: batch.test_accuracy > 0.2
  - claim: {en: in a moment, cs: hned}
    counter: true
    that:
      - {part: {en: loss, cs: ztráta}, that: batch.test_loss < 0.001}
      - {part: {en: accuracy, cs: přesnost}, that: batch.test_accuracy > 0.2}
"""
OTHER = "  - none.test_accuracy - batch.test_accuracy > 0.9\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in a folder with the collection my_claims."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("my_claims").mkdir()
    Path("my_claims/1_sure.yaml").write_text(STUDY.format(width=16) + SURE)
    Path("my_claims/2_other.yaml").write_text(STUDY.format(width=8) + OTHER)
    return lambda *words: CliRunner().invoke(app, words)


@pytest.mark.slow
def test_the_whole_way(run: Run) -> None:
    first = run("compare", "my_claims")
    assert first.exit_code == 0, first.output
    text = first.stdout
    assert text.startswith("my_claims: 1 of 2 claims confirmed\n")
    lines = [line.rstrip() for line in text.splitlines()]
    at = next(place for place, line in enumerate(lines) if line.startswith("It learns."))
    assert lines[at].endswith("confirmed")
    assert lines[at + 1] == '  page: "learns"'
    assert lines[at + 3].startswith("  counter-example: in a moment")
    assert lines[at + 3].endswith("depends on loss")
    assert any(line.startswith("none.test_accuracy") and line.endswith("refuted") for line in lines)
    assert max(map(len, lines)) <= 80
    assert sorted(path.name for path in Path("results/my_claims").iterdir()) == [
        "1_sure", "2_other", "claims.json", "report.html",
    ]  # fmt: skip
    page = Path("results/my_claims/report.html").read_text()
    assert page.count("<img") == 4  # two figures a study, once
    assert '<ul class="headline"><li>1 of 2 claims confirmed</li></ul>' in page.partition("<table")[0]
    assert page.count('<td data-label="verdict">') == page.partition("</table>")[0].count("<tr>") - 1
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    again = run("compare", "my_claims")
    assert again.stdout == text
    assert "6 of 6 runs are finished already" in again.stderr
    shown = run("report", "results/my_claims")
    assert shown.stdout == text

    assert run("report", "results/my_claims", "--tables", "main").stdout.count("Main results") == 2
    narrow = CliRunner().invoke(app, ["report", "results/my_claims"], env={"COLUMNS": "40"})
    assert max(len(line.rstrip()) for line in narrow.stdout.splitlines()) <= 40
    assert " ".join(narrow.stdout.split()).count("confirmed") >= 3
    _formats(run)
    _czech(run)


def _formats(run: Run) -> None:
    def shown(name: str, *more: str) -> str:
        return run("report", "results/my_claims", "--format", name, *more).stdout

    document = json.loads(shown("json"))
    assert [study["name"] for study in document["studies"]] == ["1_sure", "2_other"]
    assert [row["verdict"] for row in document["claims"]] == ["confirmed", "depends", "depends", "refuted"]
    rows = list(csv.DictReader(io.StringIO(shown("csv"))))
    assert [row["expression"] for row in rows][:2] == ["batch.test_accuracy > 0.2", "batch.test_loss < 0.001"]
    study = document["studies"][0]
    mean = next(v for v in study["variants"] if v["name"] == "batch")["final"]["test_accuracy"]["mean"]
    assert float(rows[0]["value"]) == pytest.approx(mean)
    markdown = shown("markdown")
    assert "| claim | stated at | measured | result \\[95% CI\\] | verdict |" in markdown.replace(
        "[95% CI]", "\\[95% CI\\]"
    )
    assert r"\begin{tabular}{lllrl}" in shown("latex")
    assert "counter-example: in a moment" in shown("markdown", "--tables", "claims")


def _czech(run: Run) -> None:
    text = run("report", "results/my_claims", "--lang", "cs").stdout
    assert text.startswith("my_claims: potvrzeno 1 z 2 tvrzení")
    for words in ("Učí se.", "stránka: „učí se“", "protipříklad: hned", "závisí na: ztráta", "vyvráceno"):
        assert words in text
    assert '<html lang="cs">' in Path("results/my_claims/report.html").read_text()
    strange = run("report", "results/my_claims", "--lang", "de")
    assert strange.exit_code == 2
    assert 'unknown language "de"' in strange.stderr
    assert "Known: cs, en." in " ".join(strange.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_condensed_results_are_shown_without_torch(run: Run) -> None:
    run("compare", "my_claims", "--quiet")
    before = run("report", "results/my_claims", "--format", "csv").stdout
    for folder in Path("results/my_claims").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder / "runs")
            (folder / "plan.json").unlink()
    code = (
        "import sys; from bnbench.cli.app import app\n"
        "try: app(['report', 'results/my_claims', '--format', 'csv'])\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == before, result.stderr


@pytest.mark.slow
def test_a_change_of_all_studies_names_the_folder_around_them(run: Run) -> None:
    assert run("compare", "my_claims", "epochs=1", "--quiet").exit_code == 0
    assert Path("results/my_claims+epochs=1/2_other/summary.json").is_file()
    assert run("compare", "my_claims", "--output", "there", "--quiet").exit_code == 0
    assert Path("there/1_sure/summary.json").is_file()


@pytest.mark.slow
def test_what_is_finished_is_kept_after_ctrl_c(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    train = cli_run.train_work
    monkeypatch.setattr(
        cli_run,
        "train_work",
        lambda console, work, display: work.study.name == "2_other" or train(console, work, display),
    )
    result = run("compare", "my_claims")
    assert result.exit_code == 130
    assert "my_claims: 1 of 2 claims confirmed" in result.stdout
    assert "(0 of 3 seeds are there)" in " ".join(result.stdout.split())
    monkeypatch.setattr(cli_run, "train_work", train)
    assert "refuted" in run("compare", "my_claims").stdout


def test_a_collection_is_no_study(run: Run) -> None:
    for command in ("train", "check"):
        result = run(command, "my_claims")
        assert result.exit_code == 1
        assert (
            "it is a collection of 2 studies: 1_sure, 2_other. Fix: `bnbench compare my_claims`"
            in result.stderr
        )
    with pytest.raises(ConfigError, match="it is a collection of 2 studies"):
        bnbench.compare("my_claims")
    Path("empty").mkdir()
    assert "it is a folder" in run("compare", "empty").stderr
    assert 'Did you mean "claims"?' in run("compare", "clams").stderr


def test_mistakes_of_all_studies_at_once(run: Run) -> None:
    Path("my_claims/3_wrong.yaml").write_text(STUDY.format(width=8) + "  - bath.test_loss > 1\n")
    Path("my_claims/4_wrong.yaml").write_text(STUDY.format(width=8) + "  - batch.test_loss >\n")
    result = run("compare", "my_claims")
    assert result.exit_code == 1
    assert 'unknown variant "bath"' in result.stderr
    assert "cannot be parsed at its end" in result.stderr
    assert not Path("results").exists()


def test_a_damaged_list_of_studies_is_said(run: Run) -> None:
    Path("results/my_claims").mkdir(parents=True)
    Path("results/my_claims/claims.json").write_text("{")
    result = run("report", "results/my_claims")
    assert result.exit_code == 1
    assert "claims.json: can't be read as a list of studies" in result.stderr


@pytest.mark.parametrize("name", ["claims", "claims_digits"])
def test_the_shipped_claims(name: str, vocabulary: Vocabulary) -> None:
    """The page's eight claims, each with a counter-example, in both languages."""
    collection = find_collection(name)
    assert collection is not None
    assert collection in shipped_collections()
    claims = [claim for file in collection.files for claim in load_study(file, [], vocabulary).expect]
    own = [place for place, claim in enumerate(claims) if not claim.counter]
    assert len(own) == 8
    assert all(claims[place + 1].counter for place in own)
    for claim in claims:
        texts = [*claim.texts.values(), *(part for part, _ in claim.parts if part)]
        assert all(set(text) == {"en", "cs"} for text in texts)
        assert {"claim"} <= set(claim.texts)
        assert claim.counter or "source" in claim.texts
