"""Models by number: what a study may write, what it may not, and the runs of older results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.plan import cell_identity

Write = Callable[..., Path]
MINIMAL = "dataset: digits\noptimizer: {name: sgd, lr: 0.1}\n"


@pytest.fixture
def settings(write_study: Write, vocabulary: Vocabulary) -> Callable[[str], Settings]:
    def make(text: str) -> Settings:
        (only,) = load_study(write_study(f"{MINIMAL}{text}\n"), [], vocabulary).variants.values()
        return only

    return make


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        # computed by the version before models had numbers
        ("model: mlp", "8dd211b99bd2"),
        ("model: {name: cnn, channels: [4, 8]}", "ec123a34de85"),
        ("model: resnet20", "bd2d57baa263"),
        ("model: resnet56", "ec8cd205c60c"),
        ("model: vgg11", "6beb9457bcd5"),
    ],
)
def test_results_of_before_stay_known(text: str, identity: str, settings: Callable[[str], Settings]) -> None:
    assert cell_identity(settings(text), None) == identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("resnet20", "{name: resnet, depth: 20}"),
        ("resnet20", "resnet"),
        ("resnet56", "{name: resnet, depth: 56, width: 16}"),
        ("vgg11", "{name: vgg, width: 64}"),
        ("{name: mlp, hidden: [32, 32, 32]}", "{name: mlp, hidden: 32, depth: 3}"),
    ],
)
def test_one_network_has_one_identity_however_it_is_written(
    one: str, other: str, settings: Callable[[str], Settings], write_study: Write, vocabulary: Vocabulary
) -> None:
    first, second = settings(f"model: {one}"), settings(f"model: {other}")
    assert cell_identity(first, None) == cell_identity(second, None)
    twins = f"variants: {{a: {{model: {one}}}, b: {{model: {other}}}}}"
    with pytest.raises(ConfigError, match="variants a and b have the same settings"):
        load_study(write_study(f"{MINIMAL}model: mlp\n{twins}\n"), [], vocabulary)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("resnet20", "{name: resnet, depth: 26}"),
        ("resnet20", "{name: resnet, width: 8}"),
        ("vgg11", "{name: vgg, activation: tanh}"),
        ("{name: mlp, hidden: [32]}", "{name: mlp, hidden: 32, depth: 2}"),
    ],
)
def test_other_numbers_are_other_networks(one: str, other: str, settings: Callable[[str], Settings]) -> None:
    identities = {cell_identity(settings(f"model: {text}"), None) for text in (one, other)}
    assert len(identities) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: resnet, depth: 18}", "model.depth: 18 is wrong: a ResNet of three stages has 6n + 2 layers. Fix: 14"),
        ("{name: resnet, depth: 109}", "Fix: 104 or 110"),
        ("{name: resnet, depth: 2}", "model.depth: 2 is wrong: it should be greater than or equal to 8"),
        ("{name: resnet, depth: 9.5}", "model.depth: 9.5 is wrong: it should be a valid integer"),
        ("{name: resnet, depth: true}", "model.depth: True is wrong: a number is wanted"),
        ("{name: resnet, width: 0}", "model.width: 0 is wrong"),
        ("{name: resnet20, depth: 26}", "model resnet20 has no depth. Fix: model: {name: resnet, depth: ...}."),
        ("{name: vgg11, width: 8}", "model vgg11 has no width. Fix: model: {name: vgg, width: ...}."),
        ("{name: resnet20, deep: 26}", 'unknown key "deep" in model resnet20'),
        ("{name: mlp, dropout: 0.3}", "model.dropout: 0.3 is wrong: it should be a mapping. Fix: dropout: {p: 0.3, "),
        ("{name: mlp, dropout: true}", "Fix: dropout: {p: 0.5, place: last}"),
        ("{name: mlp, depth: 3}", "study.yaml:3: model.depth: 3 with model.hidden: [64], which lists the layers"),
        ("{name: mlp, depth: 3}", "Fix: model: {name: mlp, hidden: 64, depth: 3}"),
        ("{name: mlp, hidden: 32}", "study.yaml:3: model.hidden: 32 has no depth"),
        ("{name: mlp, hidden: 32}", "Fix: model: {name: mlp, hidden: 32, depth: 1}"),
        ("{name: mlp, hidden: 32, depth: 0}", "model.depth: 0 is wrong: it should be greater than or equal to 1"),
        ("{name: mlp, hidden: 0, depth: 1}", "model.hidden: 0 is wrong"),
        ("{name: mlp, hidden: x, depth: 1}", "model.hidden: 'x' is wrong: it should be a valid list"),
        ("{name: vgg, width: -1}", "model.width: -1 is wrong"),
    ],
)  # fmt: skip
def test_refused(text: str, message: str, write_study: Write, vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write_study(f"{MINIMAL}model: {text}\n"), [], vocabulary)
    assert len(caught.value.mistakes) == 1
    assert message in str(caught.value)


def test_the_depth_can_be_swept(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(MINIMAL + "model: {name: mlp, hidden: 16}\nsweep: {model.depth: [1, 5, 20]}\n")
    cells = load_study(path, [], vocabulary).cells
    assert [cell.settings.model.options["depth"] for cell in cells] == [1, 5, 20]
    assert load_study(path, ["model=resnet", "sweep.model.depth=[8, 14]"], vocabulary).cells
