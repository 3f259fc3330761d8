"""Processes that train one run together, forked from the test; and the same training in one process, in float64."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import FileStore

from bnbench.base.ranks import World
from bnbench.base.seeding import generator
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.ranks.group import Group, connected
from bnbench.engine.ranks.stepper import Ranked
from bnbench.engine.steppers.sequential import Sequential
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.tasks import task_of

CPU = torch.device("cpu")
#: Seconds for the processes of a test.
PATIENCE = 120


def in_ranks(size: int, work: Callable[[Group], Any]) -> list[Any]:
    """What `work` returns in each of so many processes of one group, by rank. Raises AssertionError with an error."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(size)]
        processes = [
            context.Process(
                target=_child, args=(World(rank, size), Path(folder) / "store", work, pipes[rank][1])
            )
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for _, end in pipes:
            end.close()
        results = []
        for end, _ in pipes:
            result: Any = ("no answer", None)
            with suppress(EOFError):
                result = pickle.loads(end.recv_bytes()) if end.poll(PATIENCE) else result
            results.append(result)
            end.close()
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
    errors = [f"rank {rank}: {error}" for rank, (error, _) in enumerate(results) if error]
    assert not errors, "\n".join(errors)
    return [value for _, value in results]


def _child(world: World, store: Path, work: Callable[[Group], Any], end: Connection) -> None:
    torch.set_num_threads(1)
    try:
        with connected(world, CPU, FileStore(str(store), world.size)) as group:
            end.send_bytes(pickle.dumps(("", work(group))))
    except BaseException:
        end.send_bytes(pickle.dumps((traceback.format_exc(), None)))
    end.close()


def settings_of(vocabulary: Vocabulary, **changes: Any) -> Settings:
    """The settings of a study of digits, changed."""
    study = {
        "dataset": "digits",
        "model": {"name": "mlp", "hidden": [7, 6]},
        "optimizer": {"name": "sgd", "lr": 0.1},
    }
    (settings,) = load_study({**study, **changes}, [], vocabulary).variants.values()
    return settings


class Case:
    """A training in float64 of made-up batches, whose last one has fewer samples than the others.

    sizes: samples of the batches, in turn.
    """

    def __init__(self, settings: Settings, sizes: Sizes, batches: Sequence[int] = (13, 12, 13, 5)) -> None:
        self.settings, self.batches, self.sizes = settings, batches, sizes
        self.model: nn.Module = build_model(settings, sizes, 0).double()
        task, draw = task_of(settings.task), generator(0, "batches")
        self.pairs = [task.made_up(sizes, count, draw) for count in batches]

    def _inputs(self, step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.pairs[step % len(self.pairs)]
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        targets = targets.double() if targets.is_floating_point() else targets
        return inputs.unsqueeze(0), targets.unsqueeze(0)

    def trained(self, steps: int, group: Group | None = None) -> dict[str, Tensor]:
        """The state of the network, the gradient of the last step, and all losses. group: of several processes."""
        model = copy.deepcopy(self.model)
        stepper: Sequential = (
            Sequential(model, self.settings, CPU)
            if group is None
            else Ranked(model, self.settings, CPU, group)
        )
        losses = []
        for step in range(steps):
            stepper.scale_rates(1.0)
            losses.append(stepper.step(*self._inputs(step)))
        grads = {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
        return {
            **{name: value.clone() for name, value in model.state_dict().items()},
            **grads,
            "losses": torch.cat(losses),
        }


def furthest(one: dict[str, Tensor], other: dict[str, Tensor], only: str = "") -> float:
    """The largest difference of all numbers, relative to the larger of 1 and the largest number of a tensor."""
    assert one.keys() == other.keys()
    gaps = [0.0]
    for name, value in one.items():
        if only in name and value.numel():
            scale = max(1.0, float(value.double().abs().max()))
            gaps.append(float((value.double() - other[name].double()).abs().max()) / scale)
    return max(gaps)
