"""The hand-written batch norm against PyTorch's: time, memory kept for the backward, error against float64.

usage: python tests/benchmarks/layer.py [--repeats 20] [--shapes 32x64,64x256x8x8] [--no-compile] [--json FILE]

Forward and backward in training mode, float32. Layers: PyTorch's own; bnbench's fast and plain reading; each
eager and under torch.compile. The repeats are interleaved over the layers (each repeat times every layer
once, for as many calls as fill a few milliseconds), so a busy moment hits them all. Memory: bytes of the
distinct storages that autograd saves, parameters and buffers left out, over the bytes of the input. Errors:
the largest absolute difference of y and dx to the formula in float64, differentiated by autograd. Freed memory is
kept by the process for all of them, as where bnbench trains.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import Spread, machine, ratios, table, use_cores
from processes import json_file
from torch import Tensor, nn

from bnbench.engine.memory import keep_freed_memory
from bnbench.norms import batch_norm as ours

#: (shape, channels_last) of the issue.
CASES = [
    ((32, 64), False),
    ((256, 512), False),
    ((128, 64, 32, 32), False),
    ((128, 64, 32, 32), True),
    ((64, 256, 8, 8), False),
    ((64, 256, 8, 8), True),
]
#: A sample of time is at least so long: far above the clock's grain and a call's own noise.
SAMPLE_SECONDS = 0.005
EPS = 1e-5

Step = Callable[[], None]


def layers(shape: tuple[int, ...], compiled: bool) -> dict[str, nn.Module]:
    """The contenders for an input of that shape, all with the same gamma and beta."""
    torchs, mine = (
        (nn.BatchNorm1d, ours.BatchNorm1d) if len(shape) == 2 else (nn.BatchNorm2d, ours.BatchNorm2d)
    )
    width = shape[1]
    made: dict[str, nn.Module] = {
        "torch": torchs(width, eps=EPS),
        "fast": mine(width, eps=EPS, reading="fast"),
        "plain": mine(width, eps=EPS, reading="plain"),
    }
    draw = torch.Generator().manual_seed(1)
    gamma, beta = 0.5 + torch.rand(width, generator=draw), torch.randn(width, generator=draw)
    for layer in made.values():
        with torch.no_grad():
            layer.weight.copy_(gamma)
            layer.bias.copy_(beta)
    if compiled:
        for name in list(made):
            twin: Any = made[name].__class__(width, eps=EPS, **_reading(name))
            twin.load_state_dict(made[name].state_dict())
            made[f"{name}, compiled"] = torch.compile(twin, dynamic=False)  # type: ignore[assignment]
    return made


def _reading(name: str) -> dict[str, Any]:
    return {} if name == "torch" else {"reading": name}


def data(shape: tuple[int, ...], channels_last: bool) -> tuple[Tensor, Tensor]:
    """x, away from zero mean and unit variance, and the gradient of y."""
    draw = torch.Generator().manual_seed(0)
    x, dy = 3 + 2 * torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)
    if channels_last:
        x, dy = (tensor.to(memory_format=torch.channels_last) for tensor in (x, dy))
    return x, dy


def step(layer: nn.Module, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """y and dx of one forward and backward."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(dy)
    assert x.grad is not None
    return y.detach(), x.grad


def reference(layer: nn.Module, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """y and dx in float64, from the formula; autograd differentiates it."""
    x64 = x.detach().double().requires_grad_()
    axes = (0, *range(2, x.dim()))
    view = (1, -1, *[1] * (x.dim() - 2))
    mean = x64.mean(axes, keepdim=True)
    var = ((x64 - mean) ** 2).mean(axes, keepdim=True)
    y = layer.weight.detach().double().view(view) * (x64 - mean) / torch.sqrt(var + EPS)
    y = y + layer.bias.detach().double().view(view)
    y.backward(dy.double())
    assert x64.grad is not None
    return y.detach(), x64.grad


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps of one forward, each storage once, the layer's own state left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in layer.state_dict().values()}
    kept: dict[int, int] = {}
    alive = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x.detach().requires_grad_())
    y.sum().backward()
    return sum(kept.values())


