"""Rules of `doctor` on modes, shared layers and optimizers: each fires with its number, and spares the healthy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bnbench


def found(rule, model, shape="3x8x8", **given):
    diagnosis = bnbench.doctor(model, inputs=shape, rules=rule, **given)
    assert diagnosis.proofs[0].passed, "the model changed"
    assert not any(idle.failed for idle in diagnosis.idle), diagnosis.idle
    return list(diagnosis.findings)


def net(norm=nn.BatchNorm2d, **options):
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), norm(4, **options), nn.ReLU(), nn.Conv2d(4, 2, 3))


def freeze(module):
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


class TestFrozenButMoving:
    def test_frozen_gamma_and_beta_in_training_mode(self):
        model = net(momentum=0.2)
        freeze(model[1])
        (one,) = found("D03", model)
        assert (one.place, one.severity, one.evidence) == ("1", "warning", 0.2)

    def test_without_gamma_the_layer_before_says_it(self):
        model = net(affine=False)
        freeze(model[0])
        assert [one.place for one in found("D03", model)] == ["1"]
        assert not found("D03", net(affine=False))

    def test_what_is_frozen_in_eval_mode_is_none(self):
        model = freeze(net())
        model[1].eval()
        assert not found("D03", model)
        assert not found("D03", freeze(net()).eval())

    def test_norms_without_statistics_are_none(self):
        assert not found("D03", freeze(net(track_running_stats=False)))
        assert not found("D03", freeze(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))))
        assert not found("D03", freeze(net(momentum=0.0)))
        assert not found("D03", net())


class _KeepsEval(nn.Sequential):
    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


class TestEvalInTraining:
    def test_an_override_of_train_is_named(self):
        model = nn.Sequential(_KeepsEval(*net()))
        (one,) = found("D04", model)
        assert (one.place, one.severity, one.evidence) == ("0.1", "warning", 8)
        assert "_KeepsEval.train()" in one.message

    def test_a_layer_whose_own_train_does_nothing(self):
        """The second fix is run: the finding is gone."""

        class Asleep(nn.BatchNorm2d):
            def train(self, mode=True):
                return super().train(False)

        model = nn.Sequential(nn.Conv2d(3, 4, 3), Asleep(4))
        (one,) = found("D04", model)
        assert "Asleep.train()" in one.message
        assert "take .eval() out of Asleep.train()" in one.fix
        exec(one.fix.rpartition(", ")[2], {"model": model})
        assert not found("D04", model)

    def test_a_call_of_eval_on_a_part(self):
        model = net()
        model[1].eval()
        (one,) = found("D04", model)
        assert (one.place, one.evidence) == ("1", 8)
        assert ".eval()" in one.message

    def test_a_network_in_eval_mode_as_a_whole_is_none(self):
        assert not found("D04", net().eval())
        assert not found("D04", net())

    def test_what_is_frozen_as_a_whole_is_meant(self):
        model = net()
        freeze(model[1]).eval()
        assert not found("D04", model)
        assert not found("D04", freeze(_KeepsEval(*net())))

    def test_norms_of_one_mode_are_none(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
        model[1].eval()
        assert not found("D04", model)


class _Shared(nn.Module):
    def __init__(self, norm, convs=3, stride=1):
        super().__init__()
        self.norm = norm
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, stride, padding=1) for _ in range(convs))

    def forward(self, x):
        for conv in self.convs:
            x = self.norm(conv(x)).relu()
        return x


class TestSeveralTimes:
    def test_the_calls_are_the_evidence(self):
        (one,) = found("D05", _Shared(nn.BatchNorm2d(3)))
        assert (one.place, one.evidence, one.severity) == ("norm", 3, "warning")

    def test_one_module_under_two_names(self):
        norm = nn.BatchNorm2d(3)
        model = nn.Sequential(nn.Conv2d(3, 3, 1), norm, nn.Conv2d(3, 3, 1), norm)
        (one,) = found("D05", model)
        assert (one.place, one.evidence) == ("1", 2)
        assert "2 names" in one.message

    def test_a_head_over_several_sizes_is_a_note(self):
        head = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        model = nn.ModuleDict({"head": head})
        model.forward = lambda x: head(x).mean() + head(x[..., ::2]).mean()
        assert [one.severity for one in found("D05", model)] == ["note"]
        several = _Shared(nn.BatchNorm2d(3), stride=2)  # sizes differ, and so do the layers before
        assert [one.severity for one in found("D05", several)] == ["warning"]

    @pytest.mark.parametrize(
        "norm", [nn.GroupNorm(1, 3), nn.InstanceNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)]
    )
    def test_without_statistics_it_is_none(self, norm):
        assert not found("D05", _Shared(norm))

    def test_a_second_name_of_a_layer_that_runs_once_is_none(self):
        model = net()
        model.alias = nn.ModuleList([model[1]])
        model.forward = lambda x: model[3](model[1](model[0](x)))
        assert not found("D05", model)


def _rms(size):
    class LlamaRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(size))

        def forward(self, x):
            return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    return LlamaRMSNorm()


class TestDecay:
    def test_one_group_for_all_is_a_note(self):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-4)
        (one,) = found("D13", model, optimizer=optimizer)
        assert (one.place, one.severity, one.evidence) == ("1", "note", 5e-4)

    def test_a_list_that_missed_an_rms_norm_is_a_warning(self):
        model = nn.Sequential(nn.Linear(6, 6), _rms(6), nn.Linear(6, 6), nn.LayerNorm(6))
        spared = list(model[3].parameters())
        rest = [one for place in (0, 1, 2) for one in model[place].parameters()]
        groups = [{"params": rest, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
        (one,) = found("D13", model, "6", optimizer=torch.optim.AdamW(groups))
        assert (one.place, one.severity, one.evidence) == ("1", "warning", 0.1)

    def test_spared_frozen_and_undecayed_ones_are_none(self):
        model = net()
        groups = [
            {"params": [model[0].weight, *model[3].parameters()], "weight_decay": 0.1},
            {"params": model[1].parameters(), "weight_decay": 0.0},
        ]
        assert not found("D13", model, optimizer=torch.optim.AdamW(groups))
        assert not found("D13", model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        freeze(model[1])
        assert not found("D13", model, optimizer=torch.optim.AdamW(model.parameters()))


class TestOptimizer:
    def test_a_layer_that_no_group_has_is_an_error(self):
        model = net()
        optimizer = torch.optim.SGD([*model[0].parameters(), *model[3].parameters()], lr=0.1)
        (one,) = found("D14", model, optimizer=optimizer)
        assert (one.place, one.severity, one.evidence) == ("1", "error", 8)

    def test_parameters_of_a_replaced_layer_are_an_error(self):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model[1] = nn.BatchNorm2d(4)
        places = {one.place: (one.severity, one.evidence) for one in found("D14", model, optimizer=optimizer)}
        assert places == {"": ("error", 2), "1": ("error", 8)}

    def test_two_optimizers_for_one_layer(self):
        model = net()
        both = [torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.Adam(model[1].parameters())]
        (one,) = found("D14", model, optimizer=both)
        assert (one.place, one.evidence) == ("1", 8)
        assert "twice" in one.message

    def test_a_part_that_is_trained_alone_is_a_warning(self):
        model = net()
        (one,) = found("D14", model, optimizer=torch.optim.SGD(model[3].parameters(), lr=0.1))
        assert (one.place, one.severity) == ("1", "warning")

    def test_what_is_complete_frozen_or_split_is_none(self):
        model = net()
        assert not found("D14", model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        halves = [
            torch.optim.SGD(model[:2].parameters(), lr=0.1),
            torch.optim.SGD(model[2:].parameters(), lr=0.1),
        ]
        assert not found("D14", model, optimizer=halves)
        freeze(model[1])
        assert not found("D14", model, optimizer=torch.optim.SGD(model[3].parameters(), lr=0.1))

    def test_parameters_beside_the_network_are_a_note(self):
        model = net()
        scale = nn.Parameter(torch.ones(()))
        (one,) = found("D14", model, optimizer=torch.optim.SGD([*model.parameters(), scale], lr=0.1))
        assert (one.place, one.severity, one.evidence) == ("", "note", 1)
