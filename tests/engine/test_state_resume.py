"""A run that is paused and goes on from its state is the undisturbed one, bit for bit, whatever it trains with.

The oracle is the same run without a pause. Steps to pause at are drawn at random, from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from bnbench.norms import norms
from bnbench.study.events import RunStarted
from tests.resuming import Memory, Study, assert_equal, ends, pause_and_go_on, study_of, trained

#: Networks, tasks and data, in a few small words each.
TASKS = {
    "cnn": ["dataset: digits", "model: {name: cnn, channels: [4, 4]}", "norm: batch"],
    "resnet": ["dataset: digits", "model: {name: resnet, depth: 8}", "norm: fixup"],
    "own": ["dataset: digits", "model: {name: torchvision, arch: resnet18}", "norm: batch"],
    "vit": [
        "dataset: digits", "model: {name: vit, patch: 4, depth: 1, width: 16, heads: 2}", "norm: rms",
        "precision: bf16",
    ],
    "transformer": [
        "dataset: {name: stdlib_text, window: 16}",
        "model: {name: transformer, depth: 1, width: 16, heads: 2}", "norm: layer",
    ],
    "lstm": ["dataset: {name: stdlib_text, window: 8}", "model: {name: lstm, width: 8}", "norm: layer"],
    "text": [
        "dataset: {name: text_topics, length: 32}", "task: text_classification",
        "model: {name: textcnn, width: 16, channels: 8, kernels: [3]}", "norm: masked_batch",
    ],
    "vae": [
        "dataset: digits", "task: vae", "model: {name: vae, network: mlp, hidden: [16], latent: 4}",
        "loss: {name: elbo, beta: 1}", "norm: batch",
    ],
    "gan": [
        "dataset: digits", "task: {name: gan, discriminator_steps: 2, discriminator_lr: 0.0004}",
        "model: {name: dcgan, width: 4}", "norm: batch_virtual",
    ],
    "denoising": [
        "dataset: digits", "task: {name: denoising, steps: 10, noise_schedule: linear}",
        "model: {name: unet, width: 8, depth: 1}", "norm: batch",
    ],
    "segmentation": [
        "dataset: shapes", "task: segmentation", "model: {name: unet, width: 4, depth: 1}", "norm: batch",
        "augment: [RandomHorizontalFlip, ElasticTransform]",
    ],
    "tabular": [
        "dataset: diabetes", "model: {name: mlp, hidden: [8], dropout: {p: 0.2, place: last}}", "norm: batch",
    ],
}  # fmt: skip
SHORT = [
    "max_train_samples: 60", "max_eval_samples: 40", "batch_size: 16", "steps: 7", "evaluate_every: 3",
    "optimizer: {name: adam, lr: 0.003}",
]  # fmt: skip
#: Normalizers that a plain network of rows of features does not take.
OF_OTHER_NETWORKS = ("fixup", "skipinit", "qk", "instance")
#: What else a run may train with, where a state could lack something.
WAYS = {
    "sgd": "optimizer={name: sgd, lr: 0.1}",
    "nesterov": "optimizer={name: sgd, lr: 0.1, momentum: 0.9, nesterov: true}",
    "adam": "optimizer={name: adam, lr: 0.01}",
    "adamw": "optimizer={name: adamw, lr: 0.01, decay_norm_and_bias: false}",
    "groups": "optimizer={name: adam, lr: 0.01, groups: {gamma: {lr_factor: 0.5}}}",
    "adam_keras": "optimizer={name: adam_keras, lr: 0.01}",
    "cosine": "schedule={name: cosine, warmup_epochs: 1}",
    "step": "schedule={name: step, milestones: [1, 2]}",
    "clip_norm": "clip_norm=0.5",
    "agc": "clip={name: agc, ratio: 0.01}",
    "full batch": "batch_size=100",
    "drop": "last_batch=drop",
    "each step": "evaluate_every=1",
    "epochs": "evaluate_every=epoch",
    "classes": "batches={classes: 3}",
    "crop_flip": "augment=crop_flip",
    "vary": "vary=[noise, augmentation]",
    "probes": "probe=true",
    "ways": "evaluate=[running, batch, precise]",
    "norm alone": "train=norm",
}


@pytest.fixture
def study(vocabulary: Any, tmp_path: Any) -> Callable[..., Study]:
    """From a text and changes to settings and data."""
    return lambda *changes, text="": study_of(vocabulary, tmp_path, changes, text)


def some_step(of: object, steps: int) -> int:
    """After which a run is paused: the same in every call."""
    return random.Random(str(of)).randrange(1, steps)


@pytest.mark.parametrize(("engine", "norm"), [("stacked", "batch_noisy"), ("sequential", "batch_custom")])
def test_from_some_steps(engine: str, norm: str, study: Any) -> None:
    """At an evaluation and at the end of an epoch, within one, before the first step and before the last one."""
    given = study(
        f"engine={engine}", f"norm={norm}", "augment=crop_flip", "probe={every: 3, what: [weights]}"
    )
    pause_and_go_on(given, [3], 0, 1, 3, 5, given.steps - 1)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_from_every_step_with_probes(engine: str, study: Any) -> None:
    given = study(f"engine={engine}", "norm=renorm", "augment=crop_flip", "probe={every: 2}")
    pause_and_go_on(given, [3], *range(given.steps))


@pytest.mark.parametrize("way", ["adam", "groups", "classes"])
def test_a_stack_of_a_few_ways(way: str, study: Any) -> None:
    given = study(WAYS[way], "norm=batch")
    pause_and_go_on(given, [3, 5], some_step(way, given.steps))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "sequential"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way(way: str, engine: str, study: Any) -> None:
    given = study(WAYS[way], "norm=batch", f"engine={engine}")
    pause_and_go_on(given, [3], some_step(way, given.steps))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, study: Any) -> None:
    given = study(text="\n".join(TASKS[task] + SHORT))
    pause_and_go_on(given, [3], some_step(task, given.steps))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["transformer", "cnn", "lstm", "vit"])
def test_probes_of_every_kind_of_network(task: str, study: Any) -> None:
    given = study("probe={every: 2}", text="\n".join(TASKS[task] + SHORT))
    pause_and_go_on(given, [3], some_step(task, given.steps))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "sequential"])
@pytest.mark.parametrize("norm", [name for name in norms.names() if name not in OF_OTHER_NETWORKS])
def test_every_normalizer(norm: str, engine: str, study: Any) -> None:
    given = study(f"norm={norm}", f"engine={engine}")
    pause_and_go_on(given, [3], some_step(norm, given.steps))


@pytest.mark.slow
def test_a_compiled_network(study: Any) -> None:
    pause_and_go_on(study("engine=compiled", "norm=batch_custom"), [3], 5)


def test_a_look_without_a_step_has_no_state(study: Any) -> None:
    given = study("steps=0")
    (event,) = ends(trained(given, [3])).values()
    assert_equal(event, ends(trained(given, [3]))[3])


def test_a_state_of_another_engine_is_not_used_and_a_note_says_so(vocabulary: Any, tmp_path: Any) -> None:
    """Only the run that had a state says it; one with a state that fits goes on and says nothing."""
    states = Memory()
    trained(study_of(vocabulary, tmp_path, ["engine=sequential"]), [3], states, 4)
    stack = study_of(vocabulary, tmp_path, ["engine=stacked"])
    events = trained(stack, [3, 5], states)
    assert [event.step for event in events if isinstance(event, RunStarted)] == [0, 0]
    notes = {seed: [n for n in end.record.notes if "began again" in n] for seed, end in ends(events).items()}
    assert notes == {
        3: [
            "it began again, as its state of step 4 could not be used: "
            "it was made with engine sequential, and this is stacked"
        ],
        5: [],
    }
