"""Ways of inference against float64 NumPy, for every normalizer that has them; and what they leave behind: nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnbench.base.errors import ConfigError
from bnbench.network.statistics import StatisticsLayer, statistics_of_network
from bnbench.network.ways import Total, inferring
from bnbench.norms import norms
from bnbench.study import Vocabulary, load_study
from bnbench.study.evaluation import Inference

Array = NDArray[np.float64]
UNEVEN = (9, 4, 2)
#: Inference of these is gamma * (x - mean) / sqrt(var + eps) + beta.
STANDARD = (
    "batch", "batch_custom", "batch_keras", "batch_no_beta", "batch_no_gamma", "batch_noisy", "ghost", "renorm", "sync",
)  # fmt: skip
#: Inference of these uses one of the two statistics.
HALF = ("batch_mean_only", "batch_var_only")


class Net(nn.Module):
    """Two hidden blocks; with positions, convolutions of one pixel."""

    def __init__(self, norm: Callable[[int], nn.Module], positions: bool = False) -> None:
        super().__init__()
        weights = (lambda i, o: nn.Conv2d(i, o, 1)) if positions else nn.Linear
        self.first, self.norm1 = weights(6, 5), norm(5)
        self.second, self.norm2 = weights(5, 4), norm(4)
        self.last = weights(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.first(x)))
        return self.last(torch.relu(self.norm2(self.second(x))))  # type: ignore[no-any-return]


def made_as(name: str, dim: int) -> Callable[[int], nn.Module]:
    entry = norms.get(name)
    return lambda width: entry.factory(width, dim, **entry.typed({}))


def network(
    norm: Callable[[int], nn.Module], positions: bool = False
) -> tuple[Net, Sequence[StatisticsLayer]]:
    """A network that has seen a few batches, with gamma and beta of its own."""
    torch.manual_seed(0)
    net = Net(norm, positions)
    for parameter in net.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape))
    for _ in range(20):
        net(inputs(8, positions) * 2 + 1)
    found = statistics_of_network(net, lambda count: inputs(count, positions))
    assert found.refused == ()
    return net, found.layers


@cache
def trained(name: str, positions: bool) -> tuple[Net, Sequence[StatisticsLayer]]:
    """Shared by the tests: what one of them left behind, another would see."""
    return network(made_as(name, 2 if positions else 1), positions)


def inputs(count: int, positions: bool = False) -> Tensor:
    return torch.randn((count, 6, 3, 2) if positions else (count, 6))


def passes(batches: Sequence[Tensor]) -> Callable[[nn.Module, Inference], Iterator[Tensor]]:
    def made(model: nn.Module, way: Inference) -> Iterator[Tensor]:
        for batch in batches:
            yield model(batch)

    return made


def reference(net: Net, x: Tensor, statistics: Callable[[str, Array], tuple[Array, Array]]) -> Array:
    """The network in float64; statistics: of a layer's inputs, channels last, to mean and variance."""

    def weights(layer: nn.Module, values: Array) -> Array:
        matrix, bias = (p.detach().double().numpy() for p in layer.parameters())
        return values @ matrix.reshape(matrix.shape[:2]).T + bias  # type: ignore[no-any-return]

    values = np.moveaxis(x.double().numpy(), 1, -1)
    for layer, norm in (("first", "norm1"), ("second", "norm2")):
        module = getattr(net, norm)
        values = weights(getattr(net, layer), values)
        mean, var = statistics(norm, values)
        values = (values - mean) / np.sqrt(var + module.eps)
        for parameter, apply in (("weight", np.multiply), ("bias", np.add)):
            vector = getattr(module, parameter, None)
            values = values if vector is None else apply(values, vector.detach().double().numpy())
        values = np.maximum(values, 0)
    return np.moveaxis(weights(net.last, values), -1, 1)


def own(values: Array) -> tuple[Array, Array]:
    axes = tuple(range(values.ndim - 1))
    return values.mean(axes), values.var(axes)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("name", STANDARD)
def test_the_statistics_of_the_test_batch(name: str, positions: bool) -> None:
    net, layers = trained(name, positions)
    assert [layer.name for layer in layers] == ["norm1", "norm2"]
    x = 3 * inputs(50, positions) - 1
    with inferring(net, Inference(name="batch"), layers, passes([])), torch.inference_mode():
        found = net(x)
    assert np.allclose(found.numpy(), reference(net, x, lambda norm, values: own(values)), atol=2e-4)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("name", STANDARD)
def test_precise_statistics_are_the_total_ones_over_uneven_batches(name: str, positions: bool) -> None:
    """Not the mean of the batches' variances: with these batches it is far off."""
    net, layers = trained(name, positions)
    batches = [inputs(size, positions) + 2 * place for place, size in enumerate(UNEVEN)]
    seen: dict[str, list[Array]] = {"norm1": [], "norm2": []}

    def noted(norm: str, values: Array) -> tuple[Array, Array]:
        seen[norm].append(values.reshape(-1, values.shape[-1]))
        return own(values)

    for batch in batches:
        reference(net, batch, noted)
    x = inputs(20, positions)
    whole = {norm: np.concatenate(values) for norm, values in seen.items()}
    expected = reference(net, x, lambda norm, values: (whole[norm].mean(0), whole[norm].var(0)))
    naive = reference(
        net, x, lambda norm, values: (whole[norm].mean(0), np.mean([v.var(0) for v in seen[norm]], 0))
    )
    with inferring(net, Inference(name="precise"), layers, passes(batches)), torch.inference_mode():
        found = net(x).numpy()
    assert np.allclose(found, expected, atol=2e-4)
    assert not np.allclose(found, naive, atol=2e-2)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("name", STANDARD)
