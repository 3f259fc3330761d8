"""A Keras run that is paused and goes on from its state is the undisturbed one, bit for bit.

The oracle is the same run without a pause.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bnbench.data.prepared import Prepared
from bnbench.engine.backends.keras import backend
from bnbench.engine.library import Library
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunStarted
from bnbench.study.plan import RunSpec
from tests.resuming import CPU, Memory, assert_equal, ends, paused, trained

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
def make(vocabulary: Vocabulary, tmp_path: Path) -> Any:
    library = Library(tmp_path, CPU)

    def settings(*changes: str) -> tuple[Settings, Prepared]:
        path = tmp_path / "s.yaml"
        path.write_text(BASE)
        (variant,) = load_study(path, changes, vocabulary).variants.values()
        return variant, library.prepared(variant.for_seed(0))

    return settings


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
def test_a_run_goes_on_from_its_state(changes: list[str], step: int, make: Any) -> None:
    settings, data = make(*changes)
    runs = [RunSpec("v", {}, 3, "cell", settings)]
    whole, states = ends(trained(runs, data)), Memory()
    assert paused(trained(runs, data, states, step)) == {3: step}
    second = trained(runs, data, states)
    assert [event.step for event in second if isinstance(event, RunStarted)] == [step]
    assert_equal(whole[3], ends(second)[3])
    assert ends(second)[3].record.environment["resumed"] == [{"step": step, "elsewhere": {}}]


def test_another_tensorflow_is_elsewhere(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, data = make()
    runs, states = [RunSpec("v", {}, 3, "cell", settings)], Memory()
    trained(runs, data, states, 4)
    versions = {**backend._versions(), "tensorflow": "9.9"}
    ours = backend._versions()["tensorflow"]
    monkeypatch.setattr(backend, "_versions", lambda: versions)
    ended = ends(trained(runs, data, states))[3]
    assert ended.record.environment["resumed"] == [{"step": 4, "elsewhere": {"tensorflow": [ours, "9.9"]}}]
