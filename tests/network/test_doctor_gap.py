"""The train/eval gap: precise statistics against float64 references, intervals, causes, and a model left as found."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.network.doctor.data import data_of, usual_metrics
from bnbench.network.doctor.gap import layer_gap, measure_gap, square_gap
from bnbench.network.doctor.passes import LayerStatistics, Passes, running_statistics, tracked_layers
from bnbench.network.snapshot import digest
from bnbench.network.statistics import StatisticsLayer
from bnbench.norms.inference_form import InferenceForm


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(*layers: nn.Module) -> nn.Sequential:
    """Layers with weights that are the same each time."""
    model = nn.Sequential(*layers)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model


def two_norms(**options: Any) -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return built(
            nn.Linear(6, 8, bias=False),
            nn.BatchNorm1d(8, **options),
            nn.ReLU(),
            nn.Linear(8, 5, bias=False),
            nn.BatchNorm1d(5, **options),
            nn.ReLU(),
            nn.Linear(5, 3),
        )


def trained(model: nn.Module, inputs: Tensor, steps: int = 60, size: int = 64) -> nn.Module:
    """Running statistics of so many batches; the weights stay."""
    draw = torch.Generator().manual_seed(2)
    model.train()
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(3)
        for _ in range(steps):
            model(inputs[torch.randint(len(inputs), (size,), generator=draw)])
    return model


def passes_of(model: nn.Module, batches: list[Tensor]) -> Passes:
    data = data_of(batches)
    return Passes(model, data.batches, tracked_layers(model, data.batches[0]).layers)


def uneven(offset: float = 0.0) -> list[Tensor]:
    whole = normal(69, 6).double() * 2 + offset
    return list(whole.split(32))


# --- precise statistics


@pytest.mark.parametrize("offset", [0.0, 1e6], ids=["centred", "far from zero"])
def test_precise_statistics_are_those_of_all_batches_together(offset: float) -> None:
    """Oracle: mean and variance of the concatenated inputs in float64; each batch normalized by itself before."""
    model, batches = two_norms().double(), uneven(offset)
    found = passes_of(model, batches).precise()
    first = torch.cat([model[0](x) for x in batches])
    second = torch.cat([model[:4].train()(x) for x in batches])
    for name, inputs, tolerance in (
        ("1", first, 1e-12),
        ("4", second, 1e-9),
    ):  # 1e6 costs the second six digits
        mean, var = found[name]
        assert (mean - inputs.mean(0)).abs().max() < tolerance * inputs.abs().max()
        assert (var / inputs.var(0, correction=0) - 1).abs().max() < 1e-8


def test_layer_by_layer_statistics_follow_precise_ones() -> None:
    """Oracle: the layers one after the other on all inputs at once, in float64."""
    model, batches = two_norms().double(), uneven()
    found = passes_of(model, batches).precise("layers")
    inputs = model[0](torch.cat(batches))
    standard = torch.nn.functional.batch_norm(inputs, None, None, model[1].weight, model[1].bias, True)
    second = model[3](standard.relu())
    assert torch.allclose(found["4"][0], second.mean(0), rtol=0, atol=1e-12)
    assert torch.allclose(found["4"][1], second.var(0, correction=0), rtol=1e-10, atol=0)
    conditional = passes_of(model, batches).precise()
    assert not torch.allclose(found["4"][1], conditional["4"][1], rtol=1e-4)


def test_torch_update_bn_is_off_where_these_are_not() -> None:
    """Its average of batch variances lacks the variance between batches, and the last small batch counts in full."""
    batches = [torch.randn(32, 6) + 3, torch.randn(32, 6) - 3, torch.randn(4, 6)]
    model = nn.Sequential(nn.BatchNorm1d(6))
    whole = torch.cat(batches).double()
    mean, var = passes_of(model, batches).precise()["0"]
    assert torch.allclose(mean, whole.mean(0), atol=1e-12)
    assert torch.allclose(var, whole.var(0, correction=0), rtol=1e-12)
    update_bn(batches, model)
    assert (model[0].running_var.double() / var).max() < 0.3  # 1 in place of about 10


def test_noise_is_off_and_layers_in_eval_mode_are_left_out() -> None:
    model = two_norms()
    noisy = nn.Sequential(*model[:2], nn.Dropout(0.5), *model[2:])
    plain, with_noise = (
        passes_of(net, [normal(16, 6), normal(16, 6, seed=1)]).precise() for net in (model, noisy)
    )
    assert torch.equal(plain["4"][1], with_noise["5"][1])
    model[1].eval()
    data = data_of([normal(16, 6)])
    tracked = tracked_layers(model, data.batches[0])
    assert ([layer.name for layer in tracked.layers], tracked.left_out) == (["4"], ("1",))
    measure_gap(model, data)
    assert [module.training for module in model] == [True, False, True, True, True, True, True]


def test_all_calls_of_a_shared_layer_count() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + self.norm(3 * x + 2)

    x = normal(40, 4)
    mean, var = passes_of(Twice(), list(x.split(8))).precise()["norm"]
    both = torch.cat([x, 3 * x + 2]).double()
    assert torch.allclose(mean, both.mean(0), atol=1e-6)
    assert torch.allclose(var, both.var(0, correction=0), rtol=1e-6)


# --- the gap of a layer


def test_gap_is_the_difference_of_normalized_outputs() -> None:
    """Oracle: the two outputs of real inputs, in float64."""
    x, eps = normal(50, 7).double() * 3 + 1, 1e-3
    running = normal(7, seed=4).double(), 0.5 + torch.rand(7).double()
    own = x.mean(0), x.var(0, correction=0)
    one, other = ((x - mean) / (var + eps).sqrt() for mean, var in (running, own))
    assert float(square_gap(running, own, eps)) == pytest.approx(
        float((one - other).square().mean()), rel=1e-12
    )


def made_up(batches: int, seed: int, size: int = 16, channels: int = 12) -> LayerStatistics:
    x = normal(batches, size, channels, seed=seed).double()
    counts = torch.full((batches,), float(size), dtype=torch.float64)
    return LayerStatistics(counts, x.mean(1), x.var(1, correction=0), ())


LAYER = StatisticsLayer("norm", InferenceForm(True, 1e-5))


def test_intervals_cover_the_true_gap_and_nothing_opens_without_one() -> None:
    """Oracle: running statistics (1, 1) of inputs N(0, 1) are a gap of 1; (0, 1) are none."""
    ones = torch.ones(12, dtype=torch.float64)
    gaps = [layer_gap(LAYER, made_up(16, seed), (ones, ones)) for seed in range(40)]
    covered = sum(gap.gap.low <= 1 <= gap.gap.high for gap in gaps)
    assert covered >= 34  # 38 of 40 on average at 95 %
    assert all(gap.opens and gap.floor < 0.3 for gap in gaps)
    none = [layer_gap(LAYER, made_up(16, seed), (0 * ones, ones)) for seed in range(40)]
    assert not any(gap.opens for gap in none)


def test_few_batches_have_no_interval() -> None:
    gap = layer_gap(LAYER, made_up(3, 0), (torch.ones(12).double(), torch.ones(12).double()))
    assert math.isnan(gap.gap.low)
    assert not gap.opens


# --- the rule


def gap_of(model: nn.Module, data: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    diagnosis = bnbench.doctor(model, data=data, rules="D01", **options)
    assert not diagnosis.idle, diagnosis.idle
    return diagnosis.findings, diagnosis.details["train_eval_gap"]


INPUTS = normal(2048, 6) * 2 + 1


def test_a_network_with_fitting_statistics_has_no_finding() -> None:
    model = trained(two_norms(), INPUTS)
    findings, gap = gap_of(model, INPUTS)
    assert not findings
    assert gap["first"] == ""
    assert max(layer["gap"]["value"] for layer in gap["layers"]) < 0.1


def test_a_network_that_was_never_trained_is_not_judged() -> None:
    model = two_norms()
    for norm in (model[1], model[4]):
        norm.reset_parameters()
    findings, gap = gap_of(model, INPUTS)
    assert not findings
    assert not gap["judged"]
    assert gap["layers"][0]["gap"]["value"] > 0.3


def reset(model: nn.Sequential) -> None:
    model[4].reset_running_stats()


def doubled(model: nn.Sequential) -> None:
    model[3].weight.data *= 2


CAUSES: dict[str, tuple[Callable[[], nn.Module], str, str, str]] = {
    "never updated": (lambda: changed(reset), "4", "never updated", "mean 0 and variance 1"),
    "small momentum": (
        lambda: trained(two_norms(momentum=0.01), INPUTS, steps=50),
        "1",
        "momentum is too small",
        r"(5\d|6\d)% of mean 0 .* momentum 0.01 leaves 61% after the 50 updates",  # 0.99^50 = 0.605
    ),
    "large momentum": (
        lambda: trained(two_norms(momentum=1.0), INPUTS, size=8),
        "1",
        "last batch",
        "momentum 1: 100% of the statistics",
    ),
    "batches of one kind": (
        lambda: trained_on_alike(two_norms()),
        "1",
        "batches are too small, or each holds samples of one kind",
        "9[0-9]% of the variance lies between batches",
    ),
    "weights moved": (lambda: changed(doubled), "4", "the weights moved", "half of the gap"),
    "dropout": (
        lambda: trained(nn.Sequential(*two_norms()[:3], nn.Dropout(0.5), *two_norms()[3:]), INPUTS),
        "5",
        "Dropout 3 before it is on",
        r"variance of its inputs is [12]\.\d+ times as large",
    ),
}
#: 64 batches of four samples that are alike: 4 / 4.25 of the variance lies between batches.
ALIKE = list(2 * normal(64, 1, 6) + 0.5 * normal(64, 4, 6, seed=1))


def trained_on_alike(model: nn.Module) -> nn.Module:
    model.train()
    with torch.no_grad():
        for _ in range(2):
            for batch in ALIKE:
                model(batch)
    return model


def changed(change: Callable[[Any], None]) -> nn.Module:
    model = trained(two_norms(), INPUTS)
    change(model)
    return model


@pytest.mark.parametrize("name", CAUSES)
def test_likely_cause(name: str) -> None:
    make, place, cause, evidence = CAUSES[name]
    (finding,), gap = gap_of(make(), ALIKE if name == "batches of one kind" else INPUTS)
    assert finding.place == gap["first"] == place
    assert cause in finding.message
    assert re.search(evidence, finding.message), finding.message
    layer = next(layer for layer in gap["layers"] if layer["name"] == place)
    assert finding.evidence == layer["gap"]["value"] > layer["gap"]["low"] > layer["floor"]


def test_other_inputs_than_those_of_training() -> None:
    (finding,), _ = gap_of(trained(two_norms(), INPUTS), INPUTS + 4)
    assert finding.place == "1"
    assert "not like those of training" in finding.message
    assert finding.severity == "warning"


def test_a_usual_momentum_is_not_too_small_where_no_steps_are_counted() -> None:
    """A variance that is pushed halfway to 1 looks like initial values that are left."""
    model = trained(two_norms(), INPUTS)
    norm: Any = model.get_submodule("4")
    norm.running_var.copy_(norm.running_var + 0.4 * (1 - norm.running_var))
    norm.running_mean.mul_(0.6)
    norm.num_batches_tracked = None
    (finding,), _ = gap_of(model, INPUTS)
    assert finding.place == "4"
    assert "momentum" not in finding.message


def test_checkpoint_without_statistics(tmp_path: Path) -> None:
    model = trained(two_norms(), INPUTS)
    file = tmp_path / "parameters.pt"
    torch.save({key: value for key, value in model.state_dict().items() if "4.running" not in key}, file)
    (finding,), _ = gap_of(two_norms(), INPUTS, checkpoint=file)
    assert finding.place == "4"
    assert "the checkpoint has no running statistics" in finding.message


def test_a_shared_layer_sees_two_distributions() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + self.norm(x + 5)

    model = trained(Shared(), INPUTS)
    (finding,), _ = gap_of(model, INPUTS)
    assert "sees two distributions" in finding.message
    apart = float(re.search(r"lie ([\d.]+) standard", finding.message)[1])  # type: ignore[index]
    assert apart == pytest.approx(5 / 2, rel=0.1)  # 5 over a standard deviation of 2


def test_metrics_and_the_output_show_the_gap() -> None:
    """Labels that a line separates: right statistics are all right, others not."""
    labels = (INPUTS[:, 0] > 1).long()
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2, bias=False))
    with torch.no_grad():
        model[1].weight.zero_()[1, 0] = 1.0
    trained(model, INPUTS)
    model[0].running_mean += 2.0
    loader = DataLoader(TensorDataset(INPUTS, labels), batch_size=64)
    (finding,), gap = gap_of(model, loader)
    accuracy = next(metric for metric in gap["metrics"] if metric["name"] == "accuracy")
    right = float((INPUTS[:1024, 0] > 3).eq(labels[:1024].bool()).double().mean())
    assert accuracy["precise"] > 0.97
    assert accuracy["running"] == pytest.approx(right, abs=0.03)
    assert accuracy["running_precise"]["high"] < 0
    assert gap["output"]["running_precise"]["value"] == pytest.approx(1.0, rel=0.1)  # 2 over a deviation of 2
    assert finding.severity == "warning"


def test_metrics_of_dense_labels_and_of_numbers() -> None:
    logits = normal(4, 3, 2, 2)
    labels = logits.argmax(1)
    assert usual_metrics(logits, labels)["accuracy"] == 1.0
    assert usual_metrics(logits, logits + 2)["mse"] == pytest.approx(4.0, rel=1e-6)
    assert not usual_metrics(logits, labels[:, 0])
    assert not usual_metrics(logits, labels + 3)


# --- the model comes out as it went in


def full_state(model: nn.Module) -> tuple[str, Any]:
    return digest(model), torch.get_rng_state().tolist()


def test_the_model_is_as_it_was() -> None:
    model = nn.Sequential(*two_norms(), nn.Dropout(0.3))
    model(normal(8, 6)).sum().backward()
    model[4].eval()
    model[0].weight.requires_grad_(False)
    before = full_state(model)
    diagnosis = bnbench.doctor(model, data=INPUTS, rules=["D01", "D16", "D17", "D26", "D15", "D21"])
    assert full_state(model) == before
    assert all(proof.passed for proof in diagnosis.proofs)


def test_lazy_layers_are_judged_and_stay_lazy() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Linear(4, 2))
    diagnosis = bnbench.doctor(model, data=INPUTS, rules=["D01", "D26", "D16"])
    assert len(diagnosis.rules) == 3
    assert diagnosis.details["train_eval_gap"]["layers"][0]["name"] == "1"
    assert isinstance(model[0], nn.LazyLinear)
    assert nn.parameter.is_lazy(model[1].running_mean)


def test_layers_that_a_network_keeps_in_eval_mode_are_left_out() -> None:
    class Keeps(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self[1].eval()
            return self

    model = Keeps(*two_norms())
    model[1].running_mean += 1
    for network in (model, model.eval()):
        _, gap = gap_of(network, INPUTS)
        assert gap["left_out"] == ("1",)
        assert [layer["name"] for layer in gap["layers"]] == ["4"]


class Breaks(nn.Module):
    """Raises at its third call."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.calls = nn.BatchNorm1d(6), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls >= 3:
            raise RuntimeError("no more")
        return self.norm(x)


