"""What a study becomes on several processes: the engine of its cells, what is refused, and what identifies its runs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from bnbench.base.errors import Mistake
from bnbench.base.process_state import seeded
from bnbench.base.ranks import Rows, World
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.data import Sizes
from bnbench.engine.build import two_networks
from bnbench.engine.cell import Cell
from bnbench.engine.ranks.draws import rows_of
from bnbench.norms.sync_batch import SyncBatchNorm, alone
from bnbench.study import Settings
from bnbench.tasks import task_of

#: Samples of the batch on which a network is tried, whole and in halves.
TRIED = 8
#: Outputs that differ by more than this share of the largest one depend on the other samples.
NOTICEABLE = 1e-3
_CPU = torch.device("cpu")


def cells_on_ranks(cells: Mapping[str, Cell], world: World) -> dict[str, Cell]:
    """The cells, each of whose runs trains on all processes: one run after the other, and no step is compiled."""
    reason = f"one run on {world.size} processes"
    return {
        label: replace(
            cell,
            choice=replace(cell.choice, engine="sequential", reason=reason, compiles=False, doubles=False),
        )
        for label, cell in cells.items()
    }


def mistakes_on_ranks(settings: Iterable[tuple[str, Settings]], world: World) -> list[Mistake]:
    """What can't be trained on several processes, of settings by their labels."""
    found: dict[str, Mistake] = {}
    for label, one in settings:
        for text in _refusals(one, world.size):
            found.setdefault(text, Mistake(f"variant {label}", text))
    return list(found.values())


def _refusals(settings: Settings, size: int) -> Iterable[str]:
    on = f"and one run is on {size} processes"
    if settings.framework != "torch":
        yield (
            f"framework: {settings.framework}, {on}: the gradients of PyTorch's networks alone are added up. "
            "Fix: bnbench compare, without torchrun."
        )
    elif two_networks(settings):
        yield (
            f"task: {settings.task.name}, {on}: its two networks train against each other, with a step of their own. "
            "Fix: bnbench compare, without torchrun."
        )
    if settings.batch_size < size:
        yield (
            f"batch_size: {settings.batch_size}, {on}: some would have no sample. "
            f"Fix: batch_size={size} or more, or torchrun --nproc-per-node {settings.batch_size}."
        )


def facts_on_ranks(model: nn.Module, settings: Settings, sizes: Sizes, world: World) -> dict[str, Any]:
    """What identifies runs of this network beside its settings: the number of processes, where it changes the numbers.

    It does where a layer takes statistics of the samples of its own process, or draws noise by itself.
    """
    return {"ranks": world.size} if changes_with_ranks(model, settings, sizes) else {}


def changes_with_ranks(model: nn.Module, settings: Settings, sizes: Sizes) -> bool:
    """Whether the network gives a sample other outputs, or keeps other buffers, where a batch is split.

    It is tried on made-up samples: all together, and half by half. A network that raises counts as one that does.
    """
    inputs, _ = task_of(settings.task).made_up(sizes, TRIED, generator(0, "ranks"))
    half = TRIED // 2
    try:
        whole, kept = _tried(model, inputs, Rows(0, TRIED, TRIED))
        first, after_first = _tried(model, inputs[:half], Rows(0, half, TRIED))
        second, _ = _tried(model, inputs[half:], Rows(half, TRIED, TRIED))
    except BaseException as error:
        raise_interrupt(error)
        return True
    parts = [
        torch.cat([one, other]) if one.dim() and len(one) == half else one
        for one, other in zip(first, second, strict=True)
    ]
    return any(_differ(a, b) for a, b in zip(whole, parts, strict=True)) or any(
        _differ(kept[name], value) for name, value in after_first.items()
    )


def _tried(model: nn.Module, inputs: Tensor, rows: Rows) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The outputs in training, and the buffers afterwards; synchronised layers infer, as they are the same anywhere."""
    tried = copy.deepcopy(model).to(_CPU).train()
    for module in tried.modules():
        if isinstance(module, SyncBatchNorm):
            module.eval()
    with alone(), seeded(0, _CPU), torch.no_grad(), rows_of(rows):
        outputs = tried(inputs)
    leaves = [leaf.detach() for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return leaves, {name: buffer.clone() for name, buffer in tried.named_buffers()}


def _differ(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return True
    if not one.is_floating_point():
        return not torch.equal(one, other)
    scale = max(float(one.abs().max()), 1e-12) if one.numel() else 1.0
    return not bool(((one - other).abs() <= NOTICEABLE * scale).all())
