"""The synchronised batch norm on 2 and 3 processes equals torch's batch norm in one, and finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench import SyncBatchNorm
from bnbench.engine.ranks.group import Group
from bnbench.norms.sync_batch import alone
from tests.ranked import in_ranks

CLASSES = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
#: A shape, and the samples of each process: uneven, empty, one value each.
SPLIT: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((13, 5), (9, 4)), ((13, 5, 3), (13, 0)), ((13, 4, 3, 2), (0, 13)), ((2, 3), (1, 1)), ((6, 2, 2, 2, 2), (4, 2)),
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"bias": False},
]  # fmt: skip


def made(shape: Sequence[int], far: float = 5.0) -> tuple[Tensor, Tensor]:
    """A batch far from zero, and the gradient of its outputs."""
    draw = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(tuple(shape), dtype=torch.float64, generator=draw) for _ in range(2))
    return 3 * x + far, grad


def passes(layer: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Three forward passes in training, a backward pass, and one in evaluation."""
    x = x.clone().requires_grad_()
    for _ in range(3):
        y = layer(x)
    (y * grad).sum().backward()
    assert x.grad is not None
    found = {"y": y.detach(), "dx": x.grad}
    if layer.running_mean is not None:  # else each process takes the statistics of its own batch there
        found["evaluated"] = layer.eval()(x).detach()
    found |= {f"d{name}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {**found, **{name: buffer.double() for name, buffer in layer.named_buffers()}}


def work(group: Group) -> dict[str, dict[str, Tensor]]:
    """All shapes and options on this process; its part alone."""
    results = {}
    with alone(False):
        for (shape, split), options in itertools.product(SPLIT, OPTIONS):
            x, grad = (tensor.split(list(split))[group.rank] for tensor in made(shape))
            layer = SyncBatchNorm(shape[1], dtype=torch.float64, **options)
            results[f"{shape} {options}"] = passes(layer, x, grad)
        x, grad = (tensor.split([3, 2])[group.rank] for tensor in made((5, 4, 3, 2)))
        layer = SyncBatchNorm(4)
        results["channels last"] = passes(
            layer.double(), x.contiguous(memory_format=torch.channels_last), grad
        )
        last = layer.train()(x.contiguous(memory_format=torch.channels_last))
        results["layout"] = {"last": torch.tensor(last.is_contiguous(memory_format=torch.channels_last))}
        half, far = SyncBatchNorm(4)(x.bfloat16()), SyncBatchNorm(4)(x.float() + 1e6)
        results["bfloat16"] = {"y": half.detach(), "far": far.detach()}
        results["a single value"] = {"raised": torch.tensor(_raises(group))}
        results["differences"] = {"gap": torch.tensor(_finite_differences(group))}
    return results


def _raises(group: Group) -> bool:
    try:
        SyncBatchNorm(2)(torch.zeros(1 - group.rank, 2))
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    return False


def _finite_differences(group: Group) -> float:
    """The largest error of dL/dx against central differences; L is a sum over all processes, each moved in turn."""
    x, grad = (tensor.split([3, 2])[group.rank] for tensor in made((5, 2), 1.0))
    layer = SyncBatchNorm(2, dtype=torch.float64)

    def loss(values: Tensor) -> float:
        number = (layer(values) * grad).sum().detach().reshape(1).clone()
        torch.distributed.all_reduce(number)
        return float(number)

    moved = x.clone().requires_grad_()
    (layer(moved) * grad).sum().backward()
    assert moved.grad is not None
    worst, step = 0.0, 1e-6
    for rank, samples in enumerate((3, 2)):
        for place in range(samples * 2):
            change = torch.zeros_like(x)
            if rank == group.rank:
                change.view(-1)[place] = step
            slope = (loss(x + change) - loss(x - change)) / (2 * step)
            if rank == group.rank:
                worst = max(worst, abs(slope - float(moved.grad.reshape(-1)[place])))
    return worst


def test_two_processes_equal_one() -> None:
    ranks = in_ranks(2, work)
    for (shape, split), options in itertools.product(SPLIT, OPTIONS):
        one = passes(CLASSES[len(shape)](shape[1], dtype=torch.float64, **options), *made(shape))
        found = [rank[f"{shape} {options}"] for rank in ranks]
        for name, value in one.items():
            if name in ("y", "dx", "evaluated"):
                got = torch.cat([part[name] for part in found])
            elif name.startswith("d"):  # of parameters: each process has its own part's
                got = sum((part[name] for part in found), torch.zeros_like(value))
            else:
                got = found[0][name]
                assert torch.equal(got, found[1][name])
            gap = float((got - value).abs().max()) if value.numel() else 0.0
            # of two values a channel 1 / sqrt(eps) is the factor on rounding
            assert gap < (1e-10 if shape == (2, 3) else 1e-12), (shape, split, options, name, gap)
    one = passes(nn.BatchNorm2d(4, dtype=torch.float64), *made((5, 4, 3, 2)))
    last = torch.cat([rank["channels last"]["dx"] for rank in ranks])
    assert float((last - one["dx"]).abs().max()) < 1e-12
    for rank in ranks:
        assert rank["layout"]["last"]
        assert rank["bfloat16"]["y"].dtype == torch.bfloat16
        assert rank["a single value"]["raised"]
        assert float(rank["differences"]["gap"]) < 1e-7
    half = torch.cat([rank["bfloat16"]["y"].float() for rank in ranks])
    x, _ = made((5, 4, 3, 2))
    assert float((half - nn.BatchNorm2d(4)(x.bfloat16().float())).detach().abs().max()) < 0.02
    far = torch.cat([rank["bfloat16"]["far"] for rank in ranks])
    exact = nn.BatchNorm2d(4, dtype=torch.float64)((x.float() + 1e6).double())
    assert float((far.double() - exact).detach().abs().max()) < 1e-4  # torch's kernel is 0.1 away here


def test_in_one_process_it_is_torchs() -> None:
    x, _ = made((6, 4, 3, 3))
    ours, theirs = SyncBatchNorm(4).double(), nn.SyncBatchNorm(4).double()
    assert torch.equal(ours(x), theirs(x))
    assert repr(ours) == repr(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.running_var, theirs.running_var)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2D"):
        ours(torch.zeros(3))
    with pytest.raises(ValueError, match="non-zero"):
        ours(torch.zeros(3, 0))


def test_convert_keeps_names_state_and_hooks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    model[1].register_forward_hook(lambda module, args, out: out + 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, 5, 5)
    wanted = model(x)
    model.load_state_dict(before)
    converted = SyncBatchNorm.convert(model)
    assert [type(layer) for layer in model] == [nn.Conv2d, SyncBatchNorm, nn.GroupNorm]
    assert converted is model
    assert torch.equal(model(x), wanted)


def _in_ddp(group: Group) -> Tensor:
    """A user's own DistributedDataParallel, which refuses torch's layer on the CPU."""
    torch.manual_seed(0)
    model = SyncBatchNorm.convert(nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4))).double()
    x, _ = made((8, 3))
    part = slice(4 * group.rank, 4 * group.rank + 4)
    with alone(False):
        parallel = nn.parallel.DistributedDataParallel(model)
        (parallel(x[part]) * made((8, 4))[1][part]).sum().backward()
    assert model[0].weight.grad is not None  # type: ignore[index, union-attr]
    return group.size * model[0].weight.grad  # type: ignore[index, union-attr, operator]


@pytest.mark.slow
def test_it_works_in_distributed_data_parallel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4)).double()
    (model(made((8, 3))[0]) * made((8, 4))[1]).sum().backward()
    for gradient in in_ranks(2, _in_ddp):
        torch.testing.assert_close(gradient, model[0].weight.grad, rtol=0, atol=1e-12)