def test_the_model_is_as_it_was_after_an_exception() -> None:
    model = Breaks()
    model.norm.weight.grad = torch.ones(6)
    before = full_state(model)
    with pytest.raises(BnbenchError, match="no more"):
        measure_gap(model, data_of(INPUTS))
    assert full_state(model) == before
    assert not model.norm._forward_pre_hooks


def test_running_statistics_are_read_without_what_a_layer_adds() -> None:
    model = copy.deepcopy(trained(two_norms(), INPUTS))
    layer = tracked_layers(model, data_of(INPUTS).batches[0]).layers[0]
    mean, var = running_statistics(model[1], layer)  # type: ignore[index]
    assert torch.equal(mean, model[1].running_mean.double())  # type: ignore[index]
    assert torch.equal(var, model[1].running_var.double())  # type: ignore[index]


@pytest.mark.parametrize("given", [3, "", [], torch.zeros(3)], ids=["number", "no study", "empty", "vector"])
def test_data_that_holds_no_batch(given: Any) -> None:
    with pytest.raises(BnbenchError):
        bnbench.doctor(two_norms(), data=given)


# --- bnbench.precise_statistics


def test_precise_statistics_of_a_stream() -> None:
    """Oracle: the concatenated inputs; an iterator is read once."""
    batches = [normal(16, 6), normal(16, 6, seed=1), normal(3, 6, seed=2)]
    model = two_norms()
    model[4].eval()
    before = model[4].running_var.clone()
    assert bnbench.precise_statistics(model, iter(batches)) == ("1",)
    inputs = torch.cat([model[0](x) for x in batches])
    assert torch.allclose(model[1].running_mean, inputs.mean(0), atol=1e-6)
    assert torch.allclose(model[1].running_var, inputs.var(0, correction=0), rtol=1e-5)
    assert torch.equal(model[4].running_var, before)
    assert [module.training for module in model] == [True] * 4 + [False] + [True] * 2
    model[4].train()
    bnbench.precise_statistics(model, batches, definition="layers")
    second = model[:4].eval()(torch.cat(batches))
    assert torch.allclose(model[4].running_mean, second.mean(0), atol=1e-6)


def test_precise_statistics_after_an_exception_are_those_of_before() -> None:
    model = two_norms()
    before = full_state(model)
    with pytest.raises(BnbenchError, match="of shape"):
        bnbench.precise_statistics(model, [normal(16, 6), normal(16, 5)])
    assert full_state(model) == before


def test_a_gap_is_gone_with_precise_statistics() -> None:
    model = changed(reset)
    bnbench.precise_statistics(model, INPUTS)
    assert not gap_of(model, INPUTS)[0]


@pytest.mark.parametrize("given", [INPUTS.double(), INPUTS[:, :5]], ids=["dtype", "shape"])
def test_data_that_the_network_does_not_take(given: Tensor) -> None:
    """The message names the layer."""
    with pytest.raises(BnbenchError, match=r"does not take the data: layer 0 \(Linear\)"):
        bnbench.doctor(two_norms(), data=given)