def interleaved(steps: dict[str, Step], repeats: int) -> dict[str, dict[int, float]]:
    """Seconds of one call, by name and repeat; every repeat times each of them once."""
    calls = {}
    for name, one in steps.items():
        for _ in range(3):  # warm: caches, the allocator, compilation
            one()
        start = time.perf_counter()
        one()
        calls[name] = max(1, round(SAMPLE_SECONDS / (time.perf_counter() - start)))
    seconds: dict[str, dict[int, float]] = {name: {} for name in steps}
    for repeat in range(repeats):
        for name, one in steps.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                one()
            seconds[name][repeat] = (time.perf_counter() - start) / calls[name]
    return seconds


def measure(
    shape: tuple[int, ...], channels_last: bool, repeats: int, compiled: bool
) -> list[dict[str, Any]]:
    """One record a layer."""
    x, dy = data(shape, channels_last)
    contenders = layers(shape, compiled)
    y64, dx64 = reference(contenders["torch"], x, dy)

    def call(layer: nn.Module) -> Step:
        return lambda: step(layer, x, dy) and None

    seconds = interleaved({name: call(layer) for name, layer in contenders.items()}, repeats)
    records = []
    for name, layer in contenders.items():
        y, dx = step(layer, x, dy)
        records.append(
            {
                "shape": list(shape),
                "channels_last": channels_last,
                "layer": name,
                "seconds": vars(Spread.of(seconds[name].values())),
                "times_torch": vars(ratios(seconds[name], seconds["torch"])),
                "saved_over_input": saved_bytes(layer, x) / (x.numel() * x.element_size()),
                "error_y": float((y.double() - y64).abs().max()),
                "error_dx": float((dx.double() - dx64).abs().max()),
            }
        )
    return records


def describe(records: list[dict[str, Any]]) -> str:
    """The table."""
    rows = []
    for record in records:
        shape = "x".join(map(str, record["shape"])) + (" channels_last" if record["channels_last"] else "")
        seconds, times = record["seconds"], Spread(**record["times_torch"])
        rows.append(
            [
                f"{shape} {record['layer']}",
                f"{1e6 * seconds['least']:.0f}",
                f"{1e6 * seconds['middle']:.0f}",
                times.text(2),
                f"{record['saved_over_input']:.2f}",
                f"{record['error_y']:.1e}",
                f"{record['error_dx']:.1e}",
            ]
        )
    header = ["layer", "us, min", "median", "x torch [min-max]", "saved / input", "error y", "error dx"]
    return table(header, rows)


def main() -> int:
    args = _arguments()
    cores = use_cores(args.cores)
    torch.set_num_threads(args.threads or cores)
    keep_freed_memory()
    records: list[dict[str, Any]] = []
    for shape, channels_last in CASES:
        if args.shapes and "x".join(map(str, shape)) not in args.shapes:
            continue
        torch.compiler.reset()
        records += measure(shape, channels_last, args.repeats, not args.no_compile)
        print("x".join(map(str, shape)), "done", file=sys.stderr)
    facts = machine(cores, ["torch"]) | {"threads": torch.get_num_threads()}
    print(
        f"Batch norm, forward and backward, float32, {args.repeats} interleaved repeats, "
        f"{facts['threads']} threads, {facts['processor']}"
    )
    print(describe(records))
    if args.json:
        args.json.write_text(
            json.dumps({"machine": facts, "repeats": args.repeats, "layers": records}, indent=1)
        )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = sorted({"x".join(map(str, shape)) for shape, _ in CASES})
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--shapes", type=lambda text: text.split(","), help=", ".join(known))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--threads", type=int, help="[default: as many as cores]")
    parser.add_argument("--json", type=json_file, metavar="FILE")
    args = parser.parse_args()
    if min(args.repeats, args.cores) < 1:
        parser.error("repeats and cores are numbers from 1")
    if unknown := set(args.shapes or ()) - set(known):
        parser.error(f"--shapes: there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
