"""Layers, optimizers, schedules and losses of users that remember something: kept whole, or not at all, with a reason.

Those that are kept go on bit for bit; of those that can't be, no state is there, so that the run begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn
from torch.nn.utils import prune

from bnbench.base import stacked
from bnbench.base.registry import Entry, Registry
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer, linear_block
from bnbench.optim import losses, optimizers, schedules
from bnbench.study.events import RunStarted
from tests import remembering_layers as layers
from tests import remembering_optimizers as others
from tests.resuming import Memory, Study, assert_equal, ends, pause_and_go_on, paused, study_of, trained

#: What a run says of each layer that no state can hold.
REASONS = {
    layers.CountsInModule: "calls in remembering_layers.py changes while the run trains",
    layers.ListsInModule: "seen in remembering_layers.py changes while the run trains",
    layers.CountsInClass: "CountsInClass.number in remembering_layers.py changes",
    layers.Defaults: "Defaults.remembered in remembering_layers.py changes",
    layers.Iterates: "model.2.numbers is a itertools.cycle, which no file can hold",
    layers.Remakes: "model.2.notes holds another _Notes than at the start of the run",
    layers.Backwards: "model.2.last is a tensor with a history",
    layers.Views: "tensors share memory in another way than at the start of the run",
}


def some_of(every: Iterable[Any], *always: Any) -> list[Any]:
    """All of them as parameters of a test; but for a few they are slow."""
    marks = {True: (), False: (pytest.mark.slow,)}
    return [pytest.param(one, id=one.__name__, marks=marks[one in always]) for one in every]


@pytest.fixture
def using(monkeypatch: pytest.MonkeyPatch, vocabulary: Any, tmp_path: Path) -> Callable[..., Study]:
    """A study with something of a user in the place of a part."""

    def study(registry: Registry, part: str, factory: Any, facts: Any, engine: str, **options: Any) -> Study:
        registry.names()
        monkeypatch.setitem(registry._entries, "user", Entry("user", factory, facts))
        given = study_of(vocabulary, tmp_path, [f"engine={engine}", "norm=batch", "clip_norm=1.0"])
        chosen = getattr(given.settings, part).model_copy(update={"name": "user", "options": options})
        return replace(given, settings=given.settings.model_copy(update={part: chosen}))

    return study


@pytest.fixture
def with_layer(using: Any) -> Callable[[type[nn.Module]], Study]:
    """A study of a network with this layer in it; dropout draws from the global stream as well."""

    def study(layer: type[nn.Module]) -> Study:
        def build(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
            parts = [nn.Flatten(), linear_block(64, 6, norm), layer(), nn.Dropout(0.3)]
            return nn.Sequential(*parts, nn.Linear(6, num_classes))

        given: Study = using(models, "model", build, ModelFacts(), "sequential")
        return given

    return study


@pytest.mark.parametrize("layer", some_of(layers.REMEMBERED, layers.Counts, layers.Grows, layers.Draws))
def test_what_a_layer_remembers_is_kept(layer: type[nn.Module], with_layer: Any) -> None:
    pause_and_go_on(with_layer(layer), [3], 5)


@pytest.mark.slow
@pytest.mark.parametrize("layer", layers.REMEMBERED)
def test_the_layers_of_these_tests_do_remember(layer: type[nn.Module], with_layer: Any) -> None:
    """Each has other numbers than a network without it: else the test above would see no difference."""
    given = with_layer(layer)
    plain = ends(trained(with_layer(nn.Identity), [3]))[3].record
    given = with_layer(layer)
    assert ends(trained(given, [3]))[3].record.step_losses[-3:] != plain.step_losses[-3:]


@pytest.mark.parametrize("layer", some_of(REASONS, layers.CountsInModule, layers.Iterates))
def test_what_no_state_can_hold(layer: type[nn.Module], with_layer: Any) -> None:
    """There is no state, so nothing can go on wrongly; the run says so once, where a state was due."""
    given, states = with_layer(layer), Memory()
    assert paused(trained(given, [3], states, 4)) == {3: 0}
    assert not states.kept
    quiet = ends(trained(given, [3], states))[3].record
    (ended,) = ends(trained(given, [3], states, every=0.0)).values()
    notes = [note for note in ended.record.notes if note not in quiet.notes]
    assert len(notes) == 1
    assert notes[0].startswith("no state of this run is kept, so after a kill it begins again: ")
    assert REASONS[layer] in notes[0]
    assert set(states.kept.get(("v", 3), ())) <= {0}, "before its first step nothing had changed"


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
@pytest.mark.parametrize("optimizer", some_of(others.OPTIMIZERS, others.lookahead, others.foreach))
def test_what_an_optimizer_remembers(optimizer: Any, engine: str, using: Any) -> None:
    given = using(optimizers, "optimizer", optimizer, None, engine, lr=0.1)
    if engine == "stacked" and optimizer is others.hooked:
        assert paused(trained(given, [3, 5], Memory(), 4)) == {3: 0, 5: 0}, (
            "its hook counts for all of a stack"
        )
        return
    pause_and_go_on(given, [3], 5)


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_what_a_schedule_remembers(engine: str, using: Any) -> None:
    pause_and_go_on(using(schedules, "schedule", others.counting, None, engine), [3], 5)


def test_what_a_loss_remembers(using: Any) -> None:
    """Alone; in a stack all runs would share it, and none is kept."""
    facts = losses.get("cross_entropy").facts
    pause_and_go_on(using(losses, "loss", others.moving, facts, "sequential"), [3], 5)
    assert paused(trained(using(losses, "loss", others.moving, facts, "stacked"), [3], Memory(), 4)) == {3: 0}


def test_two_runs_after_each_other(with_layer: Any) -> None:
    """A run that ended before leaves nothing to the next one, kept or not."""
    given, states = with_layer(layers.Draws), Memory()
    whole = ends([*trained(given, [3]), *trained(given, [4])])
    for seed in (4, 3):
        trained(given, [seed], states, 3)
    for seed, event in ends([*trained(given, [3], states), *trained(given, [4], states)]).items():
        assert_equal(whole[seed], event)


def test_a_variable_of_a_module_that_is_another_one(with_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state says what stood there; where something else does, the run begins again, and says why."""
    given, states = with_layer(layers.Counts), Memory()
    trained(given, [3], states, 4)
    monkeypatch.setattr(layers, "calls", layers.calls + 1)
    events = trained(given, [3], states)
    assert [event.step for event in events if isinstance(event, RunStarted)] == [0]
    reason = (
        "it began again, as its state of step 4 could not be used: calls in remembering_layers.py has another"
    )
    assert any(note.startswith(reason) for note in ends(events)[3].record.notes)
    assert "resumed" not in ends(events)[3].record.environment


