"""A Keras run that is paused and goes on from its state is the undisturbed one, bit for bit.

The oracle is the same run without a pause.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from bnbench.engine.backends.keras import backend
from bnbench.study import Vocabulary
from tests.resuming import Memory, Study, ends, pause_and_go_on, study_of, trained

if find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed (pip install '.[keras]')", allow_module_level=True)

pytestmark = pytest.mark.keras

BASE = """
dataset: digits
framework: keras
max_train_samples: 100
max_eval_samples: 60
model: {name: mlp, hidden: [6]}
norm: batch_keras
optimizer: {name: adam_keras, lr: 0.01}
batch_size: 32
steps: 9
evaluate_every: 3
"""


@pytest.fixture
def make(vocabulary: Vocabulary, tmp_path: Path) -> Callable[..., Study]:
    return lambda *changes: study_of(vocabulary, tmp_path, changes, BASE)


@pytest.mark.parametrize("step", [1, 4, 6, 8])
@pytest.mark.parametrize(
    "changes",
    [
        [],
        [
            "optimizer={name: sgd, lr: 0.1, momentum: 0.9, nesterov: true}",
            "schedule={name: step, milestones: [1, 2]}",
        ],
        [
            "optimizer={name: adamw, lr: 0.01, weight_decay: 0.1}",
            "schedule=cosine",
            "clip_norm=0.3",
            "norm=batch",
        ],
        [
            "model={name: cnn, channels: [3, 4]}",
            "augment=crop_flip",
            "optimizer={name: adam, lr: 0.01}",
            "train=norm",
        ],
    ],
    ids=["adam_keras", "sgd", "adamw", "cnn"],
)
def test_a_run_goes_on_from_its_state(changes: list[str], step: int, make: Callable[..., Study]) -> None:
    pause_and_go_on(make(*changes), [3], step)


def test_another_tensorflow_is_elsewhere(make: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    study, states = make(), Memory()
    trained(study, [3], states, 4)
    versions = {**backend._versions(), "tensorflow": "9.9"}
    ours = backend._versions()["tensorflow"]
    monkeypatch.setattr(backend, "_versions", lambda: versions)
    ended = ends(trained(study, [3], states))[3]
    assert ended.record.environment["resumed"] == [{"step": 4, "elsewhere": {"tensorflow": [ours, "9.9"]}}]


def test_training_leaves_no_file_for_a_kill_to_forget(
    make: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AutoGraph would write its code into the temporary folder, and remove it when the process ends."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    trained(make("clip_norm=0.3"), [3])
    assert not list(folder.iterdir())
