"""What is found before training, on the real shapes: values normalized alone, unfilled statistics, lost biases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.config import Vocabulary, load_study
from bnbench.engine.execute import Library, rehearse
from bnbench.engine.probes import absorbs_bias, has_shift, initial_share, values_alone
from bnbench.engine.rehearsal import Rehearsal
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer
from bnbench.norms import NormFacts, norms
from bnbench.plan import make_plan
from bnbench.plugins import known_names
from bnbench.registry import Entry

CPU = torch.device("cpu")
BASE = "dataset: digits\noptimizer: {name: sgd, lr: 0.05}\nmax_train_samples: 128\nseeds: 2\n"


def made(name: str, channels: int, dim: int, **options: Any) -> nn.Module:
    entry = norms.get(name)
    module: nn.Module = entry.factory(channels, dim, **entry.typed(options))
    return module


class Chunks(nn.Module):
    """Someone's ghost batch norm: the last part of a batch is as small as it comes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [(p - p.mean(0)) / (p.var(0, correction=0) + 1e-5).sqrt() for p in x.split(self.size)]
        )


class Unbiased(nn.Module):
    """The unbiased variance of one value is NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt()


class NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float("nan")


class RootMeanSquare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(tuple(range(2, x.dim())) or -1, keepdim=True) + 1e-5).sqrt()


ALONE = [
    (lambda: nn.BatchNorm1d(4), (1, 4)),
    (lambda: nn.BatchNorm2d(4), (1, 4, 1, 1)),
    (lambda: nn.GroupNorm(4, 4), (8, 4)),
    (lambda: nn.GroupNorm(4, 4), (8, 4, 1, 1)),
    (lambda: nn.InstanceNorm2d(4), (8, 4, 1, 1)),
    (lambda: made("filter_response", 4, 2), (8, 4, 1, 1)),
    (lambda: made("evonorm_s0", 4, 2, groups=4), (8, 4, 1, 1)),
    (lambda: nn.LayerNorm(1), (8, 1)),
    (lambda: nn.RMSNorm(1), (8, 1)),
    (lambda: RootMeanSquare(), (8, 4, 1, 1)),
    (lambda: made("renorm", 4, 1), (1, 4)),
    (lambda: made("batch_noisy", 4, 1), (1, 4)),
    (lambda: Chunks(1), (8, 4)),
    (lambda: Unbiased(), (1, 4)),
    (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), (1, 4)),
]
SOUND = [
    (lambda: nn.BatchNorm1d(4), (2, 4)),
    (lambda: nn.BatchNorm2d(4), (1, 4, 1, 2)),
    (lambda: nn.BatchNorm2d(4), (1, 4, 8, 8)),
    (lambda: nn.GroupNorm(2, 4), (8, 4)),
    (lambda: nn.GroupNorm(4, 4), (8, 4, 1, 2)),
    (lambda: made("filter_response", 4, 1), (8, 4)),  # has a learnt eps, which is made for this
    (lambda: made("filter_response", 4, 2), (8, 4, 2, 2)),
    (lambda: made("evonorm_s0", 4, 2), (8, 4, 1, 1)),
    (lambda: nn.LayerNorm([4, 3, 3]), (8, 4, 3, 3)),
    (lambda: made("ghost", 4, 1, ghost_size=2), (3, 4)),
    (lambda: made("batch_noisy", 4, 1), (2, 4)),
    (lambda: made("batch_mean_only", 4, 1), (2, 4)),
    (lambda: Chunks(16), (32, 4)),
    (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5)), (8, 4)),
    # no normalizer at all: nothing to be alone in
    (lambda: nn.Identity(), (1, 4)),
    (lambda: made("dyt", 4, 1), (1, 4)),
    (lambda: made("frozen", 4, 1), (1, 4)),
    (lambda: made("skipinit", 4, 2), (1, 4, 1, 1)),
    (lambda: nn.ReLU(), (1, 4)),
    (lambda: NotANumber(), (8, 4)),  # which its run will show
]


@pytest.mark.parametrize(("make", "shape"), ALONE)
def test_a_value_that_is_normalized_by_itself_is_found(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    assert values_alone(make(), shape) == 1


@pytest.mark.parametrize(("make", "shape"), SOUND)
def test_a_layer_that_works_on_its_shape_is_let_pass(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    assert values_alone(make(), shape) == 0


def test_parts_of_a_batch_that_stand_alone_are_counted() -> None:
    assert values_alone(Chunks(16), (33, 4)) == pytest.approx(1 / 33)


def test_probing_leaves_the_layer_as_it_was() -> None:
    layer = made("batch_noisy", 4, 1)
    layer.eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    values_alone(layer, (8, 4))
    initial_share(layer, [((8, 4), 10)])
    assert not layer.training
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


class Plain(nn.Module):
    """Running statistics as plain attributes that are assigned anew, and a momentum of one's own name."""

    def __init__(self, keep: float, how: str = "") -> None:
        super().__init__()
        self.keep, self.how, self.batches = keep, how, 0
        self.moving, self.power = torch.zeros(4), torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            debias = 1 - self.keep**self.batches if self.how == "debiased" else 1
            return (x - self.moving / debias) / (self.power / debias + 1e-5).sqrt()
        mean, var = x.mean(0), x.var(0, correction=0)
        keep = 0 if self.how == "first replaces" and not self.batches else self.keep
        self.moving = keep * self.moving + (1 - keep) * mean
        start = self.power if self.batches or self.how != "debiased" else 0
        self.power = keep * start + (1 - keep) * var
        self.batches += 1
        return (x - mean) / (var + 1e-5).sqrt()


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_the_share_of_the_initial_statistics_against_its_formula(steps: int) -> None:
    """(1 - momentum) to the power of the updates; a plain average and a momentum of 1 keep nothing."""

    def share(module: nn.Module, samples: int = 32) -> float:
        return initial_share(module, [((samples, 4), steps)])

    assert share(nn.BatchNorm1d(4)) == pytest.approx(0.9**steps, rel=1e-3)
    assert share(made("batch_custom", 4, 1, momentum=0.01)) == pytest.approx(0.99**steps, rel=1e-3)
    assert share(made("batch_keras", 4, 1)) == pytest.approx(0.99**steps, rel=1e-3)
    assert share(made("renorm", 4, 1)) == pytest.approx(0.99**steps, rel=1e-2)
    assert share(made("ghost", 4, 1, ghost_size=8)) == pytest.approx(0.9 ** (4 * steps), rel=1e-2, abs=1e-9)
    assert share(nn.BatchNorm1d(4, momentum=0.0)) == 1
    assert share(nn.BatchNorm1d(4, momentum=1.0)) == 0
    assert share(nn.BatchNorm1d(4, momentum=None)) == 0
    assert share(Plain(0.95)) == pytest.approx(0.95**steps, rel=1e-3)
    assert share(Plain(1.0)) == 1
    assert share(Plain(0.95, "first replaces")) == 0
    assert share(Plain(0.95, "debiased")) == 0
    for name in ("layer", "frozen", "dyt", "batch_stats_at_inference", "rms"):
        assert share(made(name, 4, 1)) == 0


