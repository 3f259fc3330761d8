"""Two networks with two optimizers: losses, gradients, updates, passes and statistics by hand, in float64 NumPy.

Oracle: the formulas of Goodfellow et al. 2014, section 3, for networks that are linear, and batch statistics by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.steppers.adversarial import Adversarial
from bnbench.models.adversaries import Adversaries
from bnbench.optim import losses
from bnbench.study import Settings, Vocabulary, load_study

CPU = torch.device("cpu")
STUDY = """
dataset: digits
task: gan
model: {name: dcgan, width: 4}
optimizer: {name: sgd, lr: 0.1}
batch_size: 6
variants: [batch]
"""
Make = Callable[..., Settings]


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Make:
    def make(*changes: str) -> Settings:
        (tmp_path / "s.yaml").write_text(STUDY)
        study = load_study(tmp_path / "s.yaml", list(changes), vocabulary)
        return next(iter(study.variants.values()))

    return make


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def linear_pair(norm: bool = False, **options: Any) -> Adversaries:
    """A generator without a bias and a discriminator with one, of images (1, 1, 3) and two latent numbers."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Unflatten(1, (1, 1, 3)))
    first: list[nn.Module] = [nn.BatchNorm2d(1, affine=False)] if norm else []
    discriminator = nn.Sequential(*first, nn.Flatten(), nn.Linear(3, 1))
    return Adversaries(generator, discriminator, (1, 1, 3), **options).double()


def batch(model: Adversaries, count: int = 6, latent: int = 2) -> Tensor:
    values = int(np.prod(model.input_shape))
    return torch.randn(
        count, values + latent, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def test_the_losses_are_those_of_the_paper_and_torchs_binary_cross_entropy() -> None:
    real, made = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    loss = losses.get("non_saturating").factory()
    of_real, of_made = sigmoid(real.numpy()), sigmoid(made.numpy())
    by_hand = -np.log(of_real).mean() - np.log(1 - of_made).mean()
    assert float(loss.discriminator(real, made)) == pytest.approx(by_hand, rel=1e-13)
    assert float(loss.generator(made)) == pytest.approx(-np.log(of_made).mean(), rel=1e-13)
    entropy = nn.functional.binary_cross_entropy_with_logits
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    torch.testing.assert_close(loss.discriminator(real, made), entropy(real, one) + entropy(made, zero))
    zeros = torch.zeros(4, dtype=torch.float64)
    assert float(loss.discriminator(zeros, zeros)) == pytest.approx(2 * np.log(2))


def test_one_step_of_two_linear_networks_is_the_one_by_hand(settings: Make) -> None:
    """The discriminator first, then the generator against the discriminator as it is after its update."""
    model = linear_pair()
    inputs = batch(model)
    g, w, b = (
        p.detach().numpy().copy() for p in (*model.generator.parameters(), *model.discriminator.parameters())
    )
    x, z = inputs[:, :3].numpy(), inputs[:, 3:].numpy()
    stepper = Adversarial(model, settings("task.discriminator_lr=0.3"), CPU)
    value = stepper.step(inputs[None], inputs[None])

    made, n = z @ g.T, len(x)
    real_logits, made_logits = x @ w[0] + b, made @ w[0] + b
    of_discriminator = -np.log(sigmoid(real_logits)).mean() - np.log(1 - sigmoid(made_logits)).mean()
    w_grad = (-(1 - sigmoid(real_logits)) @ x + sigmoid(made_logits) @ made) / n
    b_grad = (-(1 - sigmoid(real_logits)) + sigmoid(made_logits)).mean()
    w, b = w - 0.3 * w_grad, b - 0.3 * b_grad
    seen = made @ w[0] + b
    of_generator = -np.log(sigmoid(seen)).mean()
    g_grad = np.einsum("n,c,nz->cz", -(1 - sigmoid(seen)), w[0], z) / n
    g = g - 0.1 * g_grad

    assert float(value) == pytest.approx(of_discriminator + of_generator, rel=1e-13)
    for ours, expected in zip(
        (*model.generator.parameters(), *model.discriminator.parameters()), (g, w, b), strict=True
    ):
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-13)


def test_the_sum_in_one_pass_has_the_gradients_of_both_losses() -> None:
    """What a probe differentiates: no gradient of the generator's loss reaches the discriminator, nor the reverse."""
    model = linear_pair()
    inputs = batch(model)
    x, z = inputs[:, :3], inputs[:, 3:]
    loss = losses.get("non_saturating").factory()
    grads = torch.autograd.grad(loss(model(inputs), inputs), list(model.parameters()))
    made = model.generator(z)
    logits = model.discriminator(made)[:, 0]
    of_generator = torch.autograd.grad(loss.generator(logits), list(model.generator.parameters()))
    real, fake = model.discriminator(x)[:, 0], model.discriminator(made.detach())[:, 0]
    of_discriminator = torch.autograd.grad(
        loss.discriminator(real, fake), list(model.discriminator.parameters())
    )
    torch.testing.assert_close(grads, (*of_generator, *of_discriminator))