def test_the_example_weighs_in_as_the_paper_writes_it(name: str, positions: bool) -> None:
    """With E[x²] of the running statistics and of the example, literally; renorm's running variance holds its eps."""
    net, layers = trained(name, positions)
    x, alpha = inputs(7, positions), 0.3
    added = 0.0 if name != "renorm" else net.norm1.eps

    def mixed(norm: str, values: Array) -> tuple[Array, Array]:
        mean, var = (
            getattr(getattr(net, norm), f"running_{which}").double().numpy() for which in ("mean", "var")
        )
        axes = tuple(range(1, values.ndim - 1))
        first, second = values.mean(axes, keepdims=True), (values**2).mean(axes, keepdims=True)
        center = alpha * first + (1 - alpha) * mean
        return center, alpha * second + (1 - alpha) * (var - added + mean**2) - center**2

    with inferring(net, Inference(name="example_weighted", alpha=alpha), layers, passes([])):
        found = net(x).detach().numpy()
    assert np.allclose(found, reference(net, x, mixed), atol=2e-4)


@pytest.mark.parametrize("name", HALF)
def test_layers_with_one_statistic_do_what_they_do_in_training(name: str) -> None:
    net, layers = network(made_as(name, 1))
    assert {layer.form.eps for layer in layers} == {None}
    x = inputs(40)
    with inferring(net, Inference(name="batch"), layers, passes([])):
        found = net(x)
    assert torch.allclose(found, net.train()(x), atol=1e-4)


def test_every_normalizer_is_judged() -> None:
    """Each has running statistics that others can replace, or has none; the names are read off their docstrings."""
    with_statistics = {
        name
        for name in norms.names()
        if not norms.get(name).facts.residual_only
        and statistics_of_network(Net(made_as(name, 2), True), lambda count: inputs(count, True)).layers
    }
    assert {*STANDARD, *HALF} <= with_statistics
    assert not with_statistics & {
        "none",
        "layer",
        "group",
        "instance",
        "frozen",
        "batch_stats_at_inference",
        "dyt",
        "rms",
    }


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("lp", {}, "its running_var is the square of an L^1 deviation"),
        ("lp", {"p": 2.0}, ""),
        ("batch_group", {}, "its running statistics are those of groups of channels"),
        ("batch_group", {"groups": "each"}, ""),
    ],
)
def test_other_statistics_than_mean_and_variance_of_channels_are_refused(
    name: str, options: dict[str, Any], said: str
) -> None:
    def made(width: int) -> nn.Module:
        layer: nn.Module = norms.get(name).factory(
            width, 2, **{key: width if value == "each" else value for key, value in options.items()}
        )
        return layer

    refused = statistics_of_network(Net(made, True), lambda count: inputs(count, True)).refused
    assert all(said in reason for reason in refused)
    assert bool(refused) == bool(said)


