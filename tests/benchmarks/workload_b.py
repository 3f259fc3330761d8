"""Workload B: a small convolutional network on CIFAR-10, images a second in training.

usage: python tests/benchmarks/workload_b.py --data-dir DIR [--imagefolder DIR] [--rounds 5] [--json FILE]

bnbench's `cnn` 32-64-128 with the built-in batch norm, SGD with momentum, batches of 128, cosine, no augmentation
(configs/cifar10_cnn.yaml without its augmentation, so that it is the network that is timed).
Contenders: bnbench as it comes, with engine=compiled, and with precision=bf16 besides; the tutorial's loop; and
floors, which are the same convolutions and nothing else. One process each, rounds interleaved. The first
epoch warms up (caches, compilation) and is shown apart; the rate is that of the epochs after it, evaluation
left out. Fails where a contender fails or reaches another test accuracy than the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from measuring import (
    ENOUGH_ROUNDS,
    Spread,
    by_round,
    disagreements,
    machine,
    ratios,
    table,
    use_cores,
)
from processes import RIVALS, json_file, play, run

from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.study import Study

#: Between test accuracies after so short a training (3 epochs of 10,000 images: about 0.5, and noisy).
TOLERANCE = 0.06
BATCH_SIZE = 128


@dataclass(frozen=True)
class Contender:
    """options: of the script, or overrides of bnbench's study where there is none. floors: it is held against
    the fastest of these."""

    title: str
    script: str | None = None
    options: tuple[str, ...] = ()
    floors: tuple[str, ...] = ()


FLOORS = ("floor", "floor_nchw")
CONTENDERS = {
    "bnbench": Contender("bnbench", floors=FLOORS),
    "bnbench_compiled": Contender("bnbench, engine=compiled", options=("engine=compiled",), floors=FLOORS),
    "bnbench_bf16": Contender(
        "bnbench, engine=compiled precision=bf16",
        options=("engine=compiled", "precision=bf16"),
        floors=("floor_bf16",),
    ),
    "tutorial": Contender("PyTorch tutorial loop", "cifar_tutorial.py", floors=FLOORS),
    "floor": Contender("convolutions alone", "cifar_floor.py", ("--channels-last",)),
    "floor_nchw": Contender("convolutions alone, NCHW", "cifar_floor.py"),
    "floor_bf16": Contender("convolutions alone, bf16", "cifar_floor.py", ("--channels-last", "--bf16")),
}


@dataclass(frozen=True)
class Task:
    """dataset: the words of the study that name it; images: the same for the rivals, as arrays."""

    dataset: str
    data_dir: Path
    images: Path
    samples: int
    epochs: int


def study_words(task: Task, options: tuple[str, ...]) -> list[str]:
    """The study and its overrides."""
    sizes = [f"epochs={task.epochs}", "seeds=1", f"max_train_samples={task.samples}"]
    variants = ["variants={builtin: {norm: batch}}", "baseline=builtin"]
    return ["cifar10_cnn", task.dataset, "augment=none", *sizes, *variants, *options]


def load(task: Task, options: tuple[str, ...]) -> Study:
    """The study. Raises ConfigError, also where this bnbench does not know a key."""
    from bnbench.api.plugins import known_names
    from bnbench.api.shipped import find_study
    from bnbench.study import load_study

    name, *overrides = study_words(task, options)
    return load_study(find_study(name), overrides, known_names(()).vocabulary)


def unavailable(contender: Contender, task: Task) -> str | None:
    """Why this bnbench can't run it: it refuses the study; else None."""
    if contender.script or not contender.options:
        return None
    try:
        load(task, contender.options)
    except ConfigError as error:
        return str(error).partition(" Known:")[0]
    return None


def measure(contender: Contender, task: Task, folder: Path) -> dict[str, Any]:
    """epoch_seconds, images an epoch, test accuracy. Raises Failed."""
    if contender.script:
        command = [str(RIVALS / contender.script), "--images", str(task.images), "--epochs", str(task.epochs)]
        return json.loads(run([*command, *contender.options]).stdout.splitlines()[-1])
    where = ["--data-dir", str(task.data_dir), "--output", str(folder)]
    run(["-m", "bnbench", "compare", *study_words(task, contender.options), *where])
    from bnbench.results import ResultsFolder

    (record,) = ResultsFolder(folder).load().cells[0].records
    seconds = [row.train_seconds for row in record.history]
    return {
        "epoch_seconds": [after - before for before, after in pairwise(seconds)],
        "images": record.num_samples["train"],
        "test_accuracy": record.final["test_accuracy"],
    }


def rate(measured: dict[str, Any]) -> float:
    """Images a second, the first epoch left out."""
    later = measured["epoch_seconds"][1:]
    return measured["images"] * len(later) / sum(later)


def write_images(task: Task) -> None:
    """The samples that bnbench will train and test on, for the rivals."""
    import torch

    from bnbench.base.seeding import generator
    from bnbench.data.batches import steps_per_epoch
    from bnbench.engine.library import Library

    settings = load(task, ()).cells[0].settings
    dataset = Library(task.data_dir, torch.device("cpu")).dataset(settings)
    total = len(dataset.train_targets)
    order = torch.randperm(total, generator=generator(0, "split"))
    train = order[round(total * 0.1) :][: task.samples].sort().values
    assert steps_per_epoch(len(train), BATCH_SIZE) * BATCH_SIZE == len(train)
    np.savez(
        task.images,
        train_inputs=dataset.train_inputs[train].permute(0, 2, 3, 1).numpy(),
        train_targets=dataset.train_targets[train].numpy(),
        test_inputs=dataset.test_inputs.permute(0, 2, 3, 1).numpy(),
        test_targets=dataset.test_targets.numpy(),
    )


