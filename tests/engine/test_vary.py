"""`vary`: what a seed changes, bit by bit, and what stays that of seed 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.base.errors import ConfigError
from bnbench.data.augmentations import augmentation_of
from bnbench.data.prepared import Prepared
from bnbench.engine import schedule
from bnbench.engine.build import build_model
from bnbench.engine.library import Library
from bnbench.engine.loop import Training
from bnbench.engine.schedule import replicas
from bnbench.study import DEFAULT_VARY, Settings, Vocabulary, load_study, resolved
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.records import RunRecord
from bnbench.study.vary import SOURCES
from tests.training import chosen_for, execute, scheduled

CPU = torch.device("cpu")
TEXT = """
dataset: digits
model: {name: mlp, hidden: [8]}
norm: batch_noisy
optimizer: {name: sgd, lr: 0.05}
augment: crop_flip
max_train_samples: 100
epochs: 2
"""


@pytest.fixture
def settings(vocabulary: Vocabulary, write_study: Callable[[str], Path]) -> Callable[..., Settings]:
    def make(*changes: str) -> Settings:
        (variant,) = load_study(write_study(TEXT), changes, vocabulary).variants.values()
        return variant

    return make


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(tmp_path_factory.mktemp("data"), CPU)


def trained(chosen: Settings, library: Library, *seeds: int) -> list[tuple[RunRecord, dict[str, Any]]]:
    events = execute([RunSpec("v", {}, seed, "cell", chosen) for seed in seeds], library, CPU, debug=True)
    ended = [event for event in events if isinstance(event, RunEnded)]
    return [(event.record, dict(event.weights or {})) for event in ended]


def facts(chosen: Settings, library: Library, seed: int) -> dict[str, bytes]:
    """What of a run comes from each source, before its first step."""
    data: Prepared = library.prepared(chosen.for_seed(seed))
    run = RunSpec("v", {}, seed, "cell", chosen)
    choice = chosen_for(chosen, data.sizes)
    training = Training([run], data, None, CPU, choice)
    order = torch.cat([index.flatten() for index in training.stream.orders(0)])
    model = build_model(chosen, data.sizes, seed)
    augmented = Training([run], data, augmentation_of(chosen.augment), CPU, choice)
    plain, moved = (next(t.batches())[0] for t in (training, augmented))
    return {
        "init": b"".join(p.detach().numpy().tobytes() for p in model.parameters()),
        "order": order.numpy().tobytes(),
        "augmentation": (moved.abs().sum((-1, -2)) / plain.abs().sum((-1, -2))).numpy().tobytes(),
        "noise": dict(model.named_buffers())["blocks.0.norm.noise_seed"].numpy().tobytes(),
        "split": data.val_inputs.numpy().tobytes(),
    }


@pytest.mark.parametrize("source", ["init", "order", "augmentation", "noise", "split"])
def test_one_source_alone(source: str, settings: Callable[..., Settings], library: Library) -> None:
    """Of all five, the one that is named differs between seeds, and the others are those of seed 0."""
    chosen = settings(f"vary=[{source}]")
    first, second = facts(chosen, library, 0), facts(chosen, library, 1)
    changed = {name for name in first if first[name] != second[name]}
    if source in ("order", "split"):  # other samples in the first batch
        assert source in changed <= {source, "augmentation"}
    else:
        assert changed == {source}
    usual = facts(settings(), library, 1)
    assert {name for name in usual if usual[name] != first[name]} == {*DEFAULT_VARY}
    if source != "augmentation":  # which is of other images then
        assert second[source] == facts(settings(f"vary=[{', '.join(SOURCES)}]"), library, 1)[source]


def test_seed_zero_is_the_same_run_whatever_varies(
    settings: Callable[..., Settings], library: Library
) -> None:
    usual, other = (trained(settings(*change), library, 0)[0] for change in ((), ("vary=[order, split]",)))
    assert usual[0].step_losses == other[0].step_losses
    assert usual[0].final == other[0].final


@pytest.mark.parametrize("vary", ["[init]", "[order]", "[init, split]", "[augmentation, order]"])
def test_a_stack_and_runs_one_by_one_agree(
    vary: str, settings: Callable[..., Settings], library: Library
) -> None:
    changes = (f"vary={vary}", "norm=batch")
    stacked = trained(settings(*changes, "engine=stacked"), library, 0, 1, 2)
    alone = trained(settings(*changes, "engine=sequential"), library, 0, 1, 2)
    assert [record.environment["engine"] for record, _ in stacked] == ["stacked"] * 3
    for (ours, _), (theirs, _) in zip(stacked, alone, strict=True):
        assert ours.step_losses == pytest.approx(theirs.step_losses, abs=1e-4)
    assert len({record.step_losses for record, _ in stacked}) == 3


def test_every_seed_of_a_split_has_its_own_data(settings: Callable[..., Settings], library: Library) -> None:
    """Training and validation part together are the same samples; the test set and its order never change."""
    chosen = settings("vary=[split]", "max_train_samples=null")
    one, two = (library.prepared(chosen.for_seed(seed)) for seed in (0, 1))
    assert not torch.equal(one.val_targets, two.val_targets)
    assert torch.equal(one.test_targets, two.test_targets)

    def samples(data: Prepared) -> list[Any]:
        held_out = (data.val_inputs * data.scale + data.center).round()
        return sorted(np.concatenate([data.train_inputs.float(), held_out]).reshape(-1, 64).tolist())

    assert samples(one) == samples(two)
    assert not torch.equal(one.scale, two.scale)  # each training part has statistics of its own
    groups = replicas([RunSpec("v", {}, seed, "cell", chosen) for seed in (0, 1, 2)])
    assert [[run.seed for run in group] for group in groups] == [[0], [1], [2]]


def test_workers_have_the_split_of_each_seed(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes and one give the same bits, each seed on its own split."""
    monkeypatch.setattr(schedule, "WORTH_WORKERS", 0.0)
    chosen = settings("vary=[init, split]", "norm=batch")
    runs = [RunSpec("v", {}, seed, "cell", chosen) for seed in range(3)]

    def losses(workers: int) -> dict[int, tuple[Any, ...]]:
        events = scheduled(runs, Library(tmp_path, CPU), workers=workers)
        ended = [event.record for event in events if isinstance(event, RunEnded)]
        return {record.seed: (record.step_losses, dict(record.final)) for record in ended}

    assert losses(2) == losses(1)


