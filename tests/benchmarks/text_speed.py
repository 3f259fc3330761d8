"""`char_lm`, five seeds, whole commands on two cores: bnbench against a plain PyTorch loop in two one-thread processes.

usage: python tests/benchmarks/text_speed.py [--rounds 5] [--json FILE] [key=value ...]
       python tests/benchmarks/text_speed.py --sizes [--json FILE]

The first form times whole processes from start to end: `bnbench compare char_lm` with all that it writes, and
rivals/char_lm_loop.py twice, side by side, each with half of the runs. The same text, variants, seeds, model sizes,
steps, batches and learning rates; the same evaluations but those before the first step. Fails (exit code 1) where the
two come to other bits per character. The second form times a step of one run, of the network without bnbench's engine,
of the engine's sequential step, and of stacks of 1 to 5 seeds, at several sizes, two such processes at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from measuring import Spread, by_round, disagreements, machine, ratios, table, use_cores
from processes import RIVALS, ROOT, Failed, json_file, play, run

sys.path.insert(0, str(ROOT))

STUDY, OURS, LOOP = "char_lm", "bnbench", "plain loop, 2 processes"
#: Between mean bits per character of a variant: the two draw other weights and other windows.
TOLERANCE = 0.12
#: Width, heads, window, batch; all of two blocks.
SIZES = [
    (32, 2, 32, 8),
    (32, 2, 32, 16),
    (32, 2, 64, 16),
    (64, 4, 32, 8),
    (64, 4, 32, 16),
    (64, 4, 64, 16),
    (64, 4, 64, 32),
    (128, 4, 64, 16),
    (128, 4, 128, 32),
]
STACKS = (1, 2, 3, 5)
#: Characters of the English text that every Python carries.
TOKENS = 104
#: Rounds of a timing, of which the median counts, and the seconds of each.
TIMINGS, SECONDS = 7, 0.1


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--sizes", action="store_true", help="a table of sizes in place of the study")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=json_file)
    parser.add_argument("overrides", nargs="*", help="key=value, for the study")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(timings(*json.loads(options.one))))
        return 0
    cores = use_cores(options.cores)
    found, failed = by_size() if options.sizes else whole_commands(options)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(cores, ("torch", "numpy")), **found}, indent=1)
        )
    return int(failed)


def whole_commands(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Interleaved rounds of both contenders, their table, and whether they fail or differ."""
    with tempfile.TemporaryDirectory() as folder:
        task = written_task(Path(folder), options.overrides)

        def measure(name: str, number: int) -> dict[str, Any]:
            if name == LOOP:
                return two_loops(Path(folder) / "task.json")
            return command(Path(folder) / f"round{number}", options.overrides)

        rounds, failures = play((OURS, LOOP), options.rounds, measure)
    seconds = by_round(rounds, lambda one: float(one["seconds"]))
    header = ["contender", "s, median [min-max]", "x bnbench", *task["variants"]]
    bits = {name: _means(rounds, name, task["variants"]) for name in seconds}
    rows = []
    for name, of_rounds in seconds.items():
        ratio = ratios(of_rounds, seconds[OURS]) if OURS in seconds else None
        values = [f"{bits[name][variant]:.3f}" for variant in task["variants"]]
        spread = Spread.of(of_rounds.values())
        rows.append([name, spread.text(1), ratio.text(2) if ratio else "", *values])
    print(table(header, rows))
    steady = _steady(rounds, task["variants"])
    of_steady = {name: {variant: values[variant] for variant in steady} for name, values in bits.items()}
    wrong = [*failures.values(), *disagreements(of_steady, TOLERANCE)]
    for text in wrong:
        print(text, file=sys.stderr)
    return {"task": task, "rounds": rounds, "failures": failures}, bool(wrong)


