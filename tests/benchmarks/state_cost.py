"""What the states of runs cost: bytes, milliseconds, and the share of the time at the usual interval.

    python tests/benchmarks/state_cost.py

A state is kept after every step, so that there are many to time; "every" is the interval that a run would have, and
the share that of its time. Everything counts: taking the state, describing it, writing it down to the disk. "begin" is
what a run pays that ends before its first state.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

STUDIES: dict[str, dict[str, Any]] = {
    "MLP (64), stack of 5 seeds": {
        "model": {"name": "mlp", "hidden": [64]}, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "seeds": 5,
    },
    "ResNet-18 (torchvision), SGD with momentum": {
        "model": {"name": "torchvision", "arch": "resnet18", "options": {}},
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9}, "seeds": 1,
    },
    "ResNet-18 (torchvision), AdamW": {
        "model": {"name": "torchvision", "arch": "resnet18", "options": {}},
        "optimizer": {"name": "adamw", "lr": 0.001}, "seeds": 1,
    },
}  # fmt: skip
SHARED = {
    "dataset": "digits",
    "batch_size": 32,
    "evaluate_every": 4,
    "max_train_samples": 256,
    "max_eval_samples": 64,
}
STEPS = 12


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The same function; its seconds are added to the list."""

    def call(*words: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*words, **options)
        finally:
            seconds.append(time.perf_counter() - began)

    return call


def main() -> None:
    """Print a row a study."""
    import bnbench
    from bnbench.base.running import SAVE_EVERY
    from bnbench.engine.state.saving import LONG_SAVE, Saving
    from bnbench.results.states import FolderStates

    save, begin, keep = Saving.save, Saving.__init__, FolderStates.keep
    print(
        f"{'network':44} {'bytes a run':>12} {'ms a save':>10} {'every, s':>9} {'share':>6} {'begin, ms':>10}"
    )
    for name, study in STUDIES.items():
        saves, begins, sizes = list[float](), list[float](), list[int]()

        def sized(self: Any, run: Any, step: int, content: bytes, sizes: list[int] = sizes) -> None:
            sizes.append(len(content))
            keep(self, run, step, content)

        Saving.save, Saving.__init__ = timed(save, saves), timed(begin, begins)  # type: ignore[method-assign]
        FolderStates.keep = sized  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory(dir=".") as folder:
            bnbench.train(
                {"name": "cost", **SHARED, **study, "steps": STEPS, "variants": {"batch": {"norm": "batch"}}},
                output=folder, jobs=1, running=bnbench.Running(save_every=0),
            )  # fmt: skip
        Saving.save, Saving.__init__, FolderStates.keep = save, begin, keep  # type: ignore[method-assign]
        cost = median(saves)
        every = SAVE_EVERY * max(1.0, cost / LONG_SAVE)
        print(
            f"{name:44} {int(median(sizes)):12,} {1000 * cost:10.1f} {every:9.1f} {cost / every:6.2%} "
            f"{1000 * max(begins):10.1f}"
        )


if __name__ == "__main__":
    main()