@pytest.fixture
def in_a_stack(using: Any) -> Callable[[Callable[[], nn.Module]], Study]:
    """A stack of networks with this layer in it."""

    def study(layer: Callable[[], nn.Module]) -> Study:
        def build(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
            return nn.Sequential(nn.Flatten(), linear_block(64, 6, norm), layer(), nn.Linear(6, num_classes))

        given: Study = using(models, "model", build, ModelFacts(), "stacked")
        return given

    return study


def _pruned() -> nn.Module:
    """Torch computes its weight before every forward, from what is left of another one."""
    return prune.random_unstructured(nn.Linear(6, 6), "weight", 0.3)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize(
    "layer", [lambda: nn.BatchNorm1d(6, momentum=None), _pruned], ids=["average of all batches", "pruned"]
)
def test_layers_of_torch_in_a_stack(layer: Any, in_a_stack: Any) -> None:
    """The weight of a batch in an average of all is one over their number, which a state has to bring back."""
    pause_and_go_on(in_a_stack(layer), [3, 5], 4)


class _Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class _CountingForm(stacked.StackedLayer):
    """A stacked form that counts its steps for itself."""

    def __init__(self, modules: Any, parameters: Any) -> None:
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return x / self.steps

    def backward(self, grad: Tensor, needed: bool) -> Tensor:
        return grad / self.steps


def test_a_stacked_form_that_counts_for_itself(in_a_stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stacked._FORMS, _Scaled, (_CountingForm, lambda module: True))
    assert paused(trained(in_a_stack(_Scaled), [3, 5], Memory(), 4)) == {3: 0, 5: 0}


class _Brightens:
    """A user's transform of one image, brighter with every image."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, image: Any) -> Any:
        self.images += 1
        return image + self.images % 3


def test_what_an_augmentation_remembers(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its draws are in the state; what it counts for itself is not, so no state is kept."""
    from bnbench.data.augmentations import AugmentationFacts, augmentations

    augmentations.names()
    facts = AugmentationFacts(of_one_image=True)
    given = using(
        models,
        "model",
        lambda input_shape, num_classes, norm: nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)),
        ModelFacts(),
        "sequential",
    )
    monkeypatch.setitem(augmentations._entries, "brightens", Entry("brightens", _Brightens, facts))
    chosen = given.settings.model_copy(update={"augment": type(given.settings.model)(name="brightens")})
    states = Memory()
    assert paused(trained(replace(given, settings=chosen), [3], states, 4)) == {3: 0}
    assert not states.kept
