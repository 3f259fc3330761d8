"""`optimizer.groups`: decay and learning rate by the owner of a parameter, as the update rules say in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bnbench import check
from bnbench.base.errors import ConfigError
from bnbench.data import Sizes
from bnbench.data.catalogue import digits
from bnbench.engine.build import build_model, make_optimizer, make_schedule
from bnbench.engine.steppers.sequential import Sequential
from bnbench.models.layers import NormLayer, linear_block
from bnbench.norms import norms
from bnbench.optim import optimizers
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec
from tests.prepared import prepare
from tests.training import OneSet, execute

CPU = torch.device("cpu")
RULES = {
    "gamma": {"weight_decay": 0.0, "lr_factor": 0.5},
    "biases": {"weight_decay": 0.25},
    "beta": {"lr_factor": 3.0},
}
STUDY: dict[str, Any] = {
    "dataset": "digits",
    "model": {"name": "mlp", "hidden": [13]},
    "norm": "batch",
    "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.01, "groups": {"gamma": {"weight_decay": 0}}},
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(linear_block(3, 4, NormLayer(norms.get("batch"))), nn.Linear(4, 2))


@pytest.mark.parametrize("name", optimizers.names())
def test_every_optimizer_has_the_decay_and_the_rate_of_each_group(name: str) -> None:
    model = network()
    optimizer = optimizers.get(name).factory(model, lr=0.1, weight_decay=0.5, groups=RULES)
    by_id = {
        id(p): (group["weight_decay"], pytest.approx(group["lr"]))
        for group in optimizer.param_groups
        for p in group["params"]
    }
    got = {key: by_id[id(parameter)] for key, parameter in model.named_parameters()}
    assert got == {
        "0.linear.weight": (0.5, 0.1),
        "0.norm.weight": (0.0, 0.05),
        "0.norm.bias": (0.5, 0.3),
        "1.weight": (0.5, 0.1),
        "1.bias": (0.25, 0.1),
    }


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam_keras"])
def test_one_step_without_a_gradient_shrinks_by_rate_and_decay(name: str) -> None:
    """w (1 - lr * lr_factor * weight_decay), for sgd's decay in the gradient as for AdamW's beside it."""
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    optimizers.get(name).factory(model, lr=0.1, weight_decay=0.5, groups=RULES).step()
    expected = {
        "0.linear.weight": 1 - 0.1 * 0.5,
        "0.norm.weight": 1.0,
        "0.norm.bias": 1 - 0.1 * 3 * 0.5,
        "1.weight": 1 - 0.1 * 0.5,
        "1.bias": 1 - 0.1 * 0.25,
    }
    for key, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), torch.full_like(value, expected[key]))


def test_the_switch_is_what_a_group_without_a_decay_of_its_own_has() -> None:
    model = network()
    optimizer = optimizers.get("sgd").factory(
        model, lr=0.1, weight_decay=0.5, decay_norm_and_bias=False, groups={"weights": {"lr_factor": 2.0}}
    )
    assert [(group["weight_decay"], group["lr"]) for group in optimizer.param_groups] == [
        (0.5, 0.2),
        (0.0, 0.1),
        (0.0, 0.1),
        (0.0, 0.1),
    ]


def settings_of(vocabulary: Vocabulary, tmp_path: Path, *changes: str) -> Settings:
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: digits\nmodel: {name: mlp, hidden: [13]}\nnorm: batch\nepochs: 2\nbatch_size: 50\n"
        "schedule: {name: step, milestones: [1], gamma: 0.1}\n"
        "optimizer: {name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.1, groups: {gamma: {weight_decay: 0, "
        "lr_factor: 3}, beta: {lr_factor: 0}}}\n"
    )
    (variant,) = load_study(path, list(changes), vocabulary).variants.values()
    return variant


def test_the_schedule_multiplies_the_rate_of_every_group(vocabulary: Vocabulary, tmp_path: Path) -> None:
    how = settings_of(vocabulary, tmp_path)
    stepper = Sequential(build_model(how, Sizes((1, 8, 8), 10), 0), how, CPU)
    stepper.scale_rates(make_schedule(how, 20, 10)(15))
    assert [group["lr"] for group in stepper.optimizer.param_groups] == pytest.approx([0.01, 0.03, 0, 0.01])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_stack_has_the_groups_of_a_run_alone(
    optimizer: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    # zeros stay zero: a constant pixel has no gradient but rounding otherwise, and Adam makes full steps of it
    data = prepare(
        digits(tmp_path), val_fraction=0.2, split_seed=0, max_train_samples=100, device=CPU, normalize="unit"
    )
    rules = "{gamma: {weight_decay: 0, lr_factor: 3}, beta: {lr_factor: 0}}"
    word = {
        "sgd": f"{{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.1, groups: {rules}}}",
        "adamw": f"{{name: adamw, lr: 0.01, weight_decay: 0.1, groups: {rules}}}",
    }[optimizer]
    ends = []
    for engine in ("stacked", "sequential"):
        how = settings_of(vocabulary, tmp_path, f"optimizer={word}", f"engine={engine}")
        events = execute(
            [RunSpec("v", {}, seed, "cell", how) for seed in (0, 1)], OneSet(data), CPU, debug=True
        )
        ends.append([event for event in events if isinstance(event, RunEnded)])
    assert {ended.record.environment["engine"] for ended in ends[0]} == {"stacked"}
    for stacked, alone in zip(*ends, strict=True):
        assert stacked.record.step_losses == pytest.approx(alone.record.step_losses, abs=1e-5)
        assert not stacked.weights["blocks.0.norm.bias"].any()  # lr_factor: 0 keeps beta where it starts


def test_no_group_leaves_settings_and_optimizer_as_they_were(vocabulary: Vocabulary, tmp_path: Path) -> None:
    how = settings_of(vocabulary, tmp_path, "optimizer.groups=none")
    identity = how.identity()
    assert "groups" not in identity["optimizer"]["options"]
    assert not {"train", "clip", "batches"} & set(identity)
    (group,) = make_optimizer(how)(network()).param_groups
    assert (group["weight_decay"], group["lr"], len(group["params"])) == (0.1, 0.1, 5)


def changed(**variants: Any) -> dict[str, Any]:
    return {**STUDY, "variants": variants}


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            {"a": {"optimizer.groups.gama.lr_factor": 1}},
            r"'gama' is not one of weights, gamma, beta or biases",
        ),
        (
            {"a": {"optimizer.groups.gamma.lr_factor": -1}},
            r"-1 is wrong: it should be greater than or equal to 0",
        ),
        ({"a": {"optimizer.groups.gamma.lr": 1}}, r"'lr' is not one of weight_decay or lr_factor"),
        ({"a": {"optimizer.groups": {}}}, r"optimizer.groups: .* names nothing"),
        (
            {"a": {"optimizer.decay_norm_and_bias": False, "optimizer.groups.beta.weight_decay": 0.5}},
            r"beta.weight_decay: 0.5 with optimizer.decay_norm_and_bias: false, which keeps weight decay from beta",
        ),
        (
            {"a": {"norm": "none"}, "b": {"norm": {"name": "batch", "affine": False}}},
            r"optimizer.groups.gamma: no variant with it has a parameter of this group that learns",
        ),
        (
            {
                "a": {"optimizer.groups": None, "optimizer.decay_norm_and_bias": False},
                "b": {f"optimizer.groups.{group}.weight_decay": 0 for group in ("gamma", "beta", "biases")},
            },
            r"variants a and b have the same settings",
        ),
    ],
)
def test_what_groups_can_not_say_is_refused(variants: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(changed(**variants))


def test_a_group_that_one_of_the_variants_has_is_right() -> None:
    assert check(changed(none={"norm": "none"}, batch={"norm": "batch"})).num_runs