def test_vary_is_part_of_what_identifies_a_run(
    vocabulary: Vocabulary, write_study: Callable[[str], Path], tmp_path: Path
) -> None:
    def cell(*changes: str) -> str:
        return make_plan(load_study(write_study(TEXT), changes, vocabulary), lambda settings: "")[0].cell

    assert cell("vary=[order, init]") == cell("vary=[init, order]") != cell()
    study = load_study(write_study(TEXT), ["vary=[split, order]"], vocabulary)
    assert resolved(study, tmp_path)["vary"] == ["order", "split"]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("[]", "all runs of a variant would be the same run"),
        ("[init, orders]", 'unknown source of randomness "orders". Did you mean "order"?'),
        ("[init, init]", "init repeated"),
        ("init", "is not a list"),
        ("{init: true}", "is not a list"),
        ("null", "is not a list"),
        ("[[init]]", "unknown source of randomness"),
    ],
)
def test_what_can_not_be_varied(
    vary: str, message: str, vocabulary: Vocabulary, write_study: Callable[[str], Path]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write_study(f"{TEXT}vary: {vary}\n"), [], vocabulary)
    (mistake,) = caught.value.mistakes
    assert mistake.place.endswith("study.yaml:9")
    assert message in mistake.message


@pytest.mark.parametrize("text", ["variants: {a: {}, b: {vary: [init]}}", "sweep: {vary: [[init], [order]]}"])
def test_no_variant_varies_something_else(
    text: str, vocabulary: Vocabulary, write_study: Callable[[str], Path]
) -> None:
    with pytest.raises(ConfigError, match="vary belongs to the study"):
        load_study(write_study(f"{TEXT}{text}\n"), [], vocabulary)
