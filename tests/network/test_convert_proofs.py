"""The five proofs: each holds where it should, and fails on a mistake that is planted."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bnbench.models.layers import NormLayer
from bnbench.network.convert import Choices, carrying, convert, replace_norms, replacement
from bnbench.network.convert.proofs import (
    comes_back,
    count_parameters,
    count_sites,
    one_step,
    round_trip,
    same_as_custom,
)
from bnbench.network.convert.proofs.trial import Trials, run
from bnbench.network.sites.find import find_norm_sites
from bnbench.norms import batch_norm, norms
from tests.network.networks import IMAGE, NETWORKS, noise, shaken

GROUP = NormLayer(norms.get("group"))


def small() -> nn.Module:
    return shaken(
        nn.Sequential(
            nn.Conv2d(3, 4, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 1),
            nn.BatchNorm2d(4),
        )
    )


def converted(model: nn.Module, inputs, norm: NormLayer = GROUP):
    sites = find_norm_sites(model, inputs).sites
    return sites, replace_norms(copy.deepcopy(model), sites, norm)


def proof(conversion, name: str):
    return next(proof for proof in conversion.proofs if proof.name == name)


def test_values_of_the_five():
    model, inputs = NETWORKS["ReadByTwo"]()
    for layer in (model.conv1, model.conv2):
        layer.bias = None
    conversion = convert(model, "group", inputs=inputs)
    assert [(proof.name, proof.passed) for proof in conversion.proofs] == [
        ("all norms counted", True),
        ("batch = batch_custom", True),
        ("there and back", True),
        ("parameters explained", True),
        ("one step", True),
    ]
    assert [proof.value for proof in conversion.proofs if isinstance(proof.value, str)] == [
        "2 = 2 + 0",
        "12 of 12 tensors, 6 lost and listed",
        "44 + 4 biases given back = 48",
        "7 of 7 parameters change",
    ]
    assert 0 <= conversion.proofs[1].value < 1e-12


# --- 1


def test_counting_fails_where_only_the_first_name_is_converted(monkeypatch):
    """As torch's convert_sync_batchnorm does."""
    model, inputs = NETWORKS["TwoNames"]()

    def put_first(model: nn.Module, site, new: nn.Module) -> None:
        model._modules[site.names[0]] = new

    monkeypatch.setattr(replacement, "put", put_first)
    sites, done = converted(model, inputs)
    found = count_sites(sites, done, model)
    assert not found.passed
    assert "second: the new layer does not stand there" in found.explanation


def test_counting_fails_for_a_site_that_is_forgotten_or_left_without_a_reason(monkeypatch):
    model = small()
    sites, done = converted(model, noise(*IMAGE))
    assert count_sites(sites, done, model).passed
    assert not count_sites(sites, replacement.Replacement(done.model, done.sites[:1]), model).passed
    silent = replacement.Replaced(sites[1], "left")
    assert not count_sites(sites, replacement.Replacement(done.model, (done.sites[0], silent)), model).passed


# --- 2


@pytest.mark.parametrize("mistake", [lambda y: y * (1 + 1e-9), lambda y: y + 0 * y.detach() + 1e-9])
def test_identity_fails_for_a_layer_that_is_off_in_the_tenth_digit(monkeypatch, mistake):
    model = small()
    sites = find_norm_sites(model, noise(*IMAGE)).sites
    assert same_as_custom(Trials(model, sites, noise(*IMAGE))).passed
    right = batch_norm.batch_norm
    monkeypatch.setattr(batch_norm, "batch_norm", lambda *arguments: mistake(right(*arguments)))
    found = same_as_custom(Trials(model, sites, noise(*IMAGE)))
    assert not found.passed
    assert found.value > 1e-11


def test_identity_fails_where_gamma_is_fresh(monkeypatch):
    """As opacus' fixer leaves it."""
    model = small()
    sites = find_norm_sites(model, noise(*IMAGE)).sites
    monkeypatch.setattr(
        replacement, "carry", lambda *arguments: carrying.Carried(gamma="carried", beta="carried")
    )
    assert not same_as_custom(Trials(model, sites, noise(*IMAGE))).passed


