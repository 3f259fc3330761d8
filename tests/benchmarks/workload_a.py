"""Workload A: fifteen trainings of a small MLP on MNIST, whole processes, against the ways that people have.

usage: python tests/benchmarks/workload_a.py --data-dir DIR [--rounds 5] [--only NAME,...] [--json FILE]

784-64-norm-ReLU-10, batches of 32, Adam 1e-3, 5 epochs of 1,688 steps; variants none, hand-written batch norm and
built-in batch norm; 5 seeds; validation part and training probe after every epoch, test set at the end. Each
contender is one process (rivals/*.py; bnbench: the command line with everything that it writes), timed from
its start to its end. Rounds are interleaved, and each starts with another contender. Fails (exit code 1) where a
contender fails, does another number of steps, or reaches another accuracy than the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import (
    ENOUGH_ROUNDS,
    Spread,
    by_round,
    disagreements,
    extrapolated,
    machine,
    mean_accuracies,
    ratios,
    table,
    use_cores,
)
from processes import RIVALS, Failed, json_file, play, run

FULL_SEEDS, FULL_EPOCHS, STEPS_PER_EPOCH = 5, 5, 1688
VARIANTS = ("none", "custom", "builtin")
#: Between means of test accuracy after the full 5 epochs on 5 seeds (a seed's standard deviation: 0.001),
#: and where there are fewer of either, when means scatter more.
TOLERANCE, SHRUNK_TOLERANCE = 0.004, 0.012
PACKAGES = ("torch", "torchvision", "keras", "jax", "tensorflow", "tensorflow-cpu", "lightning", "numpy")
OURS = "bnbench"


@dataclass(frozen=True)
class Task:
    """What a contender is to train. folder: a fresh one, for its files."""

    data_dir: Path
    split: Path
    folder: Path
    seeds: int
    epochs: int


@dataclass(frozen=True)
class Contender:
    """A command that trains a task; slow: --slow-seeds holds for it; asked: only when --only names it."""

    title: str
    command: Callable[[Task], list[str]]
    environment: tuple[tuple[str, str], ...] = ()
    slow: bool = False
    asked: bool = False


def rival(script: str, *options: str) -> Callable[[Task], list[str]]:
    """The command of a script in rivals/."""

    def command(task: Task) -> list[str]:
        files = ["--data-dir", str(task.data_dir), "--split", str(task.split)]
        return [
            str(RIVALS / script),
            *files,
            "--seeds",
            str(task.seeds),
            "--epochs",
            str(task.epochs),
            *options,
        ]

    return command


def bnbench(task: Task) -> list[str]:
    """`bnbench compare mnist_mlp`, as a user types it."""
    where = ["--data-dir", str(task.data_dir), "--output", str(task.folder)]
    return ["-m", "bnbench", "compare", "mnist_mlp", f"seeds={task.seeds}", f"epochs={task.epochs}", *where]


QUIET_TF = ("TF_CPP_MIN_LOG_LEVEL", "3")
CONTENDERS = {
    OURS: Contender("bnbench compare mnist_mlp", bnbench),
    "jax_scan": Contender("hand-written JAX, scan + vmap (expert)", rival("jax_scan.py")),
    "keras_jax": Contender("Keras on JAX", rival("keras_fit.py"), (("KERAS_BACKEND", "jax"),)),
    "memory": Contender("PyTorch, in memory, fused Adam", rival("torch_memory.py")),
    "memory_1_thread": Contender(
        "the same, 1 thread", rival("torch_memory.py", "--threads", "1"), asked=True
    ),
    "keras_tf": Contender(
        "Keras on TensorFlow", rival("keras_fit.py"), (("KERAS_BACKEND", "tensorflow"), QUIET_TF), slow=True
    ),
    "lightning": Contender("Lightning, tuned, no progress bar", rival("lightning_fit.py"), slow=True),
    "lightning_defaults": Contender(
        "Lightning as it comes", rival("lightning_fit.py", "--defaults"), slow=True, asked=True
    ),
    "tutorial": Contender("PyTorch tutorial loop", rival("torch_tutorial.py"), slow=True),
}


def write_split(path: Path) -> None:
    """bnbench's own split of MNIST, for the rivals."""
    import torch

    from bnbench.base.seeding import generator
    from bnbench.data.prepared import PROBE_SIZE

    order = torch.randperm(60_000, generator=generator(0, "split"))
    val, train = order[:6_000].sort().values, order[6_000:].sort().values
    probe = torch.randperm(len(train), generator=generator(0, "probe"))[:PROBE_SIZE].sort().values
    np.savez(path, train=train.numpy(), val=val.numpy(), probe=train[probe].numpy())