class Subclass(nn.modules.batchnorm._BatchNorm):
    """A user's own, of torch's base class."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


class OtherNames(nn.Module):
    """Keeps its statistics as Keras calls them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("moving_mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.moving_mean.mul_(0.9).add_(0.1 * x.detach().mean(0))  # type: ignore[operator, union-attr]
        return x - self.moving_mean  # type: ignore[no-any-return, operator]


class NotAffine(nn.BatchNorm1d):
    """Inference squashes by the running statistics, training does not."""

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        return y if self.training else torch.tanh((input / (1 + self.running_var)) ** 2) + y  # type: ignore[operator]


def test_layers_of_a_users_own_are_right_or_refused() -> None:
    net, layers = network(Subclass)
    x = inputs(30)
    with inferring(net, Inference(name="batch"), layers, passes([])):
        assert torch.allclose(net(x), net.train()(x), atol=1e-5)
    for layer, said in ((OtherNames, "moving_mean"), (NotAffine, "(x - mean) / sqrt(var + eps)")):
        found = statistics_of_network(Net(layer), inputs)
        assert said in found.refused[0]


@pytest.mark.parametrize("way", ["precise", "batch", "example_weighted"])
def test_everything_is_left_as_it_was_also_when_it_raises(way: Any) -> None:
    net, layers = network(nn.BatchNorm1d)
    net.train()
    net.norm2.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = [module.training for module in net.modules()]
    stream = torch.get_rng_state()

    def failing(model: nn.Module, way: Inference) -> Iterator[Tensor]:
        yield model(inputs(4))
        raise RuntimeError("stop")

    def attempt() -> None:
        with inferring(net, Inference(name=way), layers, failing):
            torch.rand(3)
            net(inputs(4))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        attempt()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == flags
    assert torch.equal(stream, torch.get_rng_state())
    assert net.norm1.momentum == 0.1
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_totals_of_uneven_parts() -> None:
    values = np.random.default_rng(0).normal(1e3, 1, (1000, 3))
    total = Total()
    for part in np.split(values, [1, 3, 500]):
        total.add(len(part), torch.from_numpy(part.mean(0)), torch.from_numpy(part.var(0)))
    assert total.count == 1000
    assert np.allclose(total.mean, values.mean(0), rtol=1e-13)
    assert np.allclose(total.var, values.var(0), rtol=1e-10)


STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
epochs: 1
batch_size: 64
max_train_samples: 300
seeds: 3
variants: {none: {norm: none}, batch: {norm: batch}}
"""
FURTHER = """
evaluate: [running, {name: precise, samples: 200, size: 50}, batch, example_weighted]
test_sets: {dark: {name: brightness, factor: 0.5, shift: 20}}
"""


def test_a_study_has_lines_that_change_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of the running line are those of a study without the keys, to the bit; a folder is read again."""
    from typer.testing import CliRunner

    from bnbench.cli.app import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "bnbench.reports.page.html.to_html", lambda *_: ""
    )  # no figures: they take most of the time
    Path("plain.yaml").write_text(STUDY)
    Path("more.yaml").write_text(STUDY + FURTHER)
    runner = CliRunner()
    found = {}
    for name in ("plain", "more"):
        done = runner.invoke(app, ["compare", f"{name}.yaml", "--jobs", "1", "-q"])
        assert done.exit_code == 0, done.output
        found[name] = json.loads(Path(f"results/{name}/summary.json").read_text())
    plain, more = ({v["name"]: v for v in found[name]["variants"]} for name in ("plain", "more"))
    assert list(more) == ["none", "batch", "batch@precise", "batch@batch", "batch@example_weighted"]
    for name, variant in plain.items():
        for one, other in zip(variant["runs"], more[name]["runs"], strict=True):
            assert one["final"] == {key: other["final"][key] for key in one["final"]}
            assert {"dark_loss", "dark_accuracy"} <= set(other["final"]) - set(one["final"])
    assert {run["seconds"] is None for run in more["batch@precise"]["runs"]} == {True}
    assert all(run["seconds"] > 0 for run in more["batch"]["runs"])
    families = {c["family"] for c in found["more"]["comparisons"] if c["verdict"]}
    assert families == {4}
    assert {speed["variant"] for speed in found["more"]["rates"]} <= {"none", "batch"}
    run_json = next(Path("results/plain/runs").glob("batch*/seed-0/run.json")).read_text()
    assert "inference" not in json.loads(run_json)
    again = runner.invoke(app, ["compare", "more.yaml", "-q", "--fail-if", "batch@batch.dark_accuracy > 0"])
    assert again.exit_code == 4, again.output
    missing = runner.invoke(app, ["compare", "more.yaml", "-q", "--fail-if", "none@batch.dark_accuracy > 0"])
    assert missing.exit_code == 2
    shown = runner.invoke(app, ["report", "results/more", "--tables", "metrics"], env={"COLUMNS": "200"})
    assert "batch@precise" in shown.output
    assert "mean and variance of 200 training samples at most, in batches of 50" in " ".join(
        shown.output.split()
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evaluate: [precise]\nvariants: [none, layer]", "study.yaml:9: .*none .norm none., layer"),
        ("evaluate: [example_weighted]\nvariants: {a: {norm: batch_mean_only}}", "is not .x - mean. / sqrt"),
    ],
)  # fmt: skip
def test_networks_without_statistics_are_refused_before_training(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bnbench

    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("variants: {none: {norm: none}, batch: {norm: batch}}\n", "") + text)
    with pytest.raises(ConfigError, match=said):
        bnbench.compare(path, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_ways_are_read_and_each_mistake_has_its_place(
    write_study: Callable[..., Path], vocabulary: Vocabulary
) -> None:
    study = load_study(write_study(STUDY + "evaluate: [precise, {name: batch, size: 32}]\n"), [], vocabulary)
    assert [way.name for way in study.variants["batch"].evaluate] == ["running", "precise", "batch"]
    assert study.line_names == ("none", "batch", "none@precise", "none@batch", "batch@precise", "batch@batch")
    plain = load_study(write_study(STUDY + "evaluate: [running]\n"), [], vocabulary)
    assert "evaluate" not in plain.variants["batch"].identity()
    for text, said in (
        ("evaluate: [precise, precise]", "precise is there twice"),
        ("evaluate: [{name: batch, alpha: 0.1}]", "alpha is no option of batch"),
        ("evaluate: [slow]", "unknown way of inference"),
        ("evaluate: []", "names no way of inference"),
        ("evaluate: [batch]\nseeds: auto", "a number of seeds"),
    ):
        body = STUDY.replace("seeds: 3\n", "") if "seeds" in text else STUDY
        with pytest.raises(ConfigError, match=f"study.yaml:[0-9]+: evaluate.*{said}"):
            load_study(write_study(body + text + "\n"), [], vocabulary)
