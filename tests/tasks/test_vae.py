"""The variational autoencoder: both parts of its bound, its noise, its metrics.

Oracles: torch.distributions in float64; finite differences; probabilistic PCA, whose likelihood a linear VAE reaches;
sums by hand over the weights of a run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from typer.testing import CliRunner

from bnbench.api.plugins import known_names
from bnbench.base.seeding import generator
from bnbench.base.variational import Variational
from bnbench.cli.app import app
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.evaluate import evaluate
from bnbench.engine.library import Library
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.models.vae import Reparametrization
from bnbench.norms import norms
from bnbench.optim import losses
from bnbench.study import Settings, load_study
from bnbench.tasks import tasks
from bnbench.tasks.vae import active

STUDY = """
dataset: digits
task: vae
model: {name: vae, network: mlp, hidden: [16], latent: 3}
optimizer: {name: adam, lr: 0.01}
epochs: 1
max_train_samples: 200
max_eval_samples: 100
seeds: 2
variants: [none, batch]
"""


def outputs(samples: int = 6, latent: int = 3) -> tuple[Variational, Tensor]:
    draw = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)

    made = Variational(some(samples, 1, 2, 3), some(samples, latent), some(samples, latent), some())
    return made, some(samples, 1, 2, 3).detach()


def vae(norm: str = "none", shape: tuple[int, int, int] = (1, 8, 8), **options: Any) -> Any:
    entry = models.get("vae")
    return entry.factory(shape, 64, NormLayer(norms.get(norm)), **entry.typed(options))


def test_both_parts_of_the_bound_are_those_of_torchs_distributions() -> None:
    made, x = outputs()
    deviation = (made.log_noise / 2).exp()
    expected = -Normal(made.location, deviation).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(made.reconstruction(x), expected, rtol=1e-13, atol=1e-13)
    posterior = Normal(made.mean, (made.log_variance / 2).exp())
    torch.testing.assert_close(made.kl(), kl_divergence(posterior, Normal(0.0, 1.0)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_objective_is_their_sum_and_its_gradient_is_right(beta: float) -> None:
    made, x = outputs()
    objective = losses.get("elbo").factory(beta=beta)
    parts = made.reconstruction(x).tolist(), made.kl().tolist()
    by_hand = sum(one + beta * sum(kl) for one, kl in zip(*parts, strict=True))
    assert objective(made, x).item() == pytest.approx(by_hand / 6, rel=1e-12)
    assert torch.autograd.gradcheck(lambda *parts: objective(Variational(*parts), x), tuple(made))


def test_a_unit_is_active_where_the_variance_of_its_posterior_mean_is_above_a_hundredth() -> None:
    """Two values, d apart, half and half: variance d² / 4 with divisor N."""
    means = torch.tensor([[0.0, 0.0, 5.0], [0.199, 0.201, 5.0]], dtype=torch.float64).repeat(8, 1)
    assert active(means).tolist() == [False, True, False]


def test_a_linear_vae_reaches_the_likelihood_of_probabilistic_pca_and_no_more() -> None:
    """Tipping & Bishop 1999, equations 6 to 8; Lucas et al. 2019, arXiv 1911.02469, section 4: no bound is tighter."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(300, 2, generator=draw, dtype=torch.float64) @ torch.randn(
        2, 6, generator=draw, dtype=torch.float64
    )
    x = x + 0.3 * torch.randn(x.shape, generator=draw, dtype=torch.float64) + 1
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    values, vectors = torch.linalg.eigh(covariance)
    noise = values[:4].mean()
    weight = vectors[:, 4:] * (values[4:] - noise).sqrt()
    likelihood = MultivariateNormal(mean, weight @ weight.T + noise * torch.eye(6, dtype=torch.float64))
    expected = -float(likelihood.log_prob(x).mean())

    model = vae(shape=(6, 1, 1), network="mlp", hidden=[], latent=2).double().eval()
    inverse = torch.linalg.inv(weight.T @ weight + noise * torch.eye(2, dtype=torch.float64))
    with torch.no_grad():
        model.encoder.code.weight.copy_(torch.cat([inverse @ weight.T, torch.zeros(2, 6)]))
        model.encoder.code.bias.copy_(
            torch.cat([-inverse @ weight.T @ mean, (noise * inverse.diagonal()).log()])
        )
        model.decoder.head.weight.copy_(weight)
        model.decoder.head.bias.copy_(mean)
        model.log_noise.copy_(noise.log())
    images = x.repeat(200, 1).reshape(-1, 6, 1, 1)

    def bound() -> float:
        with torch.no_grad():
            made = model(images)
            return float((made.reconstruction(images) + made.kl().sum(1)).mean())

    assert bound() == pytest.approx(expected, abs=0.02)
    for parameter in model.parameters():
        with torch.no_grad():
            before = parameter.clone()
            parameter.add_(0.2)
        assert bound() > expected + 0.02
        with torch.no_grad():
            parameter.copy_(before)


def test_the_draw_has_the_posterior_s_mean_and_deviation_and_evaluation_moves_no_state() -> None:
    layer = Reparametrization()
    mean, log_variance = torch.full((40_000, 1), 2.0), torch.full((40_000, 1), math.log(9.0))
    drawn = layer(mean, log_variance)
    assert float(drawn.mean()) == pytest.approx(2, abs=0.06)
    assert float(drawn.std()) == pytest.approx(3, abs=0.06)
    assert int(layer.num_draws) == 1
    layer.eval()
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    first, second = layer(mean, log_variance), layer(mean, log_variance)
    assert torch.equal(first, second)
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())
    assert not torch.equal(first, drawn)