def measure(name: str, task: Task) -> dict[str, Any]:
    """One contender once: its seconds and its runs. Raises Failed, also where it trained something else."""
    contender = CONTENDERS[name]
    done = run(contender.command(task), dict(contender.environment))
    runs = _bnbench_runs(task.folder) if name == OURS else json.loads(done.stdout.splitlines()[-1])["runs"]
    wanted = {(variant, seed) for variant in VARIANTS for seed in range(task.seeds)}
    if {(each["variant"], each["seed"]) for each in runs} != wanted or len(runs) != len(wanted):
        raise Failed(f"it trained {len(runs)} runs, not the {len(wanted)} that were asked for")
    if {each["steps"] for each in runs} != {task.epochs * STEPS_PER_EPOCH}:
        raise Failed(f"steps {sorted({each['steps'] for each in runs})}, not {task.epochs * STEPS_PER_EPOCH}")
    if {len(each["val_accuracy"]) for each in runs} != {task.epochs}:
        raise Failed("it did not evaluate once an epoch")
    return {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "runs": runs}


def _bnbench_runs(folder: Path) -> list[dict[str, Any]]:
    """What the results folder says, in the rivals' form; step 0 is evaluated too, and left out here."""
    assert (folder / "report.html").is_file()
    summary = json.loads((folder / "summary.json").read_text())
    from bnbench.results import ResultsFolder

    histories = {
        (cell.variant, record.seed): [row.metrics["val_accuracy"] for row in record.history if row.step]
        for cell in ResultsFolder(folder).load().cells
        for record in cell.records
    }
    return [
        {
            "variant": variant["name"],
            "seed": each["seed"],
            "seconds": each["seconds"],
            "steps": each["steps"],
            "val_accuracy": histories[variant["name"], each["seed"]],
            "test_accuracy": each["final"]["test_accuracy"],
        }
        for variant in summary["variants"]
        for each in variant["runs"]
    ]


