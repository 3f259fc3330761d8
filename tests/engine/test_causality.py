"""Later tokens, and padding, that a network sees are found by changing them, whatever its layers are called.

Oracles: normalizers whose statistics go over a batch by their papers, and one of one's own that looks at the next
position.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.registry import Entry
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.rehearsal.case import Case
from bnbench.engine.rehearsal.causality import (
    leaks_of,
    why_reads_the_answer,
    why_sees_later_tokens,
)
from bnbench.engine.rehearsal.padding import padding_of, why_padding_counts
from bnbench.engine.rehearsal.trial_outputs import ByMode
from bnbench.models.dropout import SeededDropout
from bnbench.norms import NormFacts, norms
from bnbench.norms.tokens import TokenNorm
from bnbench.study import Vocabulary, load_study
from bnbench.study.plan import make_plan

SIZES = Sizes((6,), 11, vocabulary=11, per_position=True)
STUDY = """
dataset: stdlib_text
optimizer: {name: adam, lr: 0.01}
seeds: 2
steps: 10
"""


def case_of(
    text: str, vocabulary: Vocabulary, tmp_path: Path, sizes: Sizes = SIZES
) -> tuple[Case, nn.Module]:
    (tmp_path / "s.yaml").write_text(STUDY + text)
    runs = tuple(make_plan(load_study(tmp_path / "s.yaml", (), vocabulary), lambda settings: ""))
    case = Case(runs, sizes, 100, 50)
    return case, build_model(case.settings, sizes, 0)


def transformer(norm: str, **options: object) -> str:
    more = "".join(f", {key}: {str(value).lower()}" for key, value in options.items())
    return f"model: {{name: transformer, depth: 1, width: 8, heads: 2{more}}}\nvariants: [{norm}]\n"


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("none", ByMode()),
        ("layer", ByMode()),
        ("rms", ByMode()),
        ("dyt", ByMode()),
        ("qk", ByMode()),
        ("batch_virtual", ByMode()),
        ("batch", ByMode(training=True)),
        ("masked_batch", ByMode(training=True)),
        ("power", ByMode(training=True)),
        ("ghost", ByMode(training=True)),
        ("batch_stats_at_inference", ByMode(training=True, inference=True)),
    ],
)
def test_normalizers_that_see_later_tokens(
    norm: str, expected: ByMode, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """The network is left as it was, and a class of the whole text is no position's output."""
    case, model = case_of(transformer(norm), vocabulary, tmp_path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert leaks_of(case, model) == expected
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class LooksAhead(nn.Module):
    """Takes the mean of every two neighbours: nothing of it is a statistic."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix (N * T, C)."""
        return (x + x.roll(-1, 0)) / 2


def test_a_plugins_layer_is_judged_by_what_it_does(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms.names()
    monkeypatch.setitem(norms._entries, "none", Entry("none", lambda c, dim: LooksAhead(), NormFacts()))
    case, model = case_of(transformer("none"), vocabulary, tmp_path)
    assert any(isinstance(layer, TokenNorm) for layer in model.modules())
    assert leaks_of(case, model) == ByMode(training=True, inference=True)


def test_random_masks_are_no_later_tokens(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both batches meet the same masks, which a dropout layer would draw one after the other."""
    norms.names()
    monkeypatch.setitem(norms._entries, "none", Entry("none", lambda c, dim: SeededDropout(0.5), NormFacts()))
    case, model = case_of(transformer("none"), vocabulary, tmp_path)
    assert leaks_of(case, model) == ByMode()


def test_what_is_seen_in_training_alone_is_a_caution(vocabulary: Vocabulary, tmp_path: Path) -> None:
    case, _ = case_of(transformer("batch"), vocabulary, tmp_path)
    text = why_sees_later_tokens(case, ByMode(training=True), ())
    assert text.startswith("batch: in training, the output at a position depends on later tokens")
    assert "all metrics are measured so" in text
    assert "batch@batch takes its statistics from the test batch" in why_sees_later_tokens(
        case, ByMode(training=True), ("batch",)
    )
    assert not why_sees_later_tokens(case, ByMode(), ("batch",))
    assert not why_reads_the_answer(case, ByMode(training=True))


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        (transformer("batch_stats_at_inference"), "norm: layer, or another normalizer"),
        (transformer("layer", causal=False), "leave model.causal out"),
    ],
)
def test_a_network_that_reads_the_answer_is_a_mistake(
    text: str, fix: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    case, model = case_of(text, vocabulary, tmp_path)
    leaks = leaks_of(case, model)
    assert leaks.inference
    assert f"every metric would be of a network that reads the answer. Fix: {fix}" in why_reads_the_answer(
        case, leaks
    )


def test_one_output_a_text_may_depend_on_all_of_it(vocabulary: Vocabulary, tmp_path: Path) -> None:
    sizes = Sizes((6,), 11, vocabulary=11)
    case, model = case_of(transformer("batch"), vocabulary, tmp_path, sizes)
    assert leaks_of(case, model) == ByMode()


PADDED = Sizes((8,), 3, vocabulary=11, masked=True)
NUMBERS = Sizes((8, 3), 3, masked=True)


@pytest.mark.parametrize("sizes", [PADDED, NUMBERS], ids=["tokens", "numbers"])
@pytest.mark.parametrize("model", ["transformer", "textcnn"])
@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("none", ByMode()),
        ("layer", ByMode()),
        ("masked_batch", ByMode()),
        ("power", ByMode()),
        ("batch", ByMode(training=True)),
        ("batch_stats_at_inference", ByMode(training=True, inference=True)),
    ],
)
def test_normalizers_that_count_padding(
    norm: str, expected: ByMode, model: str, sizes: Sizes, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    text = (
        transformer(norm)
        if model == "transformer"
        else f"model: {{name: textcnn, width: 8}}\nvariants: [{norm}]\n"
    )
    case, network = case_of(text + "task: text_classification\n", vocabulary, tmp_path, sizes)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert padding_of(case, network) == expected
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    said = why_padding_counts(case, expected)
    when = "in training and at inference" if expected.inference else "in training"
    assert (
        said.startswith(f"{norm}: {when}, the output for a sequence depends")
        if expected.training
        else not said
    )


def test_a_network_without_padding_is_not_tried(vocabulary: Vocabulary, tmp_path: Path) -> None:
    case, network = case_of(transformer("batch"), vocabulary, tmp_path)
    assert padding_of(case, network) == ByMode()
