"""What it costs that the C library gives a network's activations back to the system in every step.

    python tests/benchmarks/freed_memory.py

The small CNN of `cifar10_cnn` on made-up images, each figure in a process of its own, with and without
`bnbench.engine.memory.keep_freed_memory`, three times in turns: page faults and milliseconds of a training step,
images a second in evaluation, and the peak of the process's memory; the best of three.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from typing import Any

import torch
from torch import nn

from bnbench.api.plugins import known_names
from bnbench.api.shipped import find_study
from bnbench.data import Sizes
from bnbench.data.prepared import Prepared
from bnbench.engine.build import build_model
from bnbench.engine.choose import choose
from bnbench.engine.evaluate import evaluate
from bnbench.engine.loop import Training
from bnbench.engine.memory import keep_freed_memory
from bnbench.study import load_study
from bnbench.study.plan import RunSpec
from tests.prepared import IMAGES

STEPS, ROUNDS = 20, 3


def main() -> None:
    """Measure and print."""
    context = multiprocessing.get_context("spawn")
    found: dict[bool, list[tuple[float, ...]]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for keep in found:
            with context.Pool(1) as pool:
                found[keep].append(pool.apply(measure, (keep,)))
    print(
        f"{'freed memory':>16} {'faults a step':>14} {'ms a step':>10} {'images/s, evaluation':>21} {'peak MiB':>9}"
    )
    for keep, rounds in found.items():
        faults, milliseconds, rates, peaks = zip(*rounds, strict=True)
        name = "kept" if keep else "given back"
        print(
            f"{name:>16} {min(faults):>14.0f} {min(milliseconds):>10.1f} {max(rates):>21.0f} {min(peaks):>9.0f}"
        )


def measure(keep: bool) -> tuple[float, ...]:
    """Page faults and milliseconds of a training step; images a second in evaluation; MiB at most."""
    if keep:
        keep_freed_memory()
    study = load_study(find_study("cifar10_cnn"), ["augment=none"], known_names().vocabulary)
    settings, data = study.variants["builtin"], made_up(2000)
    device = torch.device("cpu")
    model = build_model(settings, data.sizes, 0)
    choice = choose(model, settings, data.sizes, device)
    training = Training([RunSpec("v", {}, 0, "c", settings)], data, None, device, choice)
    batches = [next(iter(training.batches()))] * STEPS
    step_all(training, batches)
    faults, start = page_faults(), time.perf_counter()
    step_all(training, batches)
    milliseconds, faults = 1000 * (time.perf_counter() - start) / STEPS, page_faults() - faults
    rate = evaluation_rate(training.stepper.models[0], data)
    return faults / STEPS, milliseconds, rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step_all(training: Training, batches: list[Any]) -> None:
    """So many optimizer steps."""
    for images, labels in batches:
        training.train_step(0, images, labels)


def evaluation_rate(model: nn.Module, data: Prepared) -> float:
    """Images a second."""
    evaluate(model, data, ("val",))
    start = time.perf_counter()
    evaluate(model, data, ("val",))
    return len(data.val_targets) / (time.perf_counter() - start)


def page_faults() -> int:
    """Of this process so far, those that need no disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def made_up(count: int) -> Prepared:
    """Noise of CIFAR-10's shape."""
    draw = torch.Generator().manual_seed(0)
    part = torch.randn(count, 3, 32, 32, generator=draw), torch.randint(10, (count,), generator=draw)
    names = tuple(map(str, range(10)))
    return Prepared(
        *part,
        *part,
        *part,
        *part,
        names,
        IMAGES,
        Sizes((3, 32, 32), len(names)),
        "",
        torch.zeros(()),
        torch.ones(()),
        (),
    )


if __name__ == "__main__":
    main()