def main() -> int:
    args = _arguments()
    names = args.only or [name for name, contender in CONTENDERS.items() if not contender.asked]
    cores = use_cores(args.cores)
    facts = machine(cores, PACKAGES)
    with tempfile.TemporaryDirectory() as scratch:
        split = Path(scratch) / "split.npz"
        write_split(split)

        def one(name: str, number: int) -> dict[str, Any]:
            seeds = min(args.seeds, args.slow_seeds) if CONTENDERS[name].slow else args.seeds
            folder = Path(scratch) / f"{name}-{number}"
            measured = measure(name, Task(args.data_dir, split, folder, seeds, args.epochs))
            whole = None
            if seeds < args.seeds:
                whole = extrapolated(measured["seconds"], measured["runs"], args.seeds)
            return {"seeds": seeds, "extrapolated_seconds": whole, **measured}

        rounds, failures = play(names, args.rounds, one)
    apart = disagreements(_accuracies(rounds), args.tolerance)
    result = {
        "workload": "A",
        "machine": facts,
        "seeds": args.seeds,
        "epochs": args.epochs,
        "rounds_wanted": args.rounds,
        "shrunk": _shrunk(args),
        "tolerance": args.tolerance,
        "rounds": rounds,
        "failures": failures,
        "disagreements": apart,
    }
    print(describe(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    return int(bool(failures or apart))


def describe(result: dict[str, Any]) -> str:
    """The table, what was shrunk, and what went wrong."""
    rounds, facts = result["rounds"], result["machine"]
    seconds = by_round(rounds, lambda one: one["extrapolated_seconds"] or one["seconds"])
    measured = by_round(rounds, lambda one: one["seconds"])
    accuracies = _accuracies(rounds)
    rows = []
    for name in sorted(seconds, key=lambda name: Spread.of(seconds[name].values()).middle):
        trained = {one["seeds"] for one in rounds if one["contender"] == name}.pop()
        spread, ratio = Spread.of(seconds[name].values()), ratios(seconds[name], seconds.get(OURS, {}))
        note = f"{len(VARIANTS) * trained}"
        if trained < result["seeds"]:
            note += f" (whole process {Spread.of(measured[name].values()).text(1, ' s')})"
        rows.append(
            [
                f"{CONTENDERS[name].title} ({name})",
                note,
                f"{'~' if trained < result['seeds'] else ''}{spread.middle:.1f}",
                f"{spread.least:.1f}",
                f"{spread.most:.1f}",
                ratio.text(2) if ratio else "",
                *(f"{100 * accuracies[name][variant]:.2f}" for variant in VARIANTS),
            ]
        )
    header = ["contender", "runs trained", "s, median", "min", "max", f"x {OURS} [min-max]"]
    total = len(VARIANTS) * result["seeds"]
    lines = [
        f"Workload A: {total} trainings of {result['epochs']} epochs, seconds of the whole process, "
        f"{len({one['round'] for one in rounds})} interleaved rounds, {facts['cores']} cores, {facts['processor']}",
        *(f"NOTE: {note}" for note in result["shrunk"]),
        table([*header, *(f"test % {variant}" for variant in VARIANTS)], rows),
        *(f"FAILED: {name}: {why}" for name, why in result["failures"].items()),
        *(f"NOT THE SAME ACCURACY: {sentence}" for sentence in result["disagreements"]),
    ]
    if any(one["extrapolated_seconds"] for one in rounds):
        lines.append(
            f"~: extrapolated from the runs trained to {total}: start-up once, every missing run at the mean of its "
            "variant's measured ones."
        )
    return "\n".join(lines)


def _shrunk(args: argparse.Namespace) -> list[str]:
    notes = []
    if (args.seeds, args.epochs) != (FULL_SEEDS, FULL_EPOCHS):
        notes.append(
            f"shrunk to {args.seeds} seeds and {args.epochs} epochs ({FULL_SEEDS} and {FULL_EPOCHS} are the workload): "
            "start-up and compilation weigh more than in the workload, so these ratios are not its ratios"
        )
    if args.slow_seeds < args.seeds:
        notes.append(
            f"slow contenders train {args.slow_seeds} of {args.seeds} seeds, and are extrapolated (~)"
        )
    if args.rounds < ENOUGH_ROUNDS:
        notes.append(f"{args.rounds} rounds; claims need {ENOUGH_ROUNDS}")
    return notes


def _accuracies(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for one in rounds:
        runs.setdefault(one["contender"], []).extend(one["runs"])
    return {name: mean_accuracies(each) for name, each in runs.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = "; ".join(f"{name}: {each.title}" for name, each in CONTENDERS.items())
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="holds MNIST/raw, as torchvision lays it out"
    )
    parser.add_argument("--rounds", type=int, default=ENOUGH_ROUNDS)
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"contenders, by commas. {listed}")
    parser.add_argument("--seeds", type=int, default=FULL_SEEDS, help="shrink the workload")
    parser.add_argument("--epochs", type=int, default=FULL_EPOCHS, help="shrink the workload")
    parser.add_argument("--slow-seeds", type=int, default=FULL_SEEDS, help="seeds of the slow contenders")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--tolerance", type=float, help="of mean test accuracies, 0..1")
    parser.add_argument("--json", type=json_file, metavar="FILE")
    args = parser.parse_args()
    unknown = sorted(set(args.only or ()) - set(CONTENDERS))
    if unknown:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    if min(args.rounds, args.seeds, args.epochs, args.slow_seeds, args.cores) < 1:
        parser.error("rounds, seeds, epochs and cores are numbers from 1")
    if not (args.data_dir / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        parser.error(f"--data-dir: no MNIST/raw/train-images-idx3-ubyte in {args.data_dir}")
    if args.tolerance is None:
        shrunk = min(args.seeds, args.slow_seeds) < FULL_SEEDS or args.epochs < FULL_EPOCHS
        args.tolerance = SHRUNK_TOLERANCE if shrunk else TOLERANCE
    return args


if __name__ == "__main__":
    sys.exit(main())