def test_identity_fails_for_other_keys(monkeypatch):
    model = small()
    sites = find_norm_sites(model, noise(*IMAGE)).sites
    monkeypatch.setattr(replacement, "placed", lambda layer, *rest: nn.Sequential(layer))
    found = same_as_custom(Trials(model, sites, noise(*IMAGE)))
    assert (found.passed, found.explanation) == (False, "the keys of the state_dict differ")


def test_gradients_are_those_of_central_differences():
    """The oracle of the passes that are compared: the made-up loss, one parameter moved by hand."""
    model = small().double()
    given = run(model, noise(*IMAGE), training=True)
    weights = torch.Generator().manual_seed(2)
    draw = torch.randn(given.outputs[0].shape, generator=weights, dtype=torch.float64)
    losses = []
    for by in (1e-5, -1e-5):
        with torch.no_grad():
            model[0].weight[0, 0] += by
            losses.append(float((model(noise(*IMAGE)(6).double()) * draw).sum()))
            model[0].weight[0, 0] -= by
    assert float(given.gradients["0.weight"][0, 0]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5)


def test_where_identity_cannot_be_shown():
    model, inputs = NETWORKS["rms_norms"]()
    found = proof(convert(model, "layer", source="all", inputs=inputs), "batch = batch_custom")
    assert (found.passed, found.explanation) == (
        None,
        "the network has no batch norm that could be exchanged",
    )
    found = proof(convert(small(), "group"), "batch = batch_custom")
    assert found.passed is None
    assert found.explanation.startswith("no inputs were given to run the network on")
    broken = convert(small(), "group", inputs=noise(5, 8, 8))
    assert "channels" in broken.error
    assert [proof.passed for proof in broken.proofs] == [True, None, True, True, None]
    assert "the network does not run on its input" in broken.proofs[4].explanation


# --- 3


def test_the_way_back_fails_where_statistics_are_forgotten(monkeypatch):
    model = small()
    sites, done = converted(model, noise(*IMAGE))
    assert comes_back(model, sites, done, GROUP).passed
    right = replacement.carry

    def forgets(old, old_roles, new, new_roles, ties):
        return right(old, replacement.replace(old_roles, statistics={}), new, new_roles, ties)

    monkeypatch.setattr(replacement, "carry", forgets)
    found = comes_back(model, sites, done, GROUP)
    assert not found.passed
    assert "running_mean came back with other numbers" in found.explanation


def test_the_way_back_fails_for_a_loss_that_the_table_does_not_list():
    model = small()
    sites, done = converted(model, noise(*IMAGE))
    done.sites[0].carried.lost.remove("running_var: the new layer has none")
    found = comes_back(model, sites, done, GROUP)
    assert not found.passed
    assert found.explanation == "1.running_var is lost and not in the table"


def test_the_way_back_fails_in_the_last_bit(monkeypatch):
    model = small()
    sites, done = converted(model, noise(*IMAGE))
    with torch.no_grad():
        weight = done.model[4].weight
        weight[0] = torch.nextafter(weight[0], torch.tensor(10.0))
    found = comes_back(model, sites, done, GROUP)
    assert (found.passed, found.explanation) == (False, "4.weight came back with other numbers")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(norms.names()) - {"fixup", "qk", "skipinit"}))
def test_everything_that_a_normalizer_can_hold_comes_back(name):
    model = small()
    sites, done = converted(model, noise(*IMAGE), norm := NormLayer(norms.get(name)))
    found = comes_back(model, sites, done, norm)
    assert found.passed, found.explanation
    if "running_mean" in norm(4, 2).state_dict() and name not in ("lp", "batch_group"):  # of the same meaning
        back = round_trip.return_from(done).state_dict()
        assert torch.equal(back["4.running_mean"], model.state_dict()["4.running_mean"])


# --- 4


def test_the_count_fails_for_a_bias_that_nobody_mentions():
    model = small()
    _, done = converted(model, noise(*IMAGE))
    assert count_parameters(model, done).value == "48 + 4 biases given back = 52"
    silent = [replacement.replace(item, biases=()) for item in done.sites]
    found = count_parameters(model, replacement.Replacement(done.model, tuple(silent)))
    assert (found.passed, found.explanation) == (False, "the network has 52: +4 unexplained")


