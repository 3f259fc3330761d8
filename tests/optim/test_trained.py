"""`train: norm | head`: what learns moves as in a network trained alone, and nothing else moves or decays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench import check
from bnbench.base.errors import ConfigError
from bnbench.data import Sizes
from bnbench.data.catalogue import digits
from bnbench.data.prepared import Prepared
from bnbench.engine.build import build_model, make_objective
from bnbench.models.layers import NormLayer
from bnbench.models.resnet import resnet20
from bnbench.norms import norms
from bnbench.norms.parameter_groups import groups_by_name, head_names
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec
from tests.prepared import prepare
from tests.training import OneSet, execute

CPU = torch.device("cpu")
SIZES = Sizes((1, 8, 8), 10)
Make = Callable[..., Settings]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """100 digits to train on."""
    dataset = digits(tmp_path_factory.mktemp("data"))
    return prepare(dataset, val_fraction=0.2, split_seed=0, max_train_samples=100, device=CPU)


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Make:
    def make(*changes: str) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [13]}\nnorm: batch\nepochs: 2\nbatch_size: 50\n"
            "optimizer: {name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 0.1}\n"
        )
        (variant,) = load_study(path, list(changes), vocabulary).variants.values()
        return variant

    return make


def trained(settings: Settings, data: Prepared, seeds: tuple[int, ...] = (0, 1)) -> list[RunEnded]:
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in seeds]
    events = execute(runs, OneSet(data), CPU, debug=True)
    return [event for event in events if isinstance(event, RunEnded)]


def moved(before: Mapping[str, Tensor], ended: RunEnded) -> set[str]:
    return {
        name
        for name, value in before.items()
        if not torch.equal(value, torch.from_numpy(ended.weights[name]))
    }


STATISTICS = {f"blocks.0.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
@pytest.mark.parametrize(
    ("what", "learns"),
    [
        ("norm", {"blocks.0.norm.weight", "blocks.0.norm.bias"}),
        ("head", {"head.weight", "head.bias"}),
        (
            "all",
            {
                "blocks.0.linear.weight",
                "blocks.0.norm.weight",
                "blocks.0.norm.bias",
                "head.weight",
                "head.bias",
            },
        ),
    ],
)
def test_only_what_learns_moves_and_running_statistics_move_always(
    engine: str, what: str, learns: set[str], settings: Make, data: Prepared
) -> None:
    """Weight decay would move every weight that the optimizer had, even without a gradient."""
    how = settings(f"train={what}", f"engine={engine}")
    for ended in trained(how, data):
        before = build_model(how, data.sizes, ended.run.seed).state_dict()
        assert ended.record.environment["engine"] == engine
        assert moved(before, ended) == learns | STATISTICS


@pytest.mark.parametrize("what", ["norm", "head"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_stack_trains_as_a_run_alone(what: str, norm: str, settings: Make, data: Prepared) -> None:
    """clip_norm looks at the gradient of what learns alone; group norm goes one replica at a time inside the stack."""
    how = (f"train={what}", f"norm={norm}", "clip_norm=0.3", "optimizer.lr=0.5")
    stacked = trained(settings(*how, "engine=stacked"), data)
    alone = trained(settings(*how, "engine=sequential"), data)
    assert {ended.record.environment["engine"] for ended in stacked} == {"stacked"}
    for one, other in zip(stacked, alone, strict=True):
        assert one.record.step_losses == pytest.approx(other.record.step_losses, abs=1e-6)


def test_a_step_of_the_head_is_gradient_descent_on_it(settings: Make, data: Prepared) -> None:
    """The head on fixed features is logistic regression: its first step is known in closed form (float64).

    v = g + decay * w and w - lr * v, with g = (softmax - one hot)' features / N.
    """
    how = settings("train=head", "engine=sequential", "epochs=1", "batch_size=100")
    (ended,) = trained(how, data, (0,))
    model = build_model(how, data.sizes, 0)
    features: list[Tensor] = []
    head: Any = model.get_submodule("head")
    head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0].detach().double()))
    inputs = data.normalise_(data.train_inputs.float())
    logits = model(inputs).detach().double()
    wrong = logits.softmax(1) - nn.functional.one_hot(data.train_targets, 10)
    weight, bias = head.weight.detach().double(), head.bias.detach().double()
    expected = weight - 0.05 * (wrong.T @ features[0] / 100 + 0.1 * weight)
    got: Any = ended.weights
    torch.testing.assert_close(torch.from_numpy(got["head.weight"]).double(), expected, atol=1e-6, rtol=0)
    expected_bias = bias - 0.05 * (wrong.mean(0) + 0.1 * bias)
    torch.testing.assert_close(torch.from_numpy(got["head.bias"]).double(), expected_bias, atol=1e-6, rtol=0)


def test_no_gradient_is_computed_for_what_does_not_learn(settings: Make) -> None:
    how = settings("train=norm")
    model = build_model(how, SIZES, 0)
    draw = torch.Generator().manual_seed(0)
    loss = make_objective(how)(model(torch.randn(4, 1, 8, 8, generator=draw)), torch.tensor([0, 1, 2, 3]))
    loss.backward()  # type: ignore[no-untyped-call]
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {"blocks.0.norm.weight", "blocks.0.norm.bias"}


@pytest.mark.parametrize("norm", [name for name in norms.names() if name not in ("none", "qk")])
def test_the_groups_of_a_resnet(norm: str) -> None:
    """Each parameter is in one group: 20 convolution and linear weights, and the normalizers' own numbers."""
    model = resnet20((3, 8, 8), 10, NormLayer(norms.get(norm)))
    groups = groups_by_name(model)
    assert set(groups) == {name for name, _ in model.named_parameters()}
    weights = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    assert {name for name, group in groups.items() if group == "weights"} == weights
    assert groups["head.bias"] == "biases"
    own = {name.rpartition(".")[2]: group for name, group in groups.items() if ".norm." in name}
    known = {
        "weight": "gamma",
        "bias": "beta",
        "scale": "gamma",
        "shift": "beta",
        "alpha": "gamma",
        "tau": "beta",
    }
    assert own == {name: known.get(name, "gamma") for name in own}


