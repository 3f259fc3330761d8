"""Rules of `doctor` on running statistics, momentum and gamma: each fires with its number, and spares the healthy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import bnbench


def net(*, trained=True, **options):
    """Two blocks with batch norms; trained: with statistics and parameters as after many batches."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4, **options),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, bias=False),
        nn.BatchNorm2d(8, **options),
    )
    if trained:
        train(model)
    return model


def train(model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
                module.num_batches_tracked.fill_(10_000)


def found(rule, model, shape=None, **given):
    """The findings of one rule. shape: of a sample, with which the network runs."""
    diagnosis = bnbench.doctor(model, inputs=shape, rules=rule, **given)
    assert diagnosis.proofs[0].passed, "the model changed"
    assert not any(idle.failed for idle in diagnosis.idle), diagnosis.idle
    return list(diagnosis.findings)


class TestNeverUpdated:
    def test_a_trained_network_with_initial_statistics_is_an_error(self):
        model = net()
        model[4].reset_running_stats()
        (one,) = found("D02", model)
        assert (one.place, one.severity, one.evidence) == ("4", "error", 8)

    def test_a_layer_that_counted_and_never_moved_is_an_error(self):
        model = net(trained=False, momentum=0.0)
        model[1].num_batches_tracked.fill_(5)
        assert [(one.place, one.severity) for one in found("D02", model)] == [
            ("1", "error"),
            ("4", "warning"),
        ]

    def test_a_network_that_was_never_trained_has_none(self):
        assert not found("D02", net(trained=False))

    def test_betas_that_start_at_random_are_a_note(self):
        model = net(trained=False)
        nn.init.normal_(model[1].bias)
        assert [(one.place, one.severity) for one in found("D02", model)] == [("1", "note")]

    def test_a_network_whose_statistics_were_all_reset_after_steps(self):
        model = net(trained=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 3, 8, 8)).square().mean().backward()
            optimizer.step()
        for place in (1, 4):
            model[place].reset_running_stats()
        assert {one.severity for one in found("D02", model)} == {"error"}

    def test_old_checkpoints_without_counters_have_none(self):
        model = net()
        for place in (1, 4):
            model[place].num_batches_tracked.zero_()
        assert not found("D02", model)

    def test_a_layer_in_eval_mode_from_the_start_is_a_warning(self):
        model = net()
        model[4].reset_running_stats()
        model[4].eval()
        assert [one.severity for one in found("D02", model)] == ["warning"]

    def test_a_layer_that_does_not_run_is_a_warning(self):
        model = net()
        model.spare = nn.BatchNorm2d(4)
        nn.init.normal_(model.spare.bias)
        model.forward = lambda x: model[4](model[3](model[1](model[0](x))))
        assert [(one.place, one.severity) for one in found("D02", model, "3x8x8")] == [("spare", "warning")]

    def test_norms_without_running_statistics_have_none(self):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4)
        )
        with torch.no_grad():
            model[1].bias.normal_()
        assert not found("D02", model)


class TestDeadChannel:
    def test_the_number_of_channels_is_the_evidence(self):
        model = net()
        model[4].running_var[:3] = torch.tensor([0.0, 5.6e-45, 1e-12])
        (one,) = found("D08", model)
        assert (one.place, one.evidence, one.severity) == ("4", 3, "warning")

    def test_small_variances_are_not_dead(self):
        model = net()
        model[4].running_var.fill_(1e-6)  # sqrt(1e-6 / 1.1e-5) = 0.3
        assert not found("D08", model)
        assert not found("D08", net(trained=False))


class TestEpsAboveVariance:
    @pytest.mark.parametrize(("channels", "severity"), [(2, "note"), (4, "warning")])
    def test_the_share_of_channels_is_the_evidence(self, channels, severity):
        model = net()
        model[4].running_var[:channels] = 0.9e-5
        (one,) = found("D12", model)
        assert (one.place, one.severity) == ("4", severity)
        assert one.evidence == 100 * channels / 8

    def test_a_variance_above_eps_is_none(self):
        model = net()
        model[4].running_var.fill_(1.1e-5)
        assert not found("D12", model)
        assert not found("D12", net(eps=1e-3))
        assert not found("D12", net(trained=False, eps=2.0))

    @pytest.mark.parametrize(
        "norm", [nn.BatchNorm2d(4, eps=1e5), nn.GroupNorm(1, 4, eps=1e5), nn.BatchNorm2d(4, eps=0.9)]
    )
    def test_an_eps_with_a_wrong_sign_in_its_exponent(self, norm):
        model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), norm)
        (one,) = found("D12", model, "3x8x8")
        assert (one.place, one.severity, one.evidence) == ("1", "warning", 100)

    def test_statistics_under_other_names(self):
        class Mine(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("moving_mean", torch.zeros(4))
                self.register_buffer("moving_variance", torch.full((4,), 0.5e-5))

            def forward(self, x):
                mean, var = self.moving_mean, self.moving_variance
                if self.training:
                    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
                    with torch.no_grad():
                        self.moving_mean.lerp_(mean, 0.1)
                        self.moving_variance.lerp_(var, 0.1)
                shape = (1, -1, 1, 1)
                return (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()

        model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), Mine())
        assert [(one.place, one.evidence) for one in found("D12", model, "3x8x8")] == [("1", 100)]


class TestHalfPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_buffers_are_found(self, dtype):
        model = net()
        model[1].to(dtype)
        (one,) = found("D22", model)
        assert (one.place, one.severity, one.evidence) == ("1", "warning", torch.finfo(dtype).eps)
        assert [one.severity for one in found("D22", net().to(dtype).eval())] == ["note", "note"]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
    def test_statistics_that_are_no_numbers_are_errors(self, value):
        model = net()
        model[1].running_var[2] = value
        (one,) = found("D22", model)
        assert (one.place, one.severity, one.evidence) == ("1", "error", 1)

    def test_float32_and_layer_norms_in_half_are_none(self):
        assert not found("D22", net())
        assert not found("D22", nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).to(torch.bfloat16))


class TestMomentum:
    @pytest.mark.parametrize("momentum", [0.9, 0.99, 1.0])
    def test_the_other_convention_is_a_warning(self, momentum):
        assert [(one.evidence, one.severity) for one in found("D10", net(momentum=momentum))] == [
            (momentum, "warning")
        ] * 2

    def test_a_window_longer_than_the_training_is_a_warning(self):
        model = net(momentum=0.01)
        model[4].num_batches_tracked.fill_(100)
        (one,) = found("D10", model)
        assert (one.place, one.severity) == ("4", "warning")
        assert one.evidence == pytest.approx(100 * 0.99**100)

    def test_instance_norms_with_running_statistics(self):
        norm = nn.InstanceNorm2d(4, momentum=0.99, track_running_stats=True)
        (one,) = found("D10", nn.Sequential(nn.Conv2d(3, 4, 3), norm))
        assert one.evidence == pytest.approx(0.99)

    def test_mnasnet_is_meant(self):
        assert {one.severity for one in found("D10", net(trained=False, momentum=3e-4))} == {"note"}
        model = net(momentum=3e-4)
        model[1].num_batches_tracked.fill_(1_000_000)
        assert {one.severity for one in found("D10", model) if one.place == "1"} == {"note"}

    @pytest.mark.parametrize(("steps", "word"), [(20, "momentum = 0.2057"), (3, "train for 44 batches")])
    def test_the_fix_for_a_short_training_is_one(self, steps, word):
        """Oracle: (1 - m)^steps = 0.01."""
        model = net()
        for place in (1, 4):
            model[place].num_batches_tracked.fill_(steps)
        one = found("D10", model)[0]
        assert word in one.fix
        if "momentum =" in word:
            exec(one.fix.partition(" for the next")[0], {"model": model})
            assert one.place not in [after.place for after in found("D10", model)]

    @pytest.mark.parametrize("momentum", [0.1, 0.01, 0.5, 1e-3, None])
    def test_usual_momenta_are_none(self, momentum):
        assert not found("D10", net(momentum=momentum))
        assert not found("D10", net(trained=False, momentum=momentum))

    def test_zero_stands_still(self):
        assert [(one.evidence, one.severity) for one in found("D11", net(momentum=0.0))] == [
            (0, "warning")
        ] * 2
        frozen = net(momentum=0.0)
        frozen[1].eval()
        assert [one.place for one in found("D11", frozen)] == ["4"]

    def test_none_is_a_note_with_the_weight_of_the_next_batch(self):
        assert [(one.evidence, one.severity) for one in found("D11", net(momentum=None))] == [
            (1 / 10_001, "note")
        ] * 2

    def test_a_number_and_other_norms_are_none(self):
        assert not found("D11", net())
        assert not found(
            "D11",
            nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Unflatten(1, (2, 2)), nn.GroupNorm(1, 2)),
        )


class _Residual(nn.Module):
    def __init__(self, add=True):
        super().__init__()
        self.conv, self.norm, self.add = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3), add
        self.drop = nn.Dropout(0.1)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x):
        y = self.drop(self.norm(self.conv(x)))
        return (x + y).relu() if self.add else y.relu()


class TestGamma:
    def test_the_share_of_zeros_is_the_evidence(self):
        model = net()
        model[4].weight.data[:2] = torch.tensor([0.0, 1e-6])
        (one,) = found("D09", model)
        assert (one.place, one.evidence, one.severity) == ("4", 25, "note")

    def test_the_share_of_negative_gammas(self):
        model = net()
        model[4].weight.data[:4] *= -1
        (one,) = found("D09", model)
        assert (one.place, one.evidence, one.severity) == ("4", 50, "note")
        model[4].weight.data[:3] *= -1
        assert not found("D09", model)

    def test_a_residual_branch_starts_with_zeros(self):
        assert not found("D09", _Residual(), "3x4x4")

    def test_zeros_without_an_addition_are_a_warning(self):
        (one,) = found("D09", _Residual(add=False), "3x4x4")
        assert (one.place, one.evidence, one.severity) == ("norm", 100, "warning")

    def test_an_addition_behind_another_layer_does_not_count(self):
        model = nn.Sequential(_Residual(add=False), _Residual())
        assert [one.place for one in found("D09", model, "3x4x4")] == ["0.norm"]

    def test_a_branch_that_stayed_zero_in_training_is_a_warning(self):
        model = _Residual()
        model.norm.num_batches_tracked.fill_(100)
        (one,) = found("D09", model, "3x4x4")
        assert (one.place, one.severity) == ("norm", "warning")

    def test_one_plus_weight_is_what_counts(self):
        class OnePlus(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(6))

            def forward(self, x):
                return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + self.weight)

        model = nn.Sequential(nn.Linear(6, 6), OnePlus())
        assert not found("D09", model, "6")
        model[1].weight.data[:3] = -1
        assert [(one.place, one.evidence) for one in found("D09", model, "6")] == [("1", 50)]