def test_the_count_fails_where_a_tie_breaks():
    model, inputs = NETWORKS["TiedGamma"]()
    _, done = converted(model, inputs)
    assert count_parameters(model, done).passed
    done.model.bn2.weight = nn.Parameter(done.model.bn2.weight.detach().clone())
    assert count_parameters(model, done).explanation == "the network has 52: +4 unexplained"


@pytest.mark.parametrize(
    ("name", "to", "value"),
    [
        ("features", "rms", "57 - 5 beta = 52"),
        ("features", "none", "57 - 5 gamma - 5 beta = 47"),
        ("features", "dyt", "57 + 1 of new layers = 58"),
        ("options", "dyt", "72 + 3 of new layers = 75"),
        ("frozen", "batch", "112 + 4 gamma + 4 beta - 4 biases taken out = 116"),
        ("rms_norms", "layer", "152 + 24 beta = 176"),
    ],
)
def test_the_count_by_hand(name, to, value):
    model, inputs = NETWORKS[name]()
    sites = find_norm_sites(model, inputs).sites
    done = replace_norms(copy.deepcopy(model), sites, NormLayer(norms.get(to)), Choices("all"))
    found = count_parameters(model, done)
    assert (found.value, found.passed) == (value, True)


# --- 5


class Detached(nn.GroupNorm):
    """Gamma and beta do not learn."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.group_norm(
            x, self.num_groups, self.weight.detach(), self.bias.detach(), self.eps
        )


def one_step_of(model: nn.Module, inputs, norm: NormLayer = GROUP):
    return one_step(Trials(model, find_norm_sites(model, inputs).sites, inputs), norm, Choices())


def test_a_step_fails_where_a_parameter_does_not_learn(monkeypatch):
    assert one_step_of(small(), noise(*IMAGE)).value == "8 of 8 parameters change"
    monkeypatch.setattr(nn, "GroupNorm", Detached)
    found = one_step_of(small(), noise(*IMAGE))
    assert not found.passed
    assert "1.bias should change and does not; 1.weight should change and does not" in found.explanation


def test_a_step_fails_where_a_frozen_parameter_learns(monkeypatch):
    model = small()
    model[4].requires_grad_(False)
    assert one_step_of(model, noise(*IMAGE)).value == "6 of 8 parameters change"
    right = replacement.carry

    def thaws(*arguments):
        done = right(*arguments)
        arguments[2].requires_grad_(True)
        return done

    monkeypatch.setattr(replacement, "carry", thaws)
    found = one_step_of(model, noise(*IMAGE))
    assert not found.passed
    assert found.explanation == "4.bias changes and should not; 4.weight changes and should not"


def test_a_step_fails_where_the_converted_network_does_not_run(monkeypatch):
    monkeypatch.setattr(replacement, "placed", lambda layer, *rest: nn.Flatten())
    found = one_step_of(small(), noise(*IMAGE))
    assert found.passed is False
    assert found.explanation.startswith("the converted network does not run: RuntimeError")


class Unused(nn.Module):
    """A branch that no pass reaches, with a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Conv2d(4, 4, 1)
        self.unused = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.used(x))


def test_what_the_network_does_not_use_does_not_change():
    model = shaken(Unused())
    conversion = convert(model, "group", inputs=noise(*IMAGE))
    assert conversion.passed
    assert conversion.proofs[4].value == "6 of 10 parameters change"
    assert "no input reached it: its dimension is that of its class" in conversion.sites[1].details["notes"]
    assert isinstance(conversion.model.unused[1], nn.GroupNorm)


class AddsInPlace(nn.Module):
    """It changes its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return self.drop(self.norm(x))


def test_inputs_that_are_drawn_anew_and_changed_in_place():
    conversion = convert(AddsInPlace(), "batch_custom", inputs=lambda samples: torch.randn(samples, 6))
    assert [proof.passed for proof in conversion.proofs] == [True] * 5
