"""The processes that train one run: what they send to each other."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store

from bnbench.base.ranks import RankError, Rows, World
from bnbench.norms.sync_batch import alone

#: How long a process waits for another one in the middle of a step.
PATIENCE = timedelta(minutes=10)
#: Tensors that a network's outputs have at most, and axes of each.
MOST_TENSORS, MOST_AXES = 8, 8
#: Where the first tensor is described, after their number and the wish to pause.
_FIRST = 2
_KINDS = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
)  # fmt: skip


class Group:
    """The processes of one run. All of them call the same methods in the same order.

    backend: what carries the numbers: gloo between CPUs, nccl between GPUs.
    """

    def __init__(self, world: World, device: torch.device) -> None:
        self.world, self.device = world, device
        self.rank, self.size = world.rank, world.size
        self.backend = "nccl" if device.type == "cuda" else "gloo"
        #: Whether this process wants the run to pause, and whether any did when they last exchanged tensors.
        self.wish, self.wished = False, False

    def rows(self, total: int) -> Rows:
        """The samples of a batch of `total` that are this process's; the first processes have one more."""
        each, more = divmod(total, self.size)
        start = self.rank * each + min(self.rank, more)
        return Rows(start, start + each + (self.rank < more), total)

    def gathered(self, tensors: Sequence[Tensor] | None) -> list[list[Tensor] | None]:
        """The tensors of every process, by rank: any shapes, as many on each. None: this process has none."""
        heads = self._heads(tensors)
        self.wished = any(head[1] for head in heads)
        if all(head[0] < 0 for head in heads):
            return [None] * self.size
        shapes = [_shapes(head) for head in heads]
        known = next(shape for shape in shapes if shape is not None)
        results: list[list[Tensor] | None] = [None if shape is None else [] for shape in shapes]
        for place, (kind, _) in enumerate(known):
            sizes = [_bytes(shape[place]) if shape is not None else 0 for shape in shapes]
            sent = torch.zeros(max(1, *sizes), dtype=torch.uint8, device=self.device)
            if tensors is not None and sizes[self.rank]:
                own = tensors[place].detach().contiguous().to(self.device)
                sent[: sizes[self.rank]] = own.flatten().view(torch.uint8)
            received = [torch.empty_like(sent) for _ in range(self.size)]
            dist.all_gather(received, sent)
            for result, shape, size, raw in zip(results, shapes, sizes, received, strict=True):
                if result is not None and shape is not None:
                    result.append(raw[:size].clone().view(kind).view(shape[place][1]))
        return results

    def _heads(self, tensors: Sequence[Tensor] | None) -> list[list[int]]:
        """Of each process: how many tensors it has, its wish, then the kind, number of axes and axes of each."""
        if tensors is not None and (
            len(tensors) > MOST_TENSORS or any(tensor.dim() > MOST_AXES for tensor in tensors)
        ):
            raise RankError(f"a network with {len(tensors)} outputs can't be trained on several processes.")
        head = torch.full((_FIRST + MOST_TENSORS * (2 + MOST_AXES),), -1, dtype=torch.int64)
        head[1] = int(self.wish)
        if tensors is not None:
            head[0] = len(tensors)
            for place, tensor in enumerate(tensors):
                numbers = [_KINDS.index(tensor.dtype), tensor.dim(), *tensor.shape]
                start = _FIRST + place * (2 + MOST_AXES)
                head[start : start + len(numbers)] = torch.tensor(numbers)
        head = head.to(self.device)
        heads = [torch.empty_like(head) for _ in range(self.size)]
        dist.all_gather(heads, head)
        return [each.tolist() for each in heads]

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """The sum of all processes' gradients becomes the gradient of each; None where no process has one."""
        by_kind: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_kind.setdefault(parameter.dtype, []).append(parameter)
        for kind, group in by_kind.items():
            parts = [_flat_gradient(parameter) for parameter in group]
            there = torch.tensor([float(parameter.grad is not None) for parameter in group])
            flat = torch.cat([*parts, there.to(self.device, kind)])
            dist.all_reduce(flat)
            *summed, there = torch.split(flat, [*map(len, parts), len(group)])
            for parameter, values, has in zip(group, summed, there.tolist(), strict=True):
                # laid out as the parameter is: torch's fused optimizers take that for granted
                laid_out = (
                    torch.empty_like(parameter.detach()).copy_(values.view(parameter.shape)) if has else None
                )
                parameter.grad = laid_out

    def from_first(self, tensors: Sequence[Tensor]) -> None:
        """Every process gets the values of rank 0, in place."""
        filled = [tensor for tensor in tensors if tensor.numel()]
        if not filled:
            return
        raw = [tensor.detach().contiguous().to(self.device).flatten().view(torch.uint8) for tensor in filled]
        flat = torch.cat(raw)
        dist.broadcast(flat, src=0)
        if self.rank:
            for tensor, values in zip(filled, torch.split(flat, [len(part) for part in raw]), strict=True):
                tensor.detach().copy_(values.clone().view(tensor.dtype).view(tensor.shape))

    def check_same(self, model: nn.Module) -> None:
        """Raises RankError where the processes have other weights: they have made other steps."""
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for parameter in model.parameters():
            values = parameter.detach().double()
            sums += torch.stack([values.sum(), values.square().sum()]).to(self.device)
        every = [torch.empty_like(sums) for _ in range(self.size)]
        dist.all_gather(every, sums)
        other = [
            rank
            for rank, values in enumerate(every)
            if not torch.equal(values.nan_to_num(), every[0].nan_to_num())
        ]
        if other:
            raise RankError(
                f"the weights of rank {other[0]} are no longer those of rank 0.",
                "Every process makes the same step with the same gradients: something in the network, the optimizer or "
                "the machine gives other numbers there.",
                "one process, or processes on machines of one kind.",
            )


