"""What is found before training, on the real shapes: values normalized alone, unfilled statistics, lost biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.api.plugins import known_names
from bnbench.base.registry import Entry
from bnbench.engine.library import Library
from bnbench.engine.rehearsal.rehearse import Rehearsal, rehearse
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer
from bnbench.norms import NormFacts, norms
from bnbench.study import Vocabulary, load_study
from bnbench.study.plan import make_plan

CPU = torch.device("cpu")
BASE = "dataset: digits\noptimizer: {name: sgd, lr: 0.05}\nmax_train_samples: 128\nseeds: 2\n"


def rehearsed(text: str, vocabulary: Vocabulary, tmp_path: Path, *overrides: str) -> Rehearsal:
    (tmp_path / "s.yaml").write_text(BASE + text)
    study = load_study(tmp_path / "s.yaml", overrides, vocabulary)
    return rehearse(make_plan(study, lambda settings: ""), Library(tmp_path, CPU), CPU)


def cautions(found: Rehearsal) -> dict[str, tuple[str, ...]]:
    """Of the cells that have any."""
    return {label: cell.cautions for label, cell in found.cells.items() if cell.cautions}


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
        label: text.partition(" of their initial values")[0][-4:]
        for label, (text,) in cautions(found).items()
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
    lost = {label for label, texts in cautions(found).items() if any("no bias in" in text for text in texts)}
    assert lost == {"none", "rms"}
    text = " ".join(cautions(found)["none"])
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
    assert "0 (Standardized) has one weight per output" in message
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


@pytest.mark.parametrize(
    "model", ["mlp", "{name: cnn, channels: [4, 4]}", pytest.param("resnet20", marks=pytest.mark.slow)]
)
def test_our_own_models_lose_no_bias(model: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    variants = ", ".join(
        f"{name}: {{norm: {name}}}"
        for name in norms.names()
        if name != "qk" and (name not in ("instance", "fixup", "skipinit") or model == "resnet20")
    )
    found = rehearsed(f"model: {model}\nvariants: {{{variants}}}\n", vocabulary, tmp_path, "baseline=none")
    assert not [text for texts in cautions(found).values() for text in texts if "no bias" in text]


@pytest.mark.parametrize(
    "model",
    [
        "{name: lstm, width: 8}",
        pytest.param("{name: textcnn, width: 8, channels: 8}", marks=pytest.mark.slow),
        pytest.param("{name: transformer, width: 8, heads: 2, depth: 1}", marks=pytest.mark.slow),
        pytest.param(
            "{name: transformer, width: 8, heads: 2, depth: 1, norm_position: sandwich, pool: class_token}",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "{name: transformer, width: 8, heads: 2, depth: 1, norm_position: post}", marks=pytest.mark.slow
        ),
        pytest.param("{name: vit, patch: 2, width: 8, heads: 2, depth: 1}", marks=pytest.mark.slow),
    ],
)
def test_models_of_sequences_lose_no_bias(model: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """With every normalizer that they take."""
    names = ("none", "layer", "rms", "dyt", "group") if "lstm" in model else norms.names()
    variants = ", ".join(f"{name}: {{norm: {name}}}" for name in names)
    overrides = ["baseline=none", *([] if "vit" in model else ["dataset=text_topics"])]
    found = rehearsed(f"model: {model}\nvariants: {{{variants}}}\n", vocabulary, tmp_path, *overrides)
    assert len(found.cells) > 4
    assert not [text for texts in cautions(found).values() for text in texts if "no bias" in text]


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
    assert [("would be the same run 2 times" in text) for text in messages(found)] == [True] * refused
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


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
def test_a_large_eps_is_no_lack_of_values(norm: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    text = f"model: mlp\nvariants: {{none: {{}}, b: {{norm: {{name: {norm}, eps: 1e10}}}}}}\n"
    assert not rehearsed(text, vocabulary, tmp_path).mistakes


def test_one_training_sample_is_not_mended_by_a_larger_batch(vocabulary: Vocabulary, tmp_path: Path) -> None:
    text = "model: mlp\nvariants: {none: {}, batch: {norm: batch}}\n"
    (message,) = messages(rehearsed(text, vocabulary, tmp_path, "max_train_samples=1"))
    assert "Fix: max_train_samples: 2 or more, or a norm" in message
    found = rehearsed(text, vocabulary, tmp_path, "max_train_samples=2")
    assert not found.mistakes
    assert "after its 5 steps the" in cautions(found)["batch"][0]
    found = rehearsed(text, vocabulary, tmp_path, "max_train_samples=2", "epochs=1")
    assert "after its 1 step the" in cautions(found)["batch"][0]
