"""What the states of runs cost: bytes, milliseconds, and the share of the time at the usual interval.

    python tests/benchmarks/state_cost.py

A state is kept after every step, so that there are many to time. Everything counts: taking the state, describing it,
writing it down to the disk; "computing" is the processor's part. "every" is the interval that a run would have, so that
states take 1 % of its time at most. "begin" is what a run pays that ends before its first state, by the processor.
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
STEPS = 8


def timed(function: Callable[..., Any], seconds: list[tuple[float, float]]) -> Callable[..., Any]:
    """The same function; its seconds by the clock and by the processor are added to the list."""

    def call(*words: Any, **options: Any) -> Any:
        began, computed = time.perf_counter(), time.process_time()
        try:
            return function(*words, **options)
        finally:
            seconds.append((time.perf_counter() - began, time.process_time() - computed))

    return call


def main() -> None:
    """Print a row a study."""
    import bnbench
    from bnbench.base.running import SAVE_EVERY
    from bnbench.engine.state.saving import LONG_SAVE, Saving
    from bnbench.results.states import FolderStates

    save, begin, keep = Saving.save, Saving.__init__, FolderStates.keep
    columns = ("bytes a run", "ms a save", "computing", "every, s", "begin, ms")
    print(f"{'network':44}" + "".join(f"{column:>13}" for column in columns))
    for name, study in STUDIES.items():
        saves, begins, sizes = list[tuple[float, float]](), list[tuple[float, float]](), list[int]()

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
        cost, computing = (1000 * median(part) for part in zip(*saves, strict=True))
        every = SAVE_EVERY * max(1.0, cost / 1000 / LONG_SAVE)
        begin_ms = 1000 * max(cpu for _, cpu in begins)
        print(
            f"{name:44}{int(median(sizes)):13,}{cost:13.1f}{computing:13.1f}{every:13.1f}{begin_ms:13.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