def _flat_gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        return torch.zeros(parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    return parameter.grad.detach().to_dense().reshape(-1)


def _shapes(head: Sequence[int]) -> list[tuple[torch.dtype, tuple[int, ...]]] | None:
    if head[0] < 0:
        return None
    starts = [_FIRST + place * (2 + MOST_AXES) for place in range(head[0])]
    return [(_KINDS[head[start]], tuple(head[start + 2 : start + 2 + head[start + 1]])) for start in starts]


def _bytes(shape: tuple[torch.dtype, tuple[int, ...]]) -> int:
    return shape[0].itemsize * torch.Size(shape[1]).numel()


_current: Group | None = None


def current() -> Group | None:
    """The group of the run that is trained now; None where one process trains it."""
    return _current


@contextmanager
def connected(world: World, device: torch.device, store: Store) -> Iterator[Group]:
    """Inside, the processes of a run are a group of torch.distributed; layers synchronise where a step asks for it.

    store: of names of this run alone. However it ends, the connections are closed: a process that still waits for
    this one sees it at once.
    """
    global _current
    group, before = Group(world, device), _sockets()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=world.rank,
        world_size=world.size,
        timeout=PATIENCE,
    )
    _current, opened = group, _sockets() - before
    try:
        with alone():
            yield group
    finally:
        _current = None
        dist.destroy_process_group()
        _hang_up(opened)


def _sockets() -> set[tuple[int, int]]:
    """The sockets of this process: the descriptor and the number that the system gave each."""
    found = set()
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with suppress(OSError):
                facts = os.fstat(int(name))
                if stat.S_ISSOCK(facts.st_mode):
                    found.add((int(name), facts.st_ino))
    return found


def _hang_up(opened: set[tuple[int, int]]) -> None:
    """Tell whoever waits at the other end that nothing more comes.

    gloo closes its connections when the last reference to the group is gone, and torch may keep some.
    """
    for descriptor, _ in opened & _sockets():
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
            connection.shutdown(socket.SHUT_WR)  # what was sent before still arrives
