"""A study that trains in a moment, as a dict."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "name": "tiny",
    "dataset": "digits",
    "max_train_samples": 128,
    "max_eval_samples": 64,
    "model": {"name": "mlp", "hidden": [8]},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "batch_size": 32,
    "epochs": 1,
    "seeds": 3,
    "variants": ["none", "batch"],
}
