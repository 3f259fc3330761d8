"""What other converters do to the networks that `convert` is tested on: the table in docs/own_model.md.

Where one of these tests fails, a rival has become better, and the table is out of date.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bnbench.network.convert import convert
from tests.network.networks import IMAGE, NETWORKS, BatchNormAct, noise, shaken

pytestmark = pytest.mark.filterwarnings("ignore")


def ours(model: nn.Module, inputs) -> nn.Module:
    """Converted by bnbench, with its proofs."""
    conversion = convert(model, "group", inputs=inputs)
    assert conversion.passed
    assert not conversion.left
    return conversion.model


# --- torch


def test_torch_converts_a_shared_norm_under_one_name_alone():
    model, inputs = NETWORKS["TwoNames"]()
    theirs = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert [type(theirs.first), type(theirs.second)] == [nn.SyncBatchNorm, nn.BatchNorm2d]
    mine = ours(model, inputs)
    assert mine.first is mine.second


def test_torch_makes_two_norms_of_one_with_two_parents():
    model, inputs = NETWORKS["TwoParents"]()
    theirs = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert theirs.left.norm is not theirs.right.norm
    mine = ours(model, inputs)
    assert mine.left.norm is mine.right.norm


def test_torch_loses_hooks_attributes_and_activations():
    model, inputs = NETWORKS["hooked"]()
    model[1].comment = "the user's"
    theirs = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert len(theirs[1]._forward_hooks) == 0
    assert not hasattr(theirs[1], "comment")
    mine = ours(model, inputs)
    assert (len(mine[1]._forward_hooks), mine[1].comment) == (1, "the user's")
    fused = shaken(nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct(4)))
    theirs = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(fused))
    assert bool((theirs.eval()(noise(*IMAGE)(2)) < 0).any())  # no relu any more
    assert not bool((ours(fused, noise(*IMAGE)).eval()(noise(*IMAGE)(2)) < 0).any())


def test_torch_func_leaves_a_network_that_infers_something_else():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    for _ in range(20):
        model(3 + noise(*IMAGE)(8))
    x = noise(*IMAGE, seed=5)(1)
    wanted = model.eval()(x)
    theirs = copy.deepcopy(model)
    torch.func.replace_all_batch_norm_modules_(theirs)
    assert not torch.allclose(theirs.eval()(x), wanted, atol=0.1)
    assert torch.allclose(
        convert(model, "batch_custom", inputs=noise(*IMAGE)).model.eval()(x), wanted, atol=1e-6
    )


# --- opacus, timm


@pytest.mark.zoo
def test_opacus_misses_subclasses_second_names_and_frozen_norms():
    fixer = pytest.importorskip("opacus.validators").ModuleValidator

    model, _ = NETWORKS["TwoNames"]()
    theirs = fixer.fix(copy.deepcopy(model))
    assert {type(theirs.first), type(theirs.second)} == {nn.GroupNorm, nn.BatchNorm2d}
    fused, inputs = NETWORKS["fused_activation"]()
    assert isinstance(fixer.fix(copy.deepcopy(fused))[1], BatchNormAct)
    assert type(ours(fused, inputs)[1]).__name__ == "PlacedNorm"
    frozen = shaken(nn.Sequential(nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32)))
    frozen[1].requires_grad_(False)
    assert type(fixer.fix(copy.deepcopy(frozen))[1]) is nn.BatchNorm2d
    assert type(ours(frozen, noise(*IMAGE))[1]) is nn.GroupNorm


@pytest.mark.zoo
def test_opacus_throws_away_gamma_eps_and_the_bias():
    fixer = pytest.importorskip("opacus.validators").ModuleValidator

    model = shaken(nn.Sequential(nn.Conv2d(3, 32, 1, bias=False), nn.BatchNorm2d(32, eps=1e-3)))
    theirs = fixer.fix(copy.deepcopy(model))
    assert torch.equal(theirs[1].weight, torch.ones(32))
    assert theirs[1].eps == 1e-5
    assert theirs[0].bias is None
    mine = ours(model, noise(*IMAGE))
    assert torch.equal(mine[1].weight, model[1].weight)
    assert mine[1].eps == 1e-3
    assert mine[0].bias is not None


@pytest.mark.zoo
def test_opacus_groups_of_one_value():
    """opacus#567: every output is beta, whatever comes in."""
    fixer = pytest.importorskip("opacus.validators").ModuleValidator

    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    theirs = fixer.fix(copy.deepcopy(model))
    assert float(theirs(noise(6)(8)).detach().abs().max()) < 1e-3
    conversion = convert(model, "group", inputs=noise(6))
    assert float(conversion.model(noise(6)(8)).detach().abs().max()) > 0.5


@pytest.mark.zoo
def test_timm_freezes_two_dimensions_alone():
    layers = pytest.importorskip("timm.layers")
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    theirs = layers.freeze_batch_norm_2d(copy.deepcopy(model))
    assert type(theirs[1]) is nn.BatchNorm1d
    assert type(convert(model, "frozen", inputs=noise(6)).model[1]).__name__ == "FrozenBatchNorm"