def written_task(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What the study asks for, as plain values, and its text as tokens, for the rival to read."""
    import torch

    from bnbench.api.plugins import _vocabulary
    from bnbench.data.tensors import base_of
    from bnbench.engine.library import Library
    from bnbench.study import load_study

    study = load_study(ROOT / "configs" / f"{STUDY}.yaml", overrides, _vocabulary())
    settings = next(iter(study.variants.values()))
    data = Library(folder, torch.device("cpu")).prepared(settings)
    train = base_of(data.train_inputs)
    assert train is not None
    val, test = (
        _windows(inputs, targets)
        for inputs, targets in ((data.val_inputs, data.val_targets), (data.test_inputs, data.test_targets))
    )
    np.savez(folder / "texts.npz", train=train.numpy(), val=val, test=test)
    model, optimizer = settings.model.options, settings.optimizer.options
    epoch = len(data.train_targets) / settings.batch_size
    task = {
        "texts": str(folder / "texts.npz"),
        "tokens": data.sizes.num_outputs,
        "window": data.sizes.input_shape[0],
        **{key: model[key] for key in ("width", "heads", "depth")},
        "lr": optimizer["lr"],
        "weight_decay": optimizer.get("weight_decay", 0.01),
        "warm_up": max(1, round(settings.schedule.options.get("warmup_epochs", 0) * epoch)),
        **{key: getattr(settings, key) for key in ("batch_size", "steps", "evaluate_every")},
        "seeds": len(study.seeds),
        "variants": {
            name: {
                "norm": of.norm.name,
                "options": {key: value for key, value in of.norm.options.items() if key == "alpha"},
                "position": of.model.options.get("norm_position", "pre"),
            }
            for name, of in study.variants.items()
        },
    }
    (folder / "task.json").write_text(json.dumps(task))
    return task


def _windows(inputs: Any, targets: Any) -> Any:
    """(N, T + 1): each window with the token after it. They are not in the order of the text."""
    return np.concatenate([inputs.numpy(), targets.numpy()[:, -1:]], 1)


def command(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """`bnbench compare char_lm`, from start to end."""
    done = run(["-m", "bnbench", "compare", STUDY, *overrides, "--output", str(folder), "--quiet"])
    runs = [json.loads(path.read_text()) for path in sorted((folder / "runs").rglob("*.json"))]
    found = [
        {"variant": one["variant"], "test": one["final"]["test_bits_per_character"], "steps": one["steps"]}
        for one in runs
        if "final" in one
    ]
    return {"seconds": done.seconds, "runs": found}


def two_loops(task: Path) -> dict[str, Any]:
    """The rival twice, side by side. Raises Failed."""
    start = time.perf_counter()
    words = [sys.executable, str(RIVALS / "char_lm_loop.py"), "--task", str(task), "--share"]
    loops = [subprocess.Popen([*words, str(share)], stdout=subprocess.PIPE, text=True) for share in (0, 1)]
    told = [loop.communicate()[0] for loop in loops]
    seconds = time.perf_counter() - start
    if any(loop.returncode for loop in loops):
        raise Failed(f"exit codes {[loop.returncode for loop in loops]}")
    return {"seconds": seconds, "runs": [one for text in told for one in json.loads(text)["runs"]]}


def _means(rounds: Sequence[dict[str, Any]], name: str, variants: Sequence[str]) -> dict[str, float]:
    """Of test bits per character of each variant, over seeds and rounds."""
    runs = [one for of in rounds if of["contender"] == name for one in of["runs"]]
    return {variant: mean(one["test"] for one in runs if one["variant"] == variant) for variant in variants}


def _steady(rounds: Sequence[dict[str, Any]], variants: Sequence[str]) -> list[str]:
    """Variants whose seeds scatter little enough that means of a few of them can be compared."""
    runs = [one for of in rounds for one in of["runs"]]
    bits = {variant: [one["test"] for one in runs if one["variant"] == variant] for variant in variants}
    return [variant for variant, values in bits.items() if len(values) > 1 and stdev(values) < TOLERANCE]


def by_size() -> tuple[dict[str, Any], bool]:
    """The table of sizes: two processes at a time, so that both cores are as busy as in a study."""
    names = ["plain loop", "sequential", *[f"stack of {count}" for count in STACKS], "auto"]
    rows, kept = [], []
    for size in SIZES:
        words = [sys.executable, str(Path(__file__)), "--one", json.dumps(size)]
        pair = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [json.loads(one.communicate()[0]) for one in pair]
        both = {name: told[0][name] if name == "auto" else mean(one[name] for one in told) for name in names}
        kept.append({"size": size, **both})
        width, heads, window, batch = size
        shown = [both[name] if name == "auto" else f"{both[name] * 1e3:.2f}" for name in names]
        rows.append([f"{width}, {heads} heads", str(window), str(batch), *shown])
        print(f"{size}: {both}", file=sys.stderr, flush=True)
    print(table(["width", "window", "batch", *names], rows))
    return {"sizes": kept}, False


def timings(width: int, heads: int, window: int, batch: int) -> dict[str, Any]:
    """Seconds of a step, for each run, by each way, interleaved; and what the engine chooses."""
    import torch

    from bnbench.api.plugins import _vocabulary
    from bnbench.engine.memory import keep_freed_memory
    from bnbench.study import load_study

    keep_freed_memory()
    torch.set_num_threads(1)
    model = {"model.width": width, "model.heads": heads}
    changes = {"dataset.window": window, "batch_size": batch, **model}
    words = [f"{key}={value}" for key, value in changes.items()]
    study = load_study(ROOT / "configs" / f"{STUDY}.yaml", words, _vocabulary())
    settings = next(of for of in study.variants.values() if of.norm.name == "layer")
    ways, chosen = ways_of(settings, window)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TIMINGS + 1):
        for name, (step, count) in ways.items():
            start, steps = time.thread_time(), 0
            while (taken := time.thread_time() - start) < SECONDS or not steps:
                step()
                steps += 1
            seconds[name].append(taken / steps / count)
    return {name: median(values[1:]) for name, values in seconds.items()} | {"auto": chosen}


def ways_of(settings: Any, window: int) -> tuple[dict[str, tuple[Callable[[], object], int]], str]:
    """By name: what makes a step, and of how many runs; and the engine that is chosen where none is asked for."""
    import torch

    from bnbench.data import Sizes
    from bnbench.engine.backends.base import backend_of
    from bnbench.engine.build import build_model
    from bnbench.engine.steppers.sequential import Sequential
    from bnbench.engine.steppers.stacked import Stacked

    sizes = Sizes((window,), TOKENS, vocabulary=TOKENS, per_position=True)
    device, text = torch.device("cpu"), torch.randint(TOKENS, (100_000,)).unfold(0, window + 1, 1)

    def models(count: int) -> list[Any]:
        return [build_model(settings, sizes, seed) for seed in range(count)]

    def windows(count: int) -> tuple[Any, Any]:
        index = torch.randint(len(text), (count * settings.batch_size,))
        found = text[index].view(count, settings.batch_size, -1)
        return found[..., :-1].contiguous(), found[..., 1:].contiguous()

    plain = models(1)[0]
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3)

    def loop() -> None:
        inputs, targets = windows(1)
        loss = torch.nn.functional.cross_entropy(plain(inputs[0]).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def stepping(stepper: Any, count: int) -> Callable[[], object]:
        return lambda: stepper.step(*windows(count))

    chosen = backend_of(settings).choose(plain, settings, sizes, device)
    return {
        "plain loop": (loop, 1),
        "sequential": (stepping(Sequential(models(1)[0], settings, device), 1), 1),
        **{f"stack of {n}": (stepping(Stacked(models(n), settings), n), n) for n in STACKS},
    }, chosen.engine


if __name__ == "__main__":
    sys.exit(main())