def cells_of(folder: Path, text: str = STUDY) -> dict[str, Settings]:
    """The settings of every variant."""
    (folder / "s.yaml").write_text(text)
    study = load_study(folder / "s.yaml", [], known_names().vocabulary)
    return {cell.variant: cell.settings for cell in study.cells}


def test_all_variants_of_a_seed_train_with_the_same_noise_and_another_seed_with_another(
    tmp_path: Path,
) -> None:
    drawn = {}
    for variant, settings in cells_of(tmp_path).items():
        for seed in (0, 1):
            layer = build_model(settings, Sizes((1, 8, 8), 64), seed).get_submodule("latent")
            assert isinstance(layer, Reparametrization)
            drawn[variant, seed] = torch.stack([layer.noise((4, 3)) for _ in range(2)])
    assert torch.equal(drawn["none", 0], drawn["batch", 0])
    assert not torch.equal(drawn["none", 0], drawn["none", 1])
    assert not torch.equal(drawn["none", 0][0], drawn["none", 0][1])


def run(folder: Path, *words: str) -> tuple[int, str]:
    (folder / "s.yaml").write_text(STUDY)
    result = CliRunner().invoke(
        app,
        ["compare", str(folder / "s.yaml"), "--output", str(folder / "out"), *words],
        env={"COLUMNS": "200"},
    )
    return result.exit_code, " ".join(result.output.split())


def test_the_metrics_of_a_network_are_those_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: matrix products with the weights on the test part, with the noise of every evaluation."""
    monkeypatch.setattr(
        tasks.get("vae").factory, "aid", lambda *_: None
    )  # whole runs have the features: `slow`
    settings = cells_of(tmp_path)["none"]
    data = Library(tmp_path, torch.device("cpu")).prepared(settings)
    model = build_model(settings, data.sizes, 0)
    with torch.no_grad():
        model.get_parameter("log_noise").fill_(-0.5)
    found = evaluate(model, data, ("val", "test"))
    w = {name: value.double() for name, value in model.state_dict().items()}
    x = data.test_inputs.double().flatten(1)
    assert len(x) == 100

    def layer(name: str, values: Tensor) -> Tensor:
        return values @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    mean, log_variance = layer("encoder.code", layer("encoder.blocks.0.linear", x).relu()).chunk(2, 1)
    noise = torch.randn(100, 3, generator=generator(0, "latent", "evaluation")).double()
    hidden = layer("decoder.blocks.0.linear", mean + (log_variance / 2).exp() * noise).relu()
    errors = (layer("decoder.head", hidden) - x).square()
    log_noise = w["log_noise"]
    reconstruction = 0.5 * (errors.sum(1) / log_noise.exp() + 64 * (log_noise + math.log(2 * math.pi))).mean()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)
    assert found["test_reconstruction"] == pytest.approx(float(reconstruction), rel=1e-5)
    assert found["test_kl"] == pytest.approx(float(kl.sum()), rel=1e-5)
    assert found["test_kl_largest"] == pytest.approx(float(kl.max()), rel=1e-5)
    assert found["test_loss"] == pytest.approx(float(reconstruction + kl.sum()), rel=1e-5)
    assert found["test_active_units"] == float((mean.var(0, correction=0) > 0.01).sum())
    assert found["test_r2"] == pytest.approx(
        1 - float(errors.sum() / (x - x.mean(0)).square().sum()), rel=1e-5
    )
    assert math.isnan(found["val_frechet"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.latent=0"], "latent"),
        (["model.latent=65"], "model.latent: 65, and a sample has 64 values"),
        (["model.network=conv", "model.channels=[4, 4, 4, 4]"], "a map of 1x1 can't be halved"),
        (["model.sigma=0"], "sigma"),
        (["loss.beta=-1"], "beta"),
        (["model={name: mlp}"], "mlp"),
        (["augment={name: crop_flip}"], "augment"),
    ],
)
def test_what_can_t_be_is_refused_before_training(words: list[str], message: str, tmp_path: Path) -> None:
    code, text = run(tmp_path, *words)
    assert code == 1, text
    assert message in text
    assert "Traceback" not in text
    assert not list(tmp_path.glob("out/runs/*/*"))


def test_a_fixed_sigma_is_no_parameter() -> None:
    model = vae(sigma=0.5)
    assert "log_noise" not in dict(model.named_parameters())
    assert float(model.log_noise) == pytest.approx(2 * math.log(0.5))
    assert isinstance(vae().log_noise, nn.Parameter)


def test_batch_norm_on_the_posterior_means_keeps_the_divergence_above_its_bound() -> None:
    """Zhu et al. 2020, equation 7: E KL >= (gamma² + beta²) / 2 for each latent variable, whatever the weights are."""
    torch.manual_seed(0)
    model = vae(network="mlp", hidden=[], latent=4, norm_on_mean=0.7).double()
    beta = torch.tensor([0.0, 0.5, -1.0, 2.0], dtype=torch.float64)
    with torch.no_grad():
        model.means.beta.copy_(beta)
        model.encoder.code.weight.mul_(100)
    made = model(torch.randn(64, 1, 8, 8, dtype=torch.float64))
    torch.testing.assert_close(made.mean.mean(0), beta)
    torch.testing.assert_close(
        made.mean.var(0, correction=0), torch.full((4,), 0.49).double(), rtol=1e-4, atol=0
    )
    assert (made.kl().mean(0) > (0.49 + beta.square()) / 2 - 1e-4).all()
    assert (active(made.mean)).all()
    model.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(8, 1, 8, 8, dtype=torch.float64))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
