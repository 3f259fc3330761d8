"""`expect`: claims are read, held against the study before anything is trained, and change no run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from bnbench.api.names import described_names
from bnbench.base.errors import ConfigError
from bnbench.study import Vocabulary, json_schema, load_study, load_variant, resolved
from bnbench.study.expressions import ExpressionError, parse_expression
from bnbench.study.plan import make_plan

Write = Callable[..., Path]

STUDY = """dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 1e-2}
seeds: 5
target: {metric: val_accuracy, value: 0.5}
evaluate: [running, precise]
test_sets: {dark: {name: brightness, factor: 0.5}}
probe: {at: [0], what: [activations]}
variants: {none: {norm: none}, batch: {norm: batch}, ghost-8.b: {norm: {name: ghost, ghost_size: 8}}}
"""
SWEPT = STUDY + "sweep: {optimizer.lr: [0.01, 0.1], model.activation: [relu, tanh]}\n"


def mistakes(write_study: Write, vocabulary: Vocabulary, expect: str, study: str = STUDY) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study(write_study(f"{study}expect: {expect}\n"), [], vocabulary)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "terms", "ratio", "sign", "value", "within"),
    [
        ("a.x > 1", "+a.x", False, ">", 1.0, None),
        ("a.x-b.y<=5%", "+a.x -b.y", False, "<=", 0.05, None),
        ("a-1.b.x - (b.y - c.z) >= -1e-3", "+a-1.b.x -b.y +c.z", False, ">=", -0.001, None),
        ("a.x / b.x == 2 within 10%", "+a.x -b.x", True, "=", 2.0, 0.1),
        ("a.x > b.y", "+a.x -b.y", False, ">", 0.0, None),
        ("8bit.x > 8bit.y within .5", "+8bit.x -8bit.y", False, ">", 0.0, 0.5),
        ("a@precise.x[lr=1e-1, m=relu] < 2", "+a@precise.x[lr=1e-1, m=relu]", False, "<", 2.0, None),
        ("a.usable( optimizer.lr ) > 1", "+a.usable( optimizer.lr )", False, ">", 1.0, None),
        ("a.probe(std, last, 10) > 0", "+a.probe(std, last, 10)", False, ">", 0.0, None),
        ("a.test_recall:cat-dog > 0.5", "+a.test_recall:cat-dog", False, ">", 0.5, None),
    ],
)
def test_the_grammar(
    text: str, terms: str, ratio: bool, sign: str, value: float, within: float | None
) -> None:
    found = parse_expression(text)
    assert " ".join(f"{'+' if sign > 0 else '-'}{q.text}" for sign, q in found.terms) == terms
    assert (found.ratio, found.sign, found.value, found.within) == (ratio, sign, value, within)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "is not an expression"),
        ("a.x", "at its end: <, <=, >, >= or = is wanted"),
        ("a > 1", 'at "a > 1": a quantity'),
        ("a.x > > 1", 'at "> 1"'),
        ("a.x > 1 2", 'at "2": nothing more'),
        ("(a.x - b.x > 1", 'a ")" is missing'),
        ("a.x / b.x / c.x > 1", 'at "/ c.x > 1"'),
        ("(a.x - b.x) / c.x > 1", "a ratio is of two quantities"),
        ("a.x / b.x > c.x", "a ratio is compared with a number"),
        ("a.x > 1 within", 'a number is wanted after "within"'),
        ("a.x > 1 within -2", "within -2 is not above 0"),
        ("a.x > 1e999", "is not a finite number"),
        ("a.x[lr] > 1", 'at "a.x[lr] > 1": "lr" is not of the form KEY=VALUE'),
        ("a.usable > 1", "it is written a.usable(optimizer.lr)"),
        ("a.probe(std) > 1", "it is written a.probe(pre_std, 2, last)"),
        ("a.test_loss(3) > 1", "it is written a.test_loss"),
    ],
)
def test_what_cannot_be_parsed_is_said_where(text: str, where: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("bath.test_accuracy > 0.5", 'unknown variant "bath". Did you mean "batch"?'),
        ("batch.accuracy > 0.5", "a metric begins with its part. Fix: test_accuracy."),
        ("batch.test_acuracy > 0.5", 'unknown quantity "test_acuracy". Did you mean "test_accuracy"?'),
        ("batch.drft < 1", 'Did you mean "drift"?'),
        ("batch.bright_accuracy > 0.5", 'unknown quantity "bright_accuracy"'),
        ("batch.shift_cosine > 0", "shift_cosine needs a probe. Fix: probe: {what: [gradient_shift]}."),
        ("batch@batch.test_loss > 0", "Fix: evaluate: [running, precise, batch]."),
        ("batch.usable(optimizer.lr) > 1", "optimizer.lr is not swept. Fix: sweep: {optimizer.lr:"),
        ("batch.test_loss[batch_size=2] > 1", "batch_size is not swept. Fix: sweep: {batch_size: [2, ...]}."),
        ("batch.test_loss - batch.test_loss > 0", "batch.test_loss is there twice."),
        ("batch.probe(pre_sdt, 1, last) > 1", 'unknown quantity "pre_sdt". Did you mean "pre_std"?'),
        ("batch.probe(weight_norm, 1, 0) > 1", "Fix: probe: {what: [activations, weights]}."),
        ("batch.probe(pre_histogram, 1, 0) > 1", "has many numbers in a layer, and a claim needs one"),
        ("batch.test_accuracy > 95", "it is from 0 to 1: that can never hold. Fix: 0.95 or 95%."),
        ("batch.test_accuracy >= 0", "it is from 0 to 1: that always holds."),
        ("batch.test_accuracy - none.test_accuracy < -1", "it is from -1 to 1: that can never hold."),
        ("batch.test_loss < 0", "it is never below 0: that can never hold."),
        ("batch.test_loss / none.test_loss < 0", "a ratio is above 0"),
        ("batch.test_accuracy - none.test_accuracy > 0 within 3", "no two values are further apart"),
        ("batch.test_loss = none.test_loss", 'how much may it differ? Fix: "within NUMBER"'),
        ("batch.trained / none.trained > 1", "the share that trained stands alone"),
        ("batch.trained + none.trained > 1", "the share that trained stands alone"),
        (
            "batch.test_accuracy - none.val_loss > 0",
            "is a share and none.val_loss is a loss: they can't be compared",
        ),
        ("batch.trained - none.test_loss > 0", "the share that trained stands alone"),
        ("batch.probe(pre_std, 0, last) > 1", "layers are counted from 1"),
        ("batch.probe(pre_std, 1, end) > 1", 'the step "end" is neither a number from 0 nor last'),
    ],
)
def test_what_the_study_does_not_have(
    write_study: Write, vocabulary: Vocabulary, expression: str, message: str
) -> None:
    text = mistakes(write_study, vocabulary, f"[batch.test_accuracy > 0.1, '{expression}']")
    assert text.count("\n") == 0
    assert text.startswith(str(write_study(STUDY)))
    assert ":10: expect: '" in text
    assert message in text


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("batch.usable(optimizer.l) > 1", 'optimizer.l is not swept. Did you mean "optimizer.lr"?'),
        ("batch.usable(model.activation) > 1", "needs positive numbers, and model.activation has"),
        (
            "batch.usable(optimizer.lr) > 1",
            "more than one value of model.activation. Fix: batch.usable(optimizer.lr)",
        ),
        ("batch.test_loss[optimizer.lr=0.3] > 1", "the sweep has no optimizer.lr=0.3. Known: 0.01, 0.1."),
    ],
)
def test_what_the_sweep_does_not_have(
    write_study: Write, vocabulary: Vocabulary, expression: str, message: str
) -> None:
    assert message in mistakes(write_study, vocabulary, f"'{expression}'", SWEPT)


def test_too_few_seeds_for_an_interval(write_study: Write, vocabulary: Vocabulary) -> None:
    few = STUDY.replace("seeds: 5", "seeds: 2")
    assert "2 seeds have no interval. Fix: seeds=3" in mistakes(
        write_study, vocabulary, "batch.test_loss > 1", few
    )
    swept = SWEPT.replace("seeds: 5", "seeds: 4")
    assert "Fix: seeds=5" in mistakes(write_study, vocabulary, "batch.test_loss > 1", swept)
    fine = f"{swept}expect: 'batch.test_loss[optimizer.lr=0.1, model.activation=relu] > 1'\n"
    load_study(write_study(fine), [], vocabulary)


@pytest.mark.parametrize(
    ("seeds", "expression", "fix"),
    [
        (3, "batch.trained - none.trained > 0", "Fix: seeds=4 or more"),  # 3 against 0 of 3: p is 0.1
        (3, "batch.trained > 0.5", "Fix: seeds=6 or more"),  # 5 of 5 begins at 0.478, 6 of 6 at 0.541
        (4, "batch.trained - none.trained > 0", ""),
        (6, "batch.trained > 0.5", ""),
        (3, "batch.trained > 0.9", ""),  # 0 of 3 refutes it: its interval ends at 0.708
    ],
)
def test_shares_that_so_few_seeds_cannot_decide(
    write_study: Write, vocabulary: Vocabulary, seeds: int, expression: str, fix: str
) -> None:
    study = STUDY.replace("seeds: 5", f"seeds: {seeds}")
    if fix:
        assert fix in mistakes(write_study, vocabulary, expression, study)
    else:
        load_study(write_study(f"{study}expect: {expression}\n"), [], vocabulary)


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("3", "3 is not a claim"),
        ("[{claim: x}]", "expect.that: is missing"),
        ("[{tat: batch.test_loss > 1}]", 'unknown key "tat". Did you mean "that"?'),
        ("[{that: [3]}]", "[3] is not an expression"),
        ("[{that: batch.test_loss > 1, claim: 3}]", "expect.claim: 3 is not a text"),
        ("[{that: batch.test_loss > 1, claim: {de: x}}]", 'unknown language "de". Known: en, cs.'),
        ("[{that: batch.test_loss > 1, counter: 3}]", "expect.counter: 3 is neither true nor false"),
        ("[{that: [batch.test_loss > 1, batch.test_loss > 1]}]", "'batch.test_loss > 1' is there twice"),
        (
            "[{that: [{part: a, that: batch.test_loss > 1}, {part: a, that: none.test_loss > 1}]}]",
            "two parts are named 'a'",
        ),
        ("[{that: {one: batch.test_loss > 1, two: bath.test_loss > 1}}]", 'unknown variant "bath"'),
    ],
)
def test_what_is_no_claim(write_study: Write, vocabulary: Vocabulary, expect: str, message: str) -> None:
    assert message in mistakes(write_study, vocabulary, expect)


def test_claims_come_back_from_the_resolved_study(
    write_study: Write, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    expect = """expect:
  - ghost-8.b.test_accuracy - none.test_accuracy > 0
  - claim: {en: fast, cs: rychle}
    source: the page
    that: none.steps_to_target / batch.steps_to_target > 1
  - counter: true
    that: {dark: batch.dark_accuracy > 0.5, precise: batch@precise.test_accuracy > 0.5}
  - that:
      - {part: {en: one, cs: jedna}, that: batch.drift < 1}
"""
    study = load_study(write_study(STUDY + expect), [], vocabulary)
    plain = resolved(study, tmp_path)
    assert plain["expect"][0] == "ghost-8.b.test_accuracy - none.test_accuracy > 0"
    assert plain["expect"][2]["counter"] is True
    again = load_study(plain, [], vocabulary)
    assert again.expect == study.expect
    assert Draft202012Validator(json_schema(described_names(()))).is_valid(plain)


def test_claims_change_no_run(write_study: Write, vocabulary: Vocabulary) -> None:
    def cells(text: str) -> list[str]:
        return [run.cell for run in make_plan(load_study(write_study(text), [], vocabulary), lambda _: None)]

    assert cells(STUDY) == cells(f"{STUDY}expect: batch.test_accuracy > 0.5\n")


def test_one_variant_alone_has_no_claims(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(f"{STUDY}expect: batch.test_accuracy - none.test_accuracy > 0\n")
    assert load_variant(path, "batch", [], vocabulary).expect == ()
