"""Normalizers that act beyond their own place: on the weights before, the activation after, residual branches."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.data import Sizes
from bnbench.engine.build import build_model, layer_list
from bnbench.models.layers import NormLayer, conv_block, linear_block
from bnbench.models.resnet import ResidualBlock
from bnbench.norms import norms
from bnbench.study import Settings, Vocabulary, load_study

Build = Callable[..., nn.Module]


@pytest.fixture
def build(vocabulary: Vocabulary, tmp_path: Path) -> Build:
    def build(norm: str, model: str = "resnet20", shape: tuple[int, int, int] = (3, 16, 16)) -> nn.Module:
        path = tmp_path / "s.yaml"
        path.write_text(f"dataset: digits\nmodel: {model}\noptimizer: {{name: sgd, lr: 0.1}}\nnorm: {norm}\n")
        (settings,) = load_study(path, [], vocabulary).variants.values()
        assert isinstance(settings, Settings)
        return build_model(settings, Sizes(shape, 10), seed=5)

    return build


def residual_blocks(model: nn.Module) -> list[ResidualBlock]:
    return [module for module in model.modules() if isinstance(module, ResidualBlock)]


def train_a_little(model: nn.Module, lr: float, steps: int = 8) -> list[float]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 10
    x = torch.randn(10, 3, 16, 16, generator=draw)[labels]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class TestFixup:
    def test_it_starts_as_the_papers_rules_say_paired_with_the_network_without_it(self, build: Build) -> None:
        fixup, none = build("fixup"), build("none")
        assert len(residual_blocks(fixup)) == 9
        for ours, theirs in zip(residual_blocks(fixup), residual_blocks(none), strict=True):
            expected = theirs.first.conv.weight * 9**-0.5  # L^(-1/(2m - 2)) with m = 2
            torch.testing.assert_close(ours.first.conv.weight, expected)
            assert not ours.second.conv.weight.any()
            assert ours.first.conv.bias is None
        torch.testing.assert_close(fixup.stem.conv.weight, none.stem.conv.weight)
        x = torch.randn(4, 3, 16, 16)
        assert torch.equal(fixup(x), torch.zeros(4, 10))

    def test_it_has_the_papers_scalars(self, build: Build) -> None:
        scalars = [p for p in build("fixup").parameters() if p.numel() == 1]
        # a block: before both convolutions, before the activation, a scale and a shift at the end;
        # the stem: before its convolution and its activation; the classifier: before it
        assert len(scalars) == 9 * 5 + 2 + 1

    def test_it_trains_where_the_network_without_it_diverges(self, build: Build) -> None:
        losses = train_a_little(build("fixup"), lr=0.05, steps=19)
        assert losses[0] == pytest.approx(math.log(10))
        assert math.isnan(train_a_little(build("none"), lr=0.05, steps=4)[-1])
        assert losses[-1] < 0.8 * losses[0]


class TestSkipInit:
    def test_blocks_start_as_their_shortcut(self, build: Build) -> None:
        model = build("skipinit")
        block = residual_blocks(model)[0]
        x = torch.randn(2, 16, 8, 8)
        assert torch.equal(block(x), x.relu())
        assert all(conv.bias is not None for conv in model.modules() if isinstance(conv, nn.Conv2d))
        assert sum("BranchScale" in line for line in layer_list(model)) == 9

    def test_it_trains_and_the_branches_open(self, build: Build) -> None:
        model = build("skipinit")
        losses = train_a_little(model, lr=0.05, steps=19)
        assert losses[-1] < 0.8 * losses[0]
        assert all(block.second.norm.alpha.abs() > 0 for block in residual_blocks(model))


@pytest.mark.parametrize("norm", ["fixup", "skipinit"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "vgg11"])
def test_what_is_for_residual_networks_refuses_plain_ones(build: Build, norm: str, model: str) -> None:
    with pytest.raises(BnbenchError, match=f"norm {norm} is not supported by this model") as caught:
        build(norm, model)
    assert "resnet20" in caught.value.fix


@pytest.mark.parametrize("norm", ["evonorm_s0", "filter_response"])
class TestOwnActivation:
    def test_a_block_has_no_second_activation(self, norm: str) -> None:
        chosen = NormLayer(norms.get(norm))
        block = conv_block(3, 8, chosen, "relu")
        assert not any(isinstance(module, nn.ReLU) for module in block.modules())
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(block(x), block.norm(block.conv(x)))
        assert block.conv.bias is not None

    def test_there_is_nothing_that_it_could_come_after(self, norm: str) -> None:
        with pytest.raises(BnbenchError, match="norm_position: after"):
            linear_block(3, 16, NormLayer(norms.get(norm)), "relu", "after")

    def test_the_end_of_a_branch_is_without_it_and_the_sum_is_activated(
        self, norm: str, build: Build
    ) -> None:
        block = residual_blocks(build(norm))[0]
        assert isinstance(block.activation, nn.ReLU)
        negative = torch.full((1, 16, 4, 4), -3.0) * torch.rand(1, 16, 4, 4)
        assert (block.second.norm(negative) < 0).all()  # an activation would have cut it off


class TestWeightStandardization:
    def test_against_convolving_with_weights_standardized_by_numpy(self) -> None:
        block = conv_block(3, 8, NormLayer(norms.get("weight_standardization"), {"then": "none"}), stride=2)
        block = block.double()
        weight = block.conv.weight.detach().numpy()
        flat = weight.reshape(8, -1)
        flat = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
        x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
        expected = nn.functional.conv2d(
            x, torch.from_numpy(flat.reshape(weight.shape)), block.conv.bias, stride=2, padding=1
        )
        torch.testing.assert_close(block(x), expected.relu(), rtol=1e-10, atol=1e-10)

    def test_of_a_linear_layer_by_numpy_and_by_gradcheck(self) -> None:
        block = linear_block(5, 4, NormLayer(norms.get("weight_standardization"), {"then": "none"})).double()
        w = block.linear.weight.detach().numpy()
        w = (w - w.mean(1, keepdims=True)) / np.sqrt(w.var(1, keepdims=True) + 1e-5)
        x = torch.randn(3, 5, dtype=torch.float64)
        expected = x.numpy() @ w.T + block.linear.bias.detach().numpy()
        np.testing.assert_allclose(block(x).detach().numpy(), np.maximum(expected, 0), rtol=1e-10, atol=1e-12)

        def call(weight: torch.Tensor) -> torch.Tensor:
            out = torch.func.functional_call(block.linear, {"weight": weight}, x)
            return out

        assert torch.autograd.gradcheck(call, block.linear.weight.detach().clone().requires_grad_())

    def test_the_weights_themselves_are_those_of_the_other_variants(self, build: Build) -> None:
        ours, theirs = build("weight_standardization"), build("group")
        assert "StandardizedConv2d" in layer_list(ours)[0]
        for (name, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(value, other), name
        assert type(ours.head) is nn.Linear

    def test_one_weight_an_output_is_refused(self) -> None:
        with pytest.raises(BnbenchError, match="always 0"):
            linear_block(1, 16, NormLayer(norms.get("weight_standardization")))


@pytest.mark.parametrize("norm", ["group", "evonorm_s0", "weight_standardization"])
def test_the_number_of_groups_that_auto_chose_is_in_the_layer_list(build: Build, norm: str) -> None:
    lines = [line for line in layer_list(build(norm)) if ".norm" in line]
    widths = {"GroupNorm(8, 16", "GroupNorm(16, 32", "GroupNorm(32, 64"}
    if norm == "evonorm_s0":
        widths = {"EvoNormS0(16, groups=8", "EvoNormS0(32, groups=16", "EvoNormS0(64, groups=32"}
    for width in widths:
        assert any(width in line for line in lines), width
