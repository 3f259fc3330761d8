"""The fold traps through bnbench and through torch's own functions: who is right, silently wrong, or misses a fold.

    python tests/benchmarks/fold_rivals.py            # prints the table of docs/fold.md
    python tests/benchmarks/fold_rivals.py --write    # writes it there

Each contender gets the same network. Its result is compared with the network as it was, in the network's own type made
float64 (the float16 trap stays float16), on inputs that no contender saw.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

import bnbench
from bnbench.network.fold.checks import difference
from bnbench.network.fold.precision import InFloat64
from tests.network.fold_traps import TRAPS, Trap

DOCUMENT = Path(__file__).parents[2] / "docs" / "fold.md"
START, END = "<!-- python tests/benchmarks/fold_rivals.py --write -->", "<!-- end of the traps -->"
RIGHT, WRONG, MISSED, RAISED = "right", "**silently wrong**", "exact fold missed", "exception"
Contender = Callable[[Trap, nn.Module], nn.Module]


def with_bnbench(trap: Trap, model: nn.Module) -> nn.Module:
    """`bnbench.fold`; a failed proof counts as an exception."""
    dtype = next(model.parameters()).dtype
    folding = bnbench.fold(model, inputs=lambda n: inputs_of(trap, n, 1).to(dtype))
    if not folding.passed:
        raise RuntimeError("a proof fails")
    return folding.model


def with_fx(trap: Trap, model: nn.Module) -> nn.Module:
    """`torch.fx.experimental.optimization.fuse`, which finds the pairs itself."""
    from torch.fx.experimental.optimization import fuse

    return fuse(model)


def by_hand(trap: Trap, model: nn.Module) -> nn.Module:
    """`fuse_conv_bn_eval` or `fuse_linear_bn_eval` on the pair that stands there, as their documentation has it."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    first, second = (model.get_submodule(name) for name in trap.pair)
    if not hasattr(second, "running_var"):  # the functions take a layer before a batch norm, and nothing else
        return model
    fuse: Any = fuse_linear_bn_eval if isinstance(first, nn.Linear) else fuse_conv_bn_eval
    _put(model, trap.pair[0], fuse(first, second))
    _put(model, trap.pair[1], nn.Identity())
    return model


CONTENDERS: dict[str, Contender] = {
    "`bnbench.fold`": with_bnbench,
    "`torch.fx` `fuse`": with_fx,
    "`torch.nn.utils.fusion`": by_hand,
}


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, key = name.rpartition(".")
    model.get_submodule(owner)._modules[key] = module


def inputs_of(trap: Trap, samples: int, seed: int) -> torch.Tensor:
    """The same inputs for everybody."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(samples, *trap.shape, generator=draw, dtype=torch.float64)


def judge(trap: Trap, contender: Contender) -> tuple[str, str]:
    """What a contender did with a trap, and by how much it is wrong."""
    model = trap.build()
    if any(
        map(torch.nn.parameter.is_lazy, model.parameters())
    ):  # no contender but bnbench takes it before a call
        model(inputs_of(trap, 2, 1).float())
    half = next(model.parameters()).dtype == torch.float16
    model = model if half else model.double()
    x = (3 * inputs_of(trap, 3, 9) + 1).to(next(model.parameters()).dtype)
    with torch.no_grad(), InFloat64() if not half else torch.no_grad():
        torch.manual_seed(0)  # a dropout that works in inference draws the same for everybody
        truth = deepcopy(model)(x).double()
    try:
        fused = contender(trap, deepcopy(model))
        with torch.no_grad(), InFloat64() if not half else torch.no_grad():
            torch.manual_seed(0)
            output = fused(x).double()
    except Exception as error:
        return RAISED, type(error).__name__
    gap = difference([truth], [output])
    if gap > (1e-2 if half else 1e-9):
        return WRONG, f"{gap:.0e}" if gap < 0.05 else f"{gap:.1g}"
    wanted = [name for name, expected in trap.expected.items() if expected.action == "folded"]
    missed = [name for name in wanted if not _is_folded(fused, name)]
    return (MISSED, "") if missed else (RIGHT, "")


def _is_folded(model: nn.Module, name: str) -> bool:
    module = dict(model.named_modules()).get(name)
    if module is None or not hasattr(module, "weight") or module.weight is None:
        return not hasattr(module, "running_var")
    offset = getattr(module, "offset", 0.0)
    return not hasattr(module, "running_var") and bool((module.weight + offset == 1).all())


def table() -> list[str]:
    """Lines of Markdown: a row a trap, and the sums."""
    rows = []
    counts: dict[str, Counter[str]] = {name: Counter() for name in CONTENDERS}
    for name, trap in TRAPS.items():
        cells = []
        for contender, run in CONTENDERS.items():
            verdict, more = judge(trap, run)
            counts[contender][verdict] += 1
            cells.append(f"{verdict} ({more})" if more else verdict)
        rows.append(f"| {name.replace('_', ' ')} | {_expected(trap)} | {' | '.join(cells)} |")
    kinds = (RIGHT, MISSED, WRONG, RAISED)
    sums = [f"| {kind} | | {' | '.join(str(counts[c][kind]) for c in CONTENDERS)} |" for kind in kinds]
    head = f"| trap | what is right | {' | '.join(CONTENDERS)} |"
    return [head, "| --- | --- | --- | --- | --- |", *rows, f"| **all {len(TRAPS)}** | | | | |", *sums]


def _expected(trap: Trap) -> str:
    found = [f"{e.action} {e.side}".strip() for e in trap.expected.values()]
    return ", ".join(dict.fromkeys(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = "\n".join(table())
    if not arguments.write:
        print(lines)
        return
    text = DOCUMENT.read_text()
    start, end = text.index(START) + len(START), text.index(END)
    DOCUMENT.write_text(f"{text[:start]}\n{lines}\n{text[end:]}")


if __name__ == "__main__":
    main()
