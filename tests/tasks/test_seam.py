"""Tasks of a plugin's own train through the real engine: other batches, losses, metrics and chance levels.

Oracles: the metrics by hand from the weights that a run kept; the entropy of the letters; the files of the folder.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from bnbench.api.plugins import known_names
from bnbench.base.errors import ConfigError, PluginError, ResultsError
from bnbench.base.metrics import METRICS, Metric, declare, metric_of
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts, task_facts
from bnbench.cli.app import app
from bnbench.results.reader import load_folder
from bnbench.study import json_schema, load_study, resolved
from bnbench.study.yaml_source import read_yaml

HERE = Path(__file__).parent
WAVES, LETTERS = HERE / "waves.py", HERE / "letters.py"
STUDY = """
dataset: waves
model: small_conv
optimizer: {name: adam, lr: 0.02}
epochs: 4
seeds: 3
variants: [none, batch]
"""
TEXT = STUDY.replace("waves", "alphabet").replace("small_conv", "letters").replace("batch]", "layer]")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    before = dict(METRICS)
    yield tmp_path
    known_names()
    METRICS.clear()
    METRICS.update(before)


def run(plugin: Path, text: str, *words: str) -> tuple[int, str]:
    Path("s.yaml").write_text(text)
    result = CliRunner().invoke(app, ["compare", "s.yaml", "--plugin", str(plugin), *words])
    return result.exit_code, " ".join(result.output.split())


def summary(folder: str = "s") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("results", folder, "summary.json").read_text())
    return found


def test_a_task_without_classes_has_no_batches_of_a_few() -> None:
    code, text = run(WAVES, STUDY + "batches: {classes: 2}\n")
    assert code == 1
    assert "s.yaml:8: batches.classes: 2, and the task regression has no classes. Fix: leave it out." in text


def test_a_regression_trains_is_evaluated_and_compared_by_its_own_metric() -> None:
    code, text = run(WAVES, STUDY + "target: {metric: val_r2, value: 0.5}\n")
    assert code == 0, text
    found = summary()
    assert found["primary"] == "test_r2"
    assert "in test R²" in text
    runs = [one for variant in found["variants"] for one in variant["runs"]]
    assert len(runs) == 6
    for one in runs:
        assert one["outcome"] == "finished"
        assert set(one["final"]) == {
            f"{part}_{name}" for part in ("train", "val", "test") for name in ("loss", "mae", "r2")
        }
        assert one["final"]["test_r2"] > 0.5
        assert one["steps_to_target"]
        assert one["class_names"] == []
    (comparison,) = [c for c in found["comparisons"] if c["metric"] == "test_r2" and c["at"] == "final"]
    assert comparison["verdict"]
    study = read_yaml(Path("results/s/study.yaml").read_text(), "study.yaml").data
    assert study["task"] == {"name": "regression", "least": 0.05}
    assert study["loss"] == {"name": "squared_error"}


def test_its_metrics_are_those_of_the_weights_that_were_kept() -> None:
    """By hand: the saved weights on the test part, normalised with the mean and std of the training part."""
    from safetensors.numpy import load_file

    run(WAVES, STUDY.replace("batch]", "layer]"), "seeds=1")
    names = known_names([WAVES]).vocabulary
    data = names["dataset"]["waves"].factory(Path())
    (run_json,) = Path("results/s/runs").glob("none-*/seed-0/run.json")
    weights = {
        k: torch.from_numpy(v) for k, v in load_file(run_json.parent / "checkpoint.safetensors").items()
    }
    order = torch.randperm(
        500, generator=__import__("bnbench.base.seeding").base.seeding.generator(0, "split")
    )
    train = data.train_inputs[order[50:].sort().values].double()
    mean, std = train.mean((0, 2)), train.std((0, 2), correction=0)
    x = ((data.test_inputs - mean[:, None]) / std[:, None]).float().flatten(1)
    hidden = (x @ weights["1.weight"].T + weights["1.bias"]).relu()
    answers = hidden @ weights["4.weight"].T + weights["4.bias"]
    error = (answers - data.test_targets).double()
    final = json.loads(run_json.read_text())["final"]
    assert final["test_loss"] == pytest.approx(float(error.square().mean()), rel=1e-5)
    assert final["test_mae"] == pytest.approx(float(error.abs().mean()), rel=1e-5)
    spread = data.test_targets.double().var(correction=0)
    assert final["test_r2"] == pytest.approx(float(1 - error.square().mean() / spread), rel=1e-5)


def test_its_own_rule_says_what_is_stuck_at_chance() -> None:
    """Steps of 1e-5 teach nothing: R² stays below 0; with an option of the task it is enough."""
    code, text = run(WAVES, STUDY, "optimizer.lr=1e-5", "epochs=1", "variants.batch=null")
    assert code == 0, text
    assert (
        {one["outcome"] for one in summary("s+epochs=1+optimizer.lr=1e-05")["variants"][0]["runs"]}
        == {"stuck_at_chance"}
        if Path("results/s+epochs=1+optimizer.lr=1e-05").exists()
        else True
    )
    (folder,) = Path("results").iterdir()
    outcomes = {one["outcome"] for one in summary(folder.name)["variants"][0]["runs"]}
    assert outcomes == {"stuck_at_chance"}
    tables = CliRunner().invoke(app, ["report", str(folder), "--tables", "all"]).output
    assert "R² on the validation part is below 0.05" in " ".join(tables.split())
    code, text = run(WAVES, STUDY, "optimizer.lr=1e-5", "epochs=1", "task.least=-1000", "--output", "other")
    assert code == 0, text
    found = json.loads(Path("other/summary.json").read_text())
    assert {one["outcome"] for variant in found["variants"] for one in variant["runs"]} == {"finished"}


def test_tokens_train_and_their_chance_level_is_the_entropy_of_the_letters() -> None:
    code, text = run(LETTERS, TEXT)
    assert code == 0, text
    for variant in summary()["variants"]:
        for one in variant["runs"]:
            assert one["outcome"] == "finished"
            final = one["final"]
            assert final["test_bits"] == pytest.approx(final["test_loss"] / math.log(2))
            assert final["test_loss"] < 0.95 * math.log(5)
            # of a letter that follows nine times in ten, or by chance: - 0.92 ln 0.92 - 4 * 0.02 ln 0.02
            assert final["test_loss"] > -0.92 * math.log(0.92) - 0.08 * math.log(0.02) - 0.1
    code, text = run(LETTERS, TEXT.replace("alphabet", "{name: alphabet, order: false}"), "--output", "noise")
    assert code == 0, text
    found = json.loads(Path("noise/summary.json").read_text())
    assert {one["outcome"] for variant in found["variants"] for one in variant["runs"]} == {"stuck_at_chance"}


@pytest.mark.slow
def test_two_networks_train_against_each_other_on_a_data_set_of_images_and_repeat_to_the_bit() -> None:
    text = STUDY.replace("waves", "digits\ntask: generate").replace("small_conv", "pair")
    finals = []
    for output in ("one", "two"):
        code, shown = run(HERE / "two_networks.py", text, "epochs=1", "--output", output)
        assert code == 0, shown
        found = json.loads(Path(output, "summary.json").read_text())
        finals.append([one["final"] for variant in found["variants"] for one in variant["runs"]])
    assert finals[0] == finals[1]
    assert all(0 <= final["test_fooled"] <= 1 for final in finals[0])
    assert found["primary"] == "test_fooled"


@pytest.mark.parametrize("words", [("engine=sequential",), ("engine=stacked",), ("--jobs", "2")])
def test_every_engine_trains_a_task_of_a_plugin(words: tuple[str, ...]) -> None:
    code, text = run(WAVES, STUDY, "epochs=1", "--output", "o", *words)
    assert code == 0, text
    code, text = run(LETTERS, TEXT, "epochs=1", "--output", "t", *words)
    assert code == 0, text


def test_a_folder_is_shown_without_the_plugin_in_a_new_process() -> None:
    run(WAVES, STUDY)
    script = (
        "from bnbench.results.reader import load_folder; from pathlib import Path; import sys\n"
        "results = load_folder(Path('results/s'))\n"
        "from bnbench.base.metrics import metric_of\n"
        "print(metric_of('test_r2').better, results.task.default_metrics, 'torch' in sys.modules)"
    )
    root = str(HERE.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": root, "PATH": ""}
    )
    assert done.stdout.split("\n")[0] == "higher ('loss', 'r2') False", done.stderr


def test_a_summary_alone_is_enough(tmp_path: Path) -> None:
    run(WAVES, STUDY)
    Path("kept").mkdir()
    for name in ("study.yaml", "summary.json", "environment.json"):
        Path("kept", name).write_bytes(Path("results/s", name).read_bytes())
    result = CliRunner().invoke(app, ["report", "kept"])
    assert result.exit_code == 0, result.output
    assert "test R²" in " ".join(result.output.split())


def test_check_estimates_it_and_list_and_the_schema_name_it() -> None:
    Path("s.yaml").write_text(STUDY)
    result = CliRunner().invoke(app, ["check", "s.yaml", "--plugin", str(WAVES)])
    assert result.exit_code == 0, result.output
    listed = CliRunner().invoke(app, ["list", "--plugin", str(WAVES)]).output
    assert "Tasks" in listed
    assert "Numbers from numbers: mean squared error" in listed
    schema = json_schema(known_names([WAVES]).vocabulary)
    text = (
        STUDY + "task: regression\ntarget: {metric: val_r2, value: 0.5}\nmetrics: [mae]\nprimary: test_mae\n"
    )
    Draft202012Validator(schema).validate(read_yaml(text, "s.yaml").data)
    assert not Draft202012Validator(schema).is_valid(read_yaml(STUDY + "primary: test_r3\n", "s").data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: regresion", 'unknown task "regresion". Did you mean "regression"? Known: auto, '),
        ("task: {name: regression, last: 1}", 'unknown key "last" in task regression. Did you mean "least"?'),
        ("primary: test_accuracy", 'unknown metric "test_accuracy". Did you mean "test_r2"? Known: gap_loss, gap_mae'),
        ("target: {metric: val_accuracy, value: 0.9}", 'unknown metric "val_accuracy". Known: gap_loss, gap_mae'),
        ("target: {metric: val_mae, value: -1}", "no run can reach val_mae -1: it is never below 0"),
        ("margin: {metric: test_f1, value: 0.1}", 'unknown metric "test_f1"'),
        ("metrics: [recall]", 'metrics: unknown metric "recall". Known: gap, loss, mae, r2'),
        ("loss: cross_entropy", "loss: cross_entropy is not for the task regression. Fix: loss: squared_error."),
        ("augment: crop_flip", "augment: crop_flip is not for the task regression. Fix: augment: none."),
    ],
)  # fmt: skip
def test_what_the_task_lacks_is_refused_once(text: str, message: str) -> None:
    Path("s.yaml").write_text(STUDY + text + "\n")
    with pytest.raises(ConfigError) as error:
        load_study(Path("s.yaml"), [], known_names([WAVES]).vocabulary)
    assert message in str(error.value)
    assert "s.yaml:8" in str(error.value)
    assert len(error.value.mistakes) == 1


def test_a_negative_target_of_an_unbounded_metric_is_taken() -> None:
    Path("s.yaml").write_text(STUDY + "target: {metric: val_r2, value: -0.5}\n")
    study = load_study(Path("s.yaml"), [], known_names([WAVES]).vocabulary)
    assert study.targets[0].value == -0.5
    assert resolved(study, Path.cwd())["primary"] == "test_r2"


def test_variants_of_two_tasks_do_not_compare() -> None:
    text = STUDY.replace("[none, batch]", "{a: {}, b: {dataset: digits, model: mlp}}")
    Path("s.yaml").write_text(text)
    with pytest.raises(ConfigError, match="b has the task image_classification, and a has regression"):
        load_study(Path("s.yaml"), [], known_names([WAVES]).vocabulary)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset=digits", "model=mlp", "task=regression"), "the data set has targets of torch.int64 and shape"),
        (("task=image_classification",), "task: image_classification: inputs of torch.float32 and shape"),
        (("validation.by=class",), "the targets of this data set are not classes"),
        (("framework=keras",), "framework: keras"),
        (("--fail-if", "none.test_accuracy < 0.5"), "unknown metric \"test_accuracy\""),
        (("--fail-if", "none.test_mae < 0"), "test_mae is never below 0: it can never hold"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(words: tuple[str, ...], message: str) -> None:
    import re

    code, text = run(WAVES, STUDY, *words)
    assert code in (1, 2)
    assert re.search(message, text), text
    assert "Traceback" not in text


# tasks with mistakes of their own


def broken(tmp_path: Path, old: str, new: str) -> Path:
    """The plugin with one thing changed."""
    text = WAVES.read_text()
    assert old in text
    path = tmp_path / "broken.py"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('yield "mae", float(errors.abs().mean())', "pass", "metrics loss, mae, r2, and does not measure mae"),
        ('yield "mae"', 'yield "rmse", 0.0\n        yield "mae"', "and measures rmse as well"),
        ("return nn.functional.mse_loss", "return lambda x, y: x - y", r"gives a tensor of shape \(4, 1\)"),
        ("nn.Linear(width, num_outputs)", "nn.Linear(width, 3)", r"gives \(4, 3\) and the targets are \(4, 1\)"),
        ("(count, sizes.num_outputs)", "(count, 2)", r"the task makes torch.float32 and shape \(2,\)"),
        ('Metric("loss", "lower"), ', "", 'a task has a metric "loss"'),
        ('Metric("mae", "lower")', 'Metric("accuracy", "lower")', '"accuracy" is known already, and is another'),
        ('primary="r2"', 'primary="r3"', '"r3" is not one of its metrics'),
        ('Metric("mae", "lower"), ', 'Metric("mean error", "lower"), ', "a metric can't be called"),
        ('chance="R²', 'chanse="R²', 'unknown fact "chanse". Did you mean "chance"?'),
    ],
)  # fmt: skip
def test_a_broken_task_is_named_before_anything_trains(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    import re

    code, text = run(broken(tmp_path, old, new), STUDY)
    assert code == 1
    assert re.search(message, text), text
    assert "Traceback" not in text
    assert not list(Path().glob("results/*/runs/*/*"))


def test_a_metric_that_is_not_finite_is_kept_as_such(tmp_path: Path) -> None:
    plugin = broken(tmp_path, 'yield "mae", float(errors.abs().mean())', 'yield "mae", math.nan')
    plugin.write_text(
        "import math\n" + plugin.read_text().replace("from __future__ import annotations\n", "")
    )
    code, text = run(plugin, STUDY)
    assert code == 0, text
    assert all(one["final"]["test_mae"] is None for v in summary()["variants"] for one in v["runs"])
    assert all(one["outcome"] == "finished" for v in summary()["variants"] for one in v["runs"])


# facts


def test_facts_survive_a_file_and_a_metric_keeps_its_meaning() -> None:
    assert task_facts(json.loads(json.dumps(IMAGE_CLASSIFICATION.plain()))) == IMAGE_CLASSIFICATION
    facts = TaskFacts((Metric("loss", "lower"), Metric("gain", "higher", lowest=None)), losses=("x",))
    assert task_facts(json.loads(json.dumps(facts.plain()))) == facts
    assert metric_of("val_gain").better == "higher"
    with pytest.raises(PluginError, match='"gain" is known already'):
        declare([Metric("gain", "lower")])
    declare([Metric("gain", "lower")], kept=[])  # as a plugin that is loaded again after a change
    assert metric_of("val_gain").better == "lower"


@pytest.mark.parametrize(
    "task", [3, {}, {"metrics": 3}, {"metrics": [], "losses": ["x"]}, {"metrics": [{"nam": 1}]}]
)
def test_a_damaged_task_in_a_plan_is_named(task: Any) -> None:
    run(WAVES, STUDY)
    path = Path("results/s/plan.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": task}))
    with pytest.raises(ResultsError, match=r"plan.json: damaged: task: "):
        load_folder(Path("results/s"))
