"""The length of a run, in epochs or in steps: one of them in a level, and the upper level's counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.study import Vocabulary, load_study, resolved, to_yaml
from bnbench.study.cautions import step_cautions, warm_up_fault
from bnbench.study.plan import cell_identity

Write = Callable[..., Path]
MINIMAL = "dataset: digits\nmodel: {name: mlp, hidden: [4]}\noptimizer: {name: sgd, lr: 1e-2}\n"


@pytest.mark.parametrize(
    ("text", "overrides", "lengths"),
    [
        ("", [], [(5, None)]),
        ("steps: 70", [], [(None, 70)]),
        ("steps: 70.0", [], [(None, 70)]),
        ("epochs: 3", ["steps=70"], [(None, 70)]),
        ("steps: 70", ["epochs=2"], [(2, None)]),
        ("steps: 70", ["steps=0"], [(None, 0)]),
        ("steps: none", [], [(5, None)]),
        ("epochs: 3\nsteps: none", [], [(3, None)]),
        ("epochs: 3", ["steps=none"], [(3, None)]),
        ("epochs: 3\nvariants: {a: {steps: 9}, b: {norm: batch}, c: {steps: 9, norm: batch}}", [],
         [(None, 9), (3, None), (None, 9)]),
        ("steps: 70\nsweep: {epochs: [1, 2]}", [], [(1, None), (2, None)]),
        ("epochs: 3\nsweep: {steps: [10, 20]}", [], [(None, 10), (None, 20)]),
        ("sweep: {batch_size: [16, 32], steps: 3200 / batch_size}", [], [(None, 200), (None, 100)]),
    ],
)  # fmt: skip
def test_the_upper_level_counts(
    text: str, overrides: list[str], lengths: list[object], write_study: Write, vocabulary: Vocabulary
) -> None:
    cells = load_study(write_study(MINIMAL + text), overrides, vocabulary).cells
    assert [(cell.settings.epochs, cell.settings.steps) for cell in cells] == lengths


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("epochs: 3\nsteps: 40", [], "study.yaml:5: steps: 40, but epochs: 3 stands at "),
        ("variants: {a: {epochs: 3, steps: 40}}", [], "a run has one length. Fix: leave one of them out"),
        ("sweep: {epochs: [1], steps: [4]}", [], "a run has one length"),
        ("", ["epochs=2", "steps=3"], "command line: steps=3: steps: 3, but epochs: 2 stands at command line"),
        ("epochs: none", [], "a run has no length. Fix: epochs: 5, or steps: 1000"),
        ("steps: -1", [], "steps: -1 is wrong: it should be greater than or equal to 0"),
        ("steps: 1.5", [], "steps: 1.5 is wrong: it should be a valid integer"),
        ("steps: true", [], "steps: True is wrong: a number is wanted"),
        ("sweep: {steps: [1, 2]}", ["epochs=3"], "epochs=3 would change nothing: the sweep sets epochs"),
    ],
)  # fmt: skip
def test_refused(
    text: str, overrides: list[str], message: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write_study(MINIMAL + text), overrides, vocabulary)
    assert message in str(caught.value)


def test_a_written_study_keeps_its_length_and_its_runs(
    write_study: Write, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    for text in ("epochs: 3", "steps: 70", "variants: {a: {steps: 9}, b: {norm: batch}}"):
        study = load_study(write_study(MINIMAL + text), [], vocabulary)
        again = load_study(write_study(to_yaml(resolved(study, tmp_path)), "again.yaml"), [], vocabulary)
        before, after = ([cell_identity(c.settings, None) for c in one.cells] for one in (study, again))
        assert before == after


def test_an_override_of_the_length_names_the_folder_by_itself(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(MINIMAL + "epochs: 3\nvariants: {a: {}, b: {norm: batch}}")
    assert load_study(path, ["steps=70"], vocabulary).changes == (("steps", 70),)
    path = write_study(MINIMAL + "steps: 70\nvariants: {a: {}, b: {norm: batch}}")
    assert load_study(path, ["epochs=3"], vocabulary).changes == (("epochs", 3),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "steps: 25\nschedule: {name: step, milestones: [1, 2, 2.45, 9]}",
            "2.45, 9 comes after the last of 25 steps",
        ),
        ("steps: 25\nschedule.warmup_epochs: 2.45", "ends within the last of 25 steps"),
        ("steps: 25\nevaluate_every: 26", "evaluate_every: 26 is more than the 25 steps"),
        ("steps: 25\nevaluate_every: 25\nschedule: {name: step, milestones: [2]}", ""),
        ("epochs: 0\nevaluate_every: 26\nschedule: {name: step, milestones: [2], warmup_epochs: 1}", ""),
    ],
)
def test_cautions_know_the_last_step(
    text: str, said: str, write_study: Write, vocabulary: Vocabulary
) -> None:
    """Ten steps an epoch."""
    study = load_study(write_study(MINIMAL + text), [], vocabulary)
    (settings,) = study.variants.values()
    cautions = [*study.warnings, *step_cautions(settings, 10)]
    assert len(cautions) == (1 if said else 0)
    assert not said or said in cautions[0]


def test_a_warm_up_that_is_not_shorter_than_the_run_is_refused(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    path = write_study(MINIMAL + "steps: 25\nschedule.warmup_epochs: 2.5")
    (settings,) = load_study(path, [], vocabulary).variants.values()
    assert warm_up_fault(settings, 10).startswith(
        "schedule.warmup_epochs: 2.5 is 25 steps, and the run has steps: 25"
    )
    assert not warm_up_fault(settings.model_copy(update={"steps": 26}), 10)
