"""Fuzz: mutated studies through `check`, and those that it accepts through `compare`, in one process.

    python tests/benchmarks/fuzz_studies.py --studies 10000 --compare 500 --seed 0

Prints how many were accepted and refused, and every traceback, exit code or delay that should not be. It may be
run in parts: --seed chooses the studies, one number each, from seed to seed + studies.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from typer.testing import CliRunner

#: A study that is checked for longer hangs.
SLOW_SECONDS = 10.0

KEYS = """dataset model norm optimizer schedule loss framework normalize batch_size last_batch epochs clip_norm
augment evaluate_every init validation max_train_samples precision engine seeds variants baseline target
primary margin sweep vary metrics name description norm.eps norm.momentum optimizer.lr optimizer.momentum
schedule.warmup_epochs schedule.milestones model.hidden model.hidden.0 init.scale init.name
validation.fraction validation.by loss.label_smoothing norm.ghost_size x-mine << variants.none
train clip clip.name clip.ratio batches batches.classes optimizer.groups optimizer.groups.gamma
optimizer.groups.beta.lr_factor optimizer.groups.biases.weight_decay variants.batch.train
variants.batch.norm.eps sweep.optimizer.lr target.value target.0.metric seeds.max role check_of""".split()
WORDS = """digits mlp cnn sgd adam none batch layer ghost no off null ~ true false yes auto step cosine constant he
epoch standard unit keep drop 0 1 2 3 -1 0.1 1e-3 1e3 1_0 .inf -.inf .nan 1e999 010 0x10 2024-01-01 '' ""
'x' [] {} [1] [0.1,1] [1,1.0] [none,batch] {none,batch} {none:,bathc:} {a:{norm:batch},b:{norm:batch}}
{name:sgd,lr:0.1} {name:batch,eps:1} {name:step,milestones:[1,2]} {auto:true,max:20}
{metric:val_accuracy,value:0.5} {metric:val_loss,value:match_baseline} {optimizer.lr:[0.1,1]}
{batch_size:[32,64],optimizer.lr:0.1*batch_size/128} [{epochs:1},{epochs:2}] {norm.ghost_size:[8,16]}
!!int&x !!bool&maybe !!timestamp&foo !!binary&x !!python/name:os.system !!set&{none,batch} !!str&5
&a&[*a] *nobody "\\0" "\\ud800" "\\e[31m" 9223372036854775808 -9223372036854775809
[[[[[[[[[[[[[[[[[[[[[[[[[1 test_accuracy val_loss größe a/b .. con ../x ~/x /dev/null [init,order]
norm head all agc {name:agc,ratio:0.1} {classes:2} {gamma:{lr_factor:0.1}} {weights:{weight_decay:0}}
[split] 1e1 10001 [0,0] [0,-1] [9223372036854775807] bf16 compiled keras torch""".split()
SOUND = {
    "dataset": "digits",
    "model": "{name: mlp, hidden: [4]}",
    "optimizer": "{name: sgd, lr: 0.1}",
    "epochs": "1",
    "seeds": "1",
    "max_train_samples": "64",
    "variants": "{none: {norm: none}, batch: {norm: batch}}",
}


def mutated_study(draw: random.Random) -> bytes:
    """A small study, with a few lines changed, added or broken."""
    lines = dict(SOUND)
    for _ in range(draw.randint(0, 3)):
        lines[draw.choice(KEYS)] = _word(draw)
    if draw.random() < 0.2:
        del lines[draw.choice(list(lines))]
    shuffled = [f"{key}: {value}" for key, value in lines.items()]
    draw.shuffle(shuffled)
    text = "\n".join(shuffled).encode("utf-8", "surrogatepass") + b"\n"
    return _broken(draw, text) if draw.random() < 0.3 else text


def mutated_words(draw: random.Random) -> list[str]:
    """None to three overrides."""
    return [f"{draw.choice(KEYS)}={_word(draw)}" for _ in range(draw.choice([0, 0, 1, 2, 3]))]


def _word(draw: random.Random) -> str:
    word = draw.choice(WORDS).replace("&", " ")
    if word == " a [*a]":
        word = "&a [*a]"
    return word.replace(":", ": ").replace(",", ", ") if word[:1] in "{[" else word


def _broken(draw: random.Random, text: bytes) -> bytes:
    """One to four bytes lost, doubled or changed."""
    data = bytearray(text)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data))
        match draw.randrange(4):
            case 0:
                del data[at]
            case 1:
                data[at] = draw.randrange(256)
            case 2:
                data[at:at] = draw.choice(
                    [b"\t", b"\n", b": ", b"- ", b"&a ", b"*a", b"<<: ", b"'", b'"', b"{", b"["]
                )
            case _:
                data[at:at] = data[at : at + draw.randint(1, 20)]
        data = data or bytearray(b"\n")
    return bytes(data)


def main() -> int:
    """Print the figures; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--compare", type=int, default=500, help="so many of the accepted ones")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    codes: Counter[str] = Counter()
    faults: list[str] = []
    slowest, compared = 0.0, 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seed, args.seed + args.studies):
            draw = random.Random(seed)
            path = Path(folder) / "study.yaml"
            path.write_bytes(mutated_study(draw))
            words = mutated_words(draw)
            code, seconds = _run(["check", str(path), *words], seed, faults)
            slowest = max(slowest, seconds)
            codes[f"check: exit code {code}"] += 1
            if code == 0 and compared < args.compare:
                compared += 1
                output = Path(folder) / str(seed)
                code, _ = _run(["compare", str(path), *words, "-q", "-o", str(output)], seed, faults)
                again, _ = _run(["report", str(output), "--format", "json"], seed, faults)
                codes[f"compare: exit code {code}, report: {again}"] += 1
    for what, number in sorted(codes.items()):
        print(f"{what}: {number:,}")
    print(f"slowest check: {slowest:.2f} s; all together: {time.perf_counter() - start:.0f} s")
    print(f"faults: {len(faults)}")
    print("\n".join(faults))
    return bool(faults)


def _run(words: list[str], seed: int, faults: list[str]) -> tuple[int, float]:
    from bnbench.cli.app import app

    start = time.perf_counter()
    result = CliRunner().invoke(app, words)
    seconds = time.perf_counter() - start
    error = result.exception
    shown = f"seed {seed}: {' '.join(words)}"
    if error and not isinstance(error, SystemExit):
        trace = "".join(traceback.format_exception(error))
        faults.append(f"{shown}: {trace}")
    elif result.exit_code not in (0, 1, 2, 3) or "Traceback" in result.output:
        faults.append(f"{shown}: exit code {result.exit_code}: {result.output[-500:]}")
    elif words[0] == "check" and seconds > SLOW_SECONDS:
        faults.append(f"{shown}: {seconds:.1f} s")
    return result.exit_code, seconds


if __name__ == "__main__":
    sys.exit(main())