def test_absorbing_and_shifting() -> None:
    shape = (8, 4, 3, 3)
    assert absorbs_bias(nn.BatchNorm2d(4, affine=False), shape)
    assert absorbs_bias(nn.InstanceNorm2d(4), shape)
    assert not absorbs_bias(nn.GroupNorm(2, 4), shape)
    assert not absorbs_bias(made("skipinit", 4, 2), shape)  # alpha is 0 at the start: nothing is seen then
    assert has_shift(nn.GroupNorm(2, 4), shape)
    assert not has_shift(made("rms", 4, 2), shape)
    assert not has_shift(nn.Identity(), shape)


def rehearsed(text: str, vocabulary: Vocabulary, tmp_path: Path, *overrides: str) -> Rehearsal:
    (tmp_path / "s.yaml").write_text(BASE + text)
    study = load_study(tmp_path / "s.yaml", overrides, vocabulary)
    return rehearse(make_plan(study, lambda settings: ""), Library(tmp_path, CPU), CPU)


def messages(found: Rehearsal) -> list[str]:
    return [str(mistake) for mistake in found.mistakes]


def test_batches_of_one_are_refused_only_where_they_have_one_value(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    both = "variants: {none: {}, batch: {norm: batch}}\nbatch_size: 1\n"
    assert not rehearsed(f"model: {{name: cnn, channels: [4, 4]}}\n{both}", vocabulary, tmp_path).mistakes
    (message,) = messages(rehearsed(f"model: mlp\n{both}", vocabulary, tmp_path))
    assert message.startswith(
        "variant batch: norm: batch: blocks.0.norm (BatchNorm1d) gets (1, 64): its stat"
    )
    assert "Fix: batch_size: 2 or more, or" in message
    last = ("batch_size=127", "last_batch=keep")
    (message,) = messages(rehearsed(f"model: mlp\n{both}", vocabulary, tmp_path, *last))
    assert "in the last batch of every epoch, which has 1: its statistics have too few values" in message
    assert "Expected more than 1 value per channel" in message
    assert "Fix: last_batch: merge" in message
    assert not rehearsed(f"model: mlp\n{both}", vocabulary, tmp_path, "batch_size=127").mistakes


def test_maps_of_one_position_are_refused_for_the_norms_that_need_more(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    text = (
        "model: {name: cnn, channels: [8, 8, 8, 8, 8]}\nvariants: {none: {}, batch: {norm: batch}, "
        "layer: {norm: layer}, instance: {norm: instance}, frn: {norm: filter_response}, "
        "learnt: {norm: {name: filter_response, learn_eps: true}}, group: {norm: {name: group, groups: 8}}}\n"
    )
    found = messages(rehearsed(text, vocabulary, tmp_path))
    assert [message.partition(":")[0] for message in found] == [
        "variant instance",
        "variant frn",
        "variant group",
    ]
    assert "(and 1 more) gets (32, 8, 1, 1)" in found[1]
    assert "Fix: norm.learn_eps: true" in found[1]
    assert "Fix: fewer groups" in found[2]


def test_unfilled_statistics_are_a_caution_with_their_share(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """128 samples in batches of 32, 2 epochs: 8 steps leave 0.9^8 = 43 %, 0.99^8 = 92 %, and all at momentum 0."""
    text = (
        "model: mlp\nepochs: 2\nvariants: {none: {}, batch: {norm: batch}, keras: {norm: batch_keras}, "
        "still: {norm: {name: batch, momentum: 0}}, average: {norm: {name: batch, momentum: null}}, "
        "fast: {norm: {name: batch, momentum: 0.5}}}\n"
    )
    found = rehearsed(text, vocabulary, tmp_path)
    assert not found.mistakes
    shares = {
        label: text.partition(" of their initial values")[0][-4:] for label, (text,) in found.cautions.items()
    }
    assert shares == {"batch": " 43%", "keras": " 92%", "still": "100%"}


@pytest.fixture
def biasless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of one's own whose convolution never has a bias."""

    def net(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(1, 4, 3, bias=False)]
        layers += [] if norm.entry.name == "none" else [norm(4, 2)]
        layers += [nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False), nn.MaxPool2d(2), norm(4, 2), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(16, num_classes, bias=False))

    models.names()
    monkeypatch.setitem(models._entries, "net", Entry("net", net, ModelFacts()))


@pytest.mark.usefixtures("biasless")
def test_a_bias_that_does_not_come_back_is_a_caution(tmp_path: Path) -> None:
    text = "model: net\nvariants: {none: {}, batch: {norm: batch}, layer: {norm: layer}, rms: {norm: rms}}\n"
    found = rehearsed(text, known_names().vocabulary, tmp_path)
    assert not found.mistakes
    lost = {label for label, texts in found.cautions.items() if any("no bias in" in text for text in texts)}
    assert lost == {"none", "rms"}
    text = " ".join(found.cautions["none"])
    assert "no bias in 0 (Conv2d), 2 (Conv2d) of model net, and norm: none does not" in text


def test_a_normalized_weight_that_stands_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Standardized(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            flat = self.weight.flatten(1)
            flat = (flat - flat.mean(1, keepdim=True)) / (
                flat.var(1, correction=0, keepdim=True) + 1e-5
            ).sqrt()
            return self._conv_forward(x, flat.view_as(self.weight), self.bias)

    def net(size: int, features: int) -> Any:
        def make(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
            conv = Standardized(1, 4, size)
            return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(features, num_classes))

        return make

    models.names()
    for name, size, features in (("one", 1, 256), ("nine", 3, 144)):
        monkeypatch.setitem(models._entries, name, Entry(name, net(size, features), ModelFacts()))
    words = known_names().vocabulary
    (message,) = messages(rehearsed("model: one\n", words, tmp_path))
    assert "0 (Standardized) has one weight an output" in message
    assert not rehearsed("model: nine\n", words, tmp_path).mistakes


def test_a_model_of_a_fixed_batch_is_probed_at_its_own_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(2, 16, -1).flatten(0, 1)

    def net(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Fixed(), nn.Linear(64, 8), norm(8, 1), nn.Linear(8, num_classes))

    models.names()
    monkeypatch.setitem(models._entries, "fixed", Entry("fixed", net, ModelFacts()))
    found = rehearsed("model: fixed\nnorm: batch\n", known_names().vocabulary, tmp_path)
    assert not found.mistakes
    assert not found.forward_errors


def test_a_norm_that_is_written_into_a_model_is_judged_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def net(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))

    models.names()
    monkeypatch.setitem(models._entries, "own", Entry("own", net, ModelFacts()))
    (message,) = messages(rehearsed("model: own\n", known_names().vocabulary, tmp_path, "batch_size=1"))
    assert "model: own: 2 (BatchNorm1d) gets (1, 8)" in message


@pytest.mark.parametrize("model", ["mlp", "{name: cnn, channels: [4, 4]}", "resnet20"])
def test_our_own_models_lose_no_bias(model: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    variants = ", ".join(
        f"{name}: {{norm: {name}}}"
        for name in norms.names()
        if name not in ("instance", "fixup", "skipinit") or model == "resnet20"
    )
    found = rehearsed(f"model: {model}\nvariants: {{{variants}}}\n", vocabulary, tmp_path, "baseline=none")
    assert not [text for texts in found.cautions.values() for text in texts if "no bias" in text]


@pytest.mark.parametrize(
    ("vary", "refused"),
    [
        ("[noise]", True),
        ("[augmentation]", True),
        ("[noise, augmentation]", True),
        ("[init]", False),
        ("[order]", False),
        ("[split]", False),
    ],
)
def test_seeds_that_change_nothing_are_refused(
    vary: str, refused: bool, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    found = rehearsed("model: mlp\n", vocabulary, tmp_path, f"vary={vary}")
    assert [("would be one run 2 times" in text) for text in messages(found)] == [True] * refused
    assert not rehearsed("model: mlp\n", vocabulary, tmp_path, f"vary={vary}", "seeds=1").mistakes


def test_the_order_of_one_batch_changes_nothing_and_noise_where_there_is_some_does(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    assert messages(rehearsed("model: mlp\n", vocabulary, tmp_path, "vary=[order]", "batch_size=128"))
    noisy = rehearsed("model: mlp\n", vocabulary, tmp_path, "vary=[noise]", "norm=batch_noisy")
    assert not noisy.mistakes


def test_a_factory_that_raises_is_blamed_by_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(num_features: int, dim: int) -> nn.Module:
        raise SystemExit(0)

    norms.names()
    monkeypatch.setitem(norms._entries, "broken", Entry("broken", broken, NormFacts()))
    text = "model: mlp\nvariants: {none: {}, broken: {norm: broken}}\n"
    (message,) = messages(rehearsed(text, known_names().vocabulary, tmp_path))
    line = broken.__code__.co_firstlineno + 1
    assert message.startswith("variant broken: it can't be built: SystemExit: 0")
    assert message.endswith(f"({__file__}:{line})")
