"""Batches of a few classes: every sample once, the sizes of usual batches, and the classes that each holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbench import check
from bnbench.base.errors import ConfigError
from bnbench.data.batches import LastBatch, epoch_order
from bnbench.data.catalogue import digits
from bnbench.data.class_batches import ClassBatches
from bnbench.engine.loop import Training
from bnbench.study import Vocabulary, load_study
from bnbench.study.plan import RunSpec
from tests.prepared import prepare
from tests.training import chosen_for

CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.integers(0, 40), min_size=2, max_size=7).filter(lambda counts: sum(counts) > 0),
    classes=st.integers(1, 4),
    batch_size=st.integers(1, 17),
    last_batch=st.sampled_from(["merge", "keep", "drop"]),
)
def test_every_sample_once_and_the_sizes_of_usual_batches(
    counts: list[int], classes: int, batch_size: int, last_batch: LastBatch
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    batches = ClassBatches(labels, classes, batch_size, last_batch).order(3, 1)
    usual = epoch_order(len(labels), batch_size, 3, 1, last_batch)
    assert [len(batch) for batch in batches] == [len(batch) for batch in usual]
    seen = torch.cat(batches).tolist()
    assert len(set(seen)) == len(seen)
    if last_batch != "drop":
        assert sorted(seen) == list(range(len(labels)))


@pytest.mark.parametrize("classes", [1, 2, 5, 10])
def test_batches_hold_that_many_classes_in_equal_shares(classes: int) -> None:
    """1000 samples of 10 classes in batches of 20: of 50 batches a few at the end may hold others."""
    labels = torch.arange(1000) % 10
    batches = ClassBatches(labels, classes, 20).order(0, 0)
    counts = torch.stack([labels[batch].bincount(minlength=10) for batch in batches])
    right = [row.count_nonzero() == classes and row.max() == 20 // classes for row in counts]
    assert sum(right) >= 46
    assert all(right[:40])
    firsts = labels[torch.stack(batches)[:, 0]]  # within a batch the order is random: not class after class
    assert len(firsts.unique()) == 10


def test_the_order_is_the_seeds_and_the_epochs_own() -> None:
    drawn = ClassBatches(torch.arange(200) % 4, 2, 20)

    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(drawn.order(seed, epoch)).tolist()

    state = torch.get_rng_state()
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert torch.equal(state, torch.get_rng_state())


def test_a_note_counts_the_batches_with_other_classes() -> None:
    """6 samples of one class and 2 of the other, in batches of 4: the second batch has one class left."""
    labels = torch.tensor([0] * 6 + [1] * 2)
    assert ClassBatches(labels, 2, 4).note(0) == (
        "batches: 1 of 2 of the first epoch do not hold 2 classes, as the samples of their classes ran out"
    )
    assert ClassBatches(torch.arange(8) % 2, 2, 4).note(0) is None


def test_every_variant_trains_on_the_same_batches(vocabulary: Vocabulary, tmp_path: Path) -> None:
    data = prepare(digits(tmp_path), val_fraction=0.2, split_seed=0, device=CPU)
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\nepochs: 1\nbatches: {classes: 2}\n"
        "variants: [none, batch]\n"
    )
    targets = []
    for variant in load_study(path, [], vocabulary).variants.values():
        run = RunSpec("v", {}, 5, "cell", variant)
        training = Training([run], data, None, CPU, chosen_for(variant, data.sizes))
        targets.append([labels[0] for _, labels in training.batches()])
    assert all(torch.equal(*pair) for pair in zip(*targets, strict=True))
    assert {len(labels.unique()) for labels in targets[0][:30]} == {2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batches": {"classes": 11}}, "batches.classes: 11, and the data set digits has 10 classes"),
        ({"batches": {"classes": 0}}, "batches.classes: 0 is wrong: it should be greater than or equal to 1"),
        ({"batches": {"classes": True}}, "a number is wanted, not true or false"),
        ({"batches": {"groups": 2}}, 'unknown key "groups" in batches. Known: classes'),
        ({"batches": 2}, "batches: 2 is wrong: it should be a mapping"),
        ({"batches.classes": 9, "batch_size": 8}, "a batch has too few samples"),
        ({"batches.classes": 4, "max_train_samples": 3}, "and there are 3 training samples"),
    ],
)
def test_what_the_data_can_not_give_is_refused(settings: dict[str, Any], message: str) -> None:
    study = {"dataset": "digits", "model": "mlp", "optimizer": {"name": "sgd", "lr": 0.1}, "norm": "batch"}
    with pytest.raises(ConfigError, match=message):
        check({**study, **settings})