def main() -> int:
    args = _arguments()
    cores = use_cores(args.cores)
    facts = machine(cores, ("torch", "torchvision", "numpy"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        task = Task(_dataset(args), args.data_dir, folder / "images.npz", args.samples, args.epochs)
        try:
            write_images(task)
        except BnbenchError as error:
            sys.exit(str(error))
        missing = {name: why for name in args.only if (why := unavailable(CONTENDERS[name], task))}

        def one(name: str, number: int) -> dict[str, Any]:
            start = time.perf_counter()
            measured = measure(CONTENDERS[name], task, folder / f"{name}-{number}")
            return measured | {"rate": rate(measured), "process_seconds": time.perf_counter() - start}

        rounds, failures = play([name for name in args.only if name not in missing], args.rounds, one)
    result = {
        "workload": "B",
        "machine": facts,
        "samples": args.samples,
        "epochs": args.epochs,
        "rounds_wanted": args.rounds,
        "tolerance": args.tolerance,
        "rounds": rounds,
        "not_available": missing,
        "failures": failures,
        "disagreements": disagreements(_accuracies(rounds), args.tolerance),
    }
    print(describe(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    return int(bool(failures or result["disagreements"]))


def describe(result: dict[str, Any]) -> str:
    """The table, and what is missing or went wrong."""
    rounds, facts = result["rounds"], result["machine"]
    rates = by_round(rounds, lambda one: one["rate"])
    first = by_round(rounds, lambda one: one["epoch_seconds"][0])
    whole = by_round(rounds, lambda one: one["process_seconds"])
    accuracies = _accuracies(rounds)
    rows = []
    for name in (name for name in CONTENDERS if name in rates):
        spread = Spread.of(rates[name].values())
        to_tutorial = ratios(rates[name], rates.get("tutorial", {}))
        to_floor = ratios(_fastest(rates, CONTENDERS[name].floors), rates[name])
        accuracy = accuracies.get(name)
        rows.append(
            [
                f"{CONTENDERS[name].title} ({name})",
                *(f"{value:.0f}" for value in (spread.middle, spread.least, spread.most)),
                to_tutorial.text(2) if to_tutorial else "",
                to_floor.text(2) if to_floor else "",
                *(f"{Spread.of(each[name].values()).middle:.1f}" for each in (first, whole)),
                f"{100 * accuracy['builtin']:.1f}" if accuracy else "",
            ]
        )
    header = ["contender", "images/s, median", "min", "max", "x tutorial [min-max]", "floor / this [min-max]"]
    done = len({one["round"] for one in rounds})
    lines = [
        f"Workload B: {result['samples']} images an epoch, {result['epochs']} epochs, {done} interleaved rounds, "
        f"{facts['cores']} cores, {facts['processor']}",
        table([*header, "first epoch, s", "process, s", "test %"], rows),
        *(f"not available: {name}: {why}" for name, why in result["not_available"].items()),
        *(f"FAILED: {name}: {why}" for name, why in result["failures"].items()),
        *(f"NOT THE SAME ACCURACY: {sentence}" for sentence in result["disagreements"]),
    ]
    if done < ENOUGH_ROUNDS:
        lines.insert(1, f"NOTE: {done} rounds; claims need {ENOUGH_ROUNDS}")
    return "\n".join(lines)


def _fastest(rates: dict[str, dict[int, float]], names: tuple[str, ...]) -> dict[int, float]:
    """The highest rate of each round among these contenders."""
    measured = [(round_, rate) for name in names for round_, rate in rates.get(name, {}).items()]
    return {round_: max(rate for other, rate in measured if other == round_) for round_, _ in measured}


def _accuracies(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The seeds are the same in every round, so the last round's stand for all. Floors learn nothing."""
    return {one["contender"]: {"builtin": one["test_accuracy"]} for one in rounds if "test_accuracy" in one}


def _dataset(args: argparse.Namespace) -> str:
    if args.imagefolder:
        return f"dataset={{name: imagefolder, path: {args.imagefolder.absolute()}}}"
    return "dataset=cifar10"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="holds cifar-10-batches-py, or only caches"
    )
    parser.add_argument("--imagefolder", type=Path, help="32x32 images in train/CLASS and test/CLASS instead")
    parser.add_argument("--rounds", type=int, default=ENOUGH_ROUNDS)
    parser.add_argument("--epochs", type=int, default=3, help="from 2: the first warms up")
    parser.add_argument(
        "--samples", type=int, default=78 * BATCH_SIZE, help="training images, a multiple of 128"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CONTENDERS))
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of test accuracies, 0..1")
    parser.add_argument("--json", type=json_file, metavar="FILE")
    args = parser.parse_args()
    if unknown := set(args.only) - set(CONTENDERS):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(CONTENDERS)}")
    if args.samples < 1 or args.samples % BATCH_SIZE:
        parser.error(f"--samples: a multiple of {BATCH_SIZE}, so that every batch is full")
    if min(args.rounds, args.cores) < 1:
        parser.error("rounds and cores are numbers from 1")
    if args.epochs < 2:
        parser.error("--epochs: from 2, as the first warms up")
    return args


if __name__ == "__main__":
    sys.exit(main())
