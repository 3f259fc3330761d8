"""What every rival of workload A shares: its arguments, the data as it lies on disk, and the line that it prints.

NumPy alone, so that no rival pays for another's libraries. The held-out indices come from a file that
workload_a.py writes before any clock runs, so that all train, validate and test on the same samples.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VARIANTS = ("none", "custom", "builtin")
BATCH_SIZE = 32
#: Samples in a batch of an evaluation, as bnbench has it.
EVAL_BATCH = 1000
LEARNING_RATE = 1e-3
HIDDEN = 64
#: Of batch norm, in torch's words: the weight of the new value.
MOMENTUM, EPS = 0.1, 1e-5

Array = np.ndarray
Part = tuple[Array, Array]


@dataclass(frozen=True)
class Arguments:
    """What to train. seeds: 0 to seeds - 1; threads: None leaves the library its own choice."""

    data_dir: Path
    split: Path
    seeds: int
    epochs: int
    threads: int | None
    defaults: bool


@dataclass(frozen=True)
class Run:
    """What one training came to: accuracies 0..1, on validation part and training probe after each epoch."""

    steps: int
    val_accuracy: list[float]
    probe_accuracy: list[float]
    test_accuracy: float


@dataclass(frozen=True)
class Split:
    """Indices into MNIST's 60,000 training samples."""

    train: Array
    val: Array
    probe: Array


def arguments() -> Arguments:
    """The command line that workload_a.py gives to every rival."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True, help="holds MNIST/raw")
    parser.add_argument("--split", type=Path, required=True, help="npz with train, val, probe")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, help="threads of PyTorch [default: PyTorch's own choice]")
    parser.add_argument("--defaults", action="store_true", help="lightning: nothing switched off")
    return Arguments(**vars(parser.parse_args()))


def split(args: Arguments) -> Split:
    """Which samples train, validate and stand for the training part."""
    with np.load(args.split) as parts:
        return Split(parts["train"], parts["val"], parts["probe"])


def pixels(args: Arguments) -> tuple[Part, Part]:
    """Train and test: images (N, 784) uint8 and labels (N,) uint8."""

    def read(name: str, header: int) -> Array:
        return np.fromfile(args.data_dir / "MNIST" / "raw" / name, np.uint8, offset=header)

    def part(name: str) -> Part:
        images = read(f"{name}-images-idx3-ubyte", 16).reshape(-1, 784)
        return images, read(f"{name}-labels-idx1-ubyte", 8)

    return part("train"), part("t10k")


def floats(args: Arguments) -> dict[str, Part]:
    """train, val, probe, test: images (N, 784) float32 in 0..1 and labels (N,) int32."""

    def ready(images: Array, labels: Array) -> Part:
        return np.divide(images, np.float32(255), dtype=np.float32), labels.astype(np.int32)

    (images, labels), test = pixels(args)
    where = split(args)
    index = {"train": where.train, "val": where.val, "probe": where.probe}
    return {name: ready(images[at], labels[at]) for name, at in index.items()} | {"test": ready(*test)}


def each_run(args: Arguments, train: Callable[[str, int], Run]) -> list[dict[str, Any]]:
    """Every variant on every seed, one after the other, each with its seconds. Prints go to stderr."""
    records = []
    for seed in range(args.seeds):
        for variant in VARIANTS:
            start = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):
                run = train(variant, seed)
            records.append(record(variant, seed, run, time.perf_counter() - start))
    return records


def record(variant: str, seed: int, run: Run, seconds: float) -> dict[str, Any]:
    """One run as plain values."""
    return {"variant": variant, "seed": seed, "seconds": seconds, **vars(run)}


def report(runs: list[dict[str, Any]], **versions: str) -> None:
    """The one line on stdout."""
    print(json.dumps({"versions": versions, "runs": runs}))