@pytest.mark.parametrize(("mode", "judged", "both"), [("separate", 2, 3), ("joint", 1, 2)])
def test_a_step_moves_these_parameters_and_these_statistics_and_no_other(
    settings: Make, mode: str, judged: int, both: int
) -> None:
    """With two steps of the discriminator for one of the generator: in the first, only the discriminator learns.

    judged: passes of the discriminator in a step without the generator's update; both: in one with it.
    """
    chosen = settings(f"model.real_and_fake={mode}", "task.discriminator_steps=2")
    model = build_model(chosen, Sizes((1, 8, 8), 64), 0)
    assert isinstance(model, Adversaries)
    stepper = Adversarial(model, chosen, CPU)
    inputs = torch.randn(1, 6, 64 + 64, generator=torch.Generator().manual_seed(1))
    counters = {name for name, _ in model.named_buffers() if name.endswith("num_batches_tracked")}
    in_generator = {name for name in counters if name.startswith("generator")}
    assert len(in_generator) == 2
    assert len(counters) == 3

    def changes() -> set[str]:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        stepper.step(inputs, inputs)
        return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}

    parameters = {name for name, _ in model.named_parameters()}
    buffers = {name for name, _ in model.named_buffers()}
    of_discriminator = {name for name in parameters if name.startswith("discriminator")}
    assert changes() == of_discriminator | buffers
    assert {name: int(model.get_buffer(name)) for name in counters} == {
        name: 1 if name in in_generator else judged for name in counters
    }
    assert changes() == parameters | buffers
    assert {name: int(model.get_buffer(name)) for name in counters} == {
        name: 2 if name in in_generator else judged + both for name in counters
    }
    # the generator's own update leaves the discriminator's parameters alone
    stepper.optimizers[1].step = lambda: None  # type: ignore[method-assign, assignment]
    stepper.step(inputs, inputs)
    assert changes() & parameters == parameters - of_discriminator


@pytest.mark.parametrize("mode", ["separate", "joint"])
def test_real_and_made_images_have_statistics_of_their_own_or_one_for_both(mode: str) -> None:
    model = linear_pair(norm=True, real_and_fake=mode).train()
    inputs = batch(model)
    weight, bias = (p.detach().numpy() for p in model.discriminator.parameters())
    x = inputs[:, :3].numpy()
    made = inputs[:, 3:].numpy() @ next(model.generator.parameters()).detach().numpy().T

    def logits(values: Any, of: Any) -> Any:
        standard = (values - of.mean()) / np.sqrt(of.var() + 1e-5)
        return standard @ weight[0] + bias

    whole = np.concatenate([x, made])
    of_real, of_made = (logits(values, whole if mode == "joint" else values) for values in (x, made))
    outputs = model(inputs).detach().numpy()
    np.testing.assert_allclose(outputs[:, 0], of_real, rtol=1e-12)
    np.testing.assert_allclose(outputs[:, 1], of_made, rtol=1e-12)
    np.testing.assert_allclose(outputs[:, 2], of_made, rtol=1e-12)
    np.testing.assert_allclose(outputs[:, 3:], made, rtol=1e-12)
    # and where they are one batch, the running statistics saw one batch of both
    tracked = model.discriminator[0].num_batches_tracked  # type: ignore[index]
    assert int(tracked) == (2 if mode == "joint" else 3)


def test_rates_schedules_decay_and_clipping_are_of_each_network(settings: Make) -> None:
    chosen = settings(
        "optimizer={name: adam, lr: 0.01, weight_decay: 0.1, decay_norm_and_bias: false}",
        "task.discriminator_lr=0.002",
        "clip_norm=1e-3",
    )
    model = build_model(chosen, Sizes((1, 8, 8), 64), 0)
    stepper = Adversarial(model, chosen, CPU)
    stepper.scale_rates(0.5)
    of_generator, of_discriminator = stepper.optimizers
    assert {group["lr"] for group in of_generator.param_groups} == {0.005}
    assert {group["lr"] for group in of_discriminator.param_groups} == {0.001}
    for optimizer, network in zip(stepper.optimizers, (model.generator, model.discriminator), strict=True):  # type: ignore[union-attr]
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in network.parameters()}  # type: ignore[union-attr]
    inputs = torch.randn(1, 6, 64 + 64, generator=torch.Generator().manual_seed(1))
    stepper.step(inputs, inputs)
    for network in (model.generator, model.discriminator):
        squares = sum(float(p.grad.double().square().sum()) for p in network.parameters())  # type: ignore[union-attr]
        assert squares**0.5 == pytest.approx(1e-3, rel=1e-3)


def test_virtual_batch_norm_has_the_first_batch_of_training_as_its_reference(settings: Make) -> None:
    """Its statistics are those of the first latent vectors with the weights of now, not of the batch at hand."""
    from bnbench.norms.batch_virtual import VirtualBatchNorm

    chosen = settings("variants=[batch_virtual]")
    model = build_model(chosen, Sizes((1, 8, 8), 64), 0)
    assert isinstance(model, Adversaries)
    stepper = Adversarial(model, chosen, CPU)
    draw = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 1, 6, 64 + 64, generator=draw)
    stepper.step(first, first)
    project = model.generator.project  # type: ignore[union-attr]
    layer = project.norm  # type: ignore[union-attr]
    assert isinstance(layer, VirtualBatchNorm)
    with torch.no_grad():
        values = project.conv(model.generator.latent(first[0, :, 64:]))  # type: ignore[union-attr, operator]
    stepper.step(second, second)
    torch.testing.assert_close(layer.reference_mean, values.mean((0, 2, 3)))
    assert int(layer.reference_count) == 6
