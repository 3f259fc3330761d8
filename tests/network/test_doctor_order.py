"""Rules of `doctor` on what stands around a normalization: useless biases, norms in a row, axes with too few values.

Oracle of the biases: a network whose biases are removed (and taken from the running means) gives the same outputs in
float64, in training and in inference.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bnbench


def found(rule, model, shape="3x8x8", **given):
    diagnosis = bnbench.doctor(model, inputs=shape, rules=rule, **given)
    assert diagnosis.proofs[0].passed, "the model changed"
    assert not any(idle.failed for idle in diagnosis.idle), diagnosis.idle
    return list(diagnosis.findings)


def places(rule, model, shape="3x8x8"):
    return [one.place for one in found(rule, model, shape)]


class Block(nn.Module):
    """conv, norm, ReLU in an order that no container shows."""

    def __init__(self, norm, bias=True):
        super().__init__()
        self.norm = norm
        self.conv = nn.Conv2d(3, 4, 3, bias=bias)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class PreActivation(nn.Module):
    """Biases of the branches reach batch norms alone, through additions."""

    def __init__(self, last=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.last = nn.BatchNorm2d(4) if last else nn.Identity()

    def forward(self, x):
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(norm(x).relu())
        return self.last(x).relu()


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        pooled = F.max_pool2d(torch.cat([self.a(x), self.b(x)], 1), 2)
        return self.head(self.norm(pooled).relu().mean((2, 3)))


class ReadTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class TestUselessBias:
    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            (Block(nn.BatchNorm2d(4)), ["conv"]),
            (Block(nn.BatchNorm2d(4, affine=False)), ["conv"]),
            (Block(nn.BatchNorm2d(4, track_running_stats=False)), ["conv"]),
            (Block(nn.InstanceNorm2d(4)), ["conv"]),
            (Block(nn.GroupNorm(4, 4)), ["conv"]),
            (PreActivation(), ["stem", "convs.0", "convs.1"]),
            (Dense(), ["a", "b"]),
            (nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), ["0", "1"]),
            (nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4)), ["0"]),
        ],
    )
    def test_every_order_of_the_forward_pass(self, model, expected):
        findings = found("D06", model)
        assert [one.place for one in findings] == expected
        assert all(one.evidence < 1e-9 for one in findings)

    def test_linear_layers_and_sequences(self):
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
        assert places("D06", model, "6") == ["0"]
        assert places("D06", nn.Sequential(nn.Conv1d(4, 5, 3), nn.BatchNorm1d(5)), "4x9") == ["0"]

    @pytest.mark.parametrize(
        "model",
        [
            Block(nn.GroupNorm(1, 4)),
            Block(nn.GroupNorm(2, 4)),
            Block(nn.Identity()),
            Block(nn.BatchNorm2d(4), bias=False),
            PreActivation(last=False),
            ReadTwice(),
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4)),
        ],
    )
    def test_biases_that_are_needed(self, model):
        assert not found("D06", model)

    def test_before_layer_and_rms_norms_it_is_needed(self):
        assert not found(
            "D06", nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 5), nn.RMSNorm(5)), "6"
        )

    def test_behind_zero_padding_a_bias_is_needed(self):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        )
        assert not found("D06", model)

    def test_a_frozen_batch_norm_does_not_take_it_out(self):
        model = Block(nn.BatchNorm2d(4))
        model.norm.eval()
        assert not found("D06", model)
        assert places("D06", Block(nn.BatchNorm2d(4)).eval()) == ["conv"]

    def test_a_gamma_of_zero_hides_nothing(self):
        model = PreActivation(last=False)
        for norm in model.norms:
            nn.init.zeros_(norm.weight)
        assert not found("D06", model)

    def test_the_fix_is_exact(self):
        torch.manual_seed(0)
        model = Block(nn.BatchNorm2d(4)).double()
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        (one,) = found("D06", model, lambda n: torch.randn(n, 3, 8, 8, dtype=torch.float64))
        fixed = copy.deepcopy(model)
        code = one.fix.partition("already: ")[2]
        with torch.no_grad():
            exec(code, {"model": fixed})
        assert fixed.conv.bias is None
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        for mode in (False, True):
            before, after = model.train(mode)(x), fixed.train(mode)(x)
            assert float((before - after).detach().abs().max()) < 1e-14


class TestInARow:
    def test_two_and_three(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.ReLU())
        (one,) = found("D07", model)
        assert (one.place, one.evidence) == ("1", 2)
        model.insert(2, nn.BatchNorm2d(4))
        assert [(one.place, one.evidence) for one in found("D07", model)] == [("1", 3)]

    def test_something_between_or_beside_is_none(self):
        assert not found("D07", nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)))
        assert not found("D07", nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))

        class Shortcut(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

            def forward(self, x):
                y = self.first(x)
                return y + self.second(y)

        assert not found("D07", Shortcut())


class TestOneValue:
    @pytest.mark.parametrize(
        ("model", "shape"),
        [
            (nn.Sequential(nn.Linear(6, 4), nn.GroupNorm(4, 4)), "6"),
            (nn.Sequential(nn.Conv2d(3, 4, 8), nn.GroupNorm(4, 4)), "3x8x8"),
            (nn.Sequential(nn.Linear(6, 1), nn.LayerNorm(1)), "6"),
        ],
    )
    def test_the_data_is_erased(self, model, shape):
        (one,) = found("D19", model, shape)
        assert (one.place, one.severity, one.evidence) == ("1", "error", 1)

    def test_an_rms_norm_of_one_value_keeps_the_sign(self):
        (one,) = found("D19", nn.Sequential(nn.Linear(6, 1), nn.RMSNorm(1)), "6")
        assert (one.severity, one.evidence) == ("warning", 1)

    @pytest.mark.parametrize(
        ("model", "shape"),
        [
            (nn.Sequential(nn.Linear(6, 4), nn.GroupNorm(1, 4)), "6"),
            (nn.Sequential(nn.Linear(6, 4), nn.GroupNorm(2, 4)), "6"),
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4)), "3x8x8"),
            (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "3x8x8"),
            (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), "6"),
        ],
    )
    def test_several_values_are_none(self, model, shape):
        assert not found("D19", model, shape)


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TestSpatialAxes:
    def test_the_width_in_place_of_the_channels(self):
        (one,) = found("D20", nn.Sequential(nn.Conv2d(3, 6, 3), nn.LayerNorm(6)))
        assert (one.place, one.severity, one.evidence) == ("1", "warning", 6)
        (one,) = found("D20", nn.Sequential(nn.Conv1d(3, 6, 3), nn.LayerNorm(6)), "3x8")
        assert "LayerNorm2d" not in one.fix  # it takes maps alone
        assert (one.place, one.evidence) == ("1", 6)

    def test_behind_an_activation_too(self):
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.LayerNorm(6))
        assert [(one.place, one.severity) for one in found("D20", model)] == [("3", "warning")]

    def test_a_whole_sample_is_a_note(self):
        (one,) = found("D20", nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 6, 6])))
        assert (one.severity, one.evidence) == ("note", 4 * 6 * 6)

    def test_permuted_channels_tokens_and_groups_are_none(self):
        from torchvision.models.convnext import LayerNorm2d

        assert not found("D20", ChannelsLast())
        assert not found("D20", nn.Sequential(nn.Conv2d(3, 6, 3), LayerNorm2d(6)))
        assert not found("D20", nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(1, 6)))
        assert not found("D20", nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), "5x6")
        assert not found("D20", nn.Sequential(nn.Conv2d(3, 6, 8), nn.Flatten(), nn.LayerNorm(6)))