def test_the_last_layer_is_called_head_or_is_the_last_of_weights() -> None:
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert head_names(plain) == {"2.weight", "2.bias"}
    assert head_names(nn.Sequential(nn.ReLU())) == set()


def test_tables_say_how_many_parameters_learn(settings: Make, data: Prepared) -> None:
    (ended,) = trained(settings("train=norm"), data, (0,))
    record = ended.record
    assert (record.num_parameters, record.trained_parameters) == (64 * 13 + 26 + 140, 26)
    assert "v: train: norm: 26 of 998 parameters learn, gamma and beta of the normalizers" in record.notes
    (ended,) = trained(settings(), data, (0,))
    assert ended.record.trained_parameters is None


def test_check_counts_what_learns_and_refuses_nothing_to_learn() -> None:
    study = {"dataset": "digits", "model": "mlp", "optimizer": {"name": "sgd", "lr": 0.1}, "norm": "batch"}
    variants = {"norm": {"train": "norm"}, "head": {"train": "head"}}
    cells = {cell["label"]: cell for cell in check({**study, "variants": variants}).cells}
    assert (cells["norm"]["trained_parameters"], cells["head"]["trained_parameters"]) == (128, 650)
    with pytest.raises(ConfigError, match="train: norm with norm: none: the network has no normalizer"):
        check({**study, "variants": {"a": {"train": "norm", "norm": "none"}, "b": {"norm": "batch"}}})
    with pytest.raises(ConfigError, match="norm: batch: its layers have no gamma and no beta"):
        check({**study, "variants": {"a": {"train": "norm", "norm.affine": False}, "b": {"norm": "batch"}}})
