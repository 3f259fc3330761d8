"""One model that several processes step together: each has a part of every batch, all make the same update."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from bnbench.base.errors import BnbenchError
from bnbench.base.ranks import Rows
from bnbench.engine.ranks.draws import rows_of
from bnbench.engine.ranks.group import Group
from bnbench.engine.steppers.base import autocast
from bnbench.engine.steppers.sequential import Sequential
from bnbench.norms.sync_batch import SyncBatchNorm, alone
from bnbench.study import Settings


class Ranked(Sequential):
    """`Sequential` on several processes.

    The objective is that of the whole batch, whatever it averages over: every process gets the outputs for the samples
    of the others, too, as constants. The sum of the gradients of all processes is then the whole batch's gradient.
    Running statistics and other buffers are those of rank 0, as in DistributedDataParallel.
    """

    def __init__(self, model: nn.Module, settings: Settings, device: torch.device, group: Group) -> None:
        super().__init__(model, settings, device)
        self.group = group
        synchronised = [module for module in model.modules() if isinstance(module, SyncBatchNorm)]
        self._synchronises = bool(synchronised)
        # a synchronised layer's are the same everywhere
        own = {id(buffer) for module in synchronised for buffer in module.buffers()}
        self._buffers = [buffer for buffer in model.buffers() if id(buffer) not in own]
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.notes.append(
            f"one run on {group.size} processes ({group.backend}): each batch is split over them; runs train one after "
            "the other, without stacks and workers"
        )

    def agreed(self, reason: str) -> str:
        """All pause after the same step: the one before which all knew that one of them wants it."""
        self.group.wish = bool(reason)
        return (reason or "another process was asked to stop") if self.group.wished else ""

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One update with the whole batch, of which this process takes its part; the objective before it, (1,)."""
        self.optimizer.zero_grad(set_to_none=True)
        rows = self.group.rows(inputs.shape[1])
        loss = self._objective(inputs[0, rows.start : rows.stop], targets[0], rows)
        if loss.requires_grad:
            with alone(False):
                loss.backward()  # type: ignore[no-untyped-call]
        self.group.add_gradients(self._parameters)
        self.group.from_first(self._buffers)
        self.update()
        loss = loss.detach()
        if rows.total < self.group.size:  # who has no sample has no loss either
            loss = self._of_first(loss)
        return loss.unsqueeze(0)

    def _objective(self, inputs: Tensor, targets: Tensor, rows: Rows) -> Tensor:
        """Of the whole batch; without a gradient where this process has no sample and nothing to synchronise."""
        with autocast(self.settings, self.device):
            if not len(inputs) and not self._synchronises:
                self.group.gathered(None)
                return targets.new_zeros((), dtype=torch.float32)
            with rows_of(rows), alone(False):
                outputs = self.forward(inputs)
            return self.objective(self._whole(outputs, rows), targets)

    def _whole(self, outputs: Any, rows: Rows) -> Any:
        """The outputs for the whole batch; those for other processes' samples are constants."""
        leaves, form = _pytree.tree_flatten(outputs)
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        every = self.group.gathered([leaves[place] for place in places])
        count = rows.stop - rows.start
        for index, place in enumerate(places):
            own = leaves[place]
            if own.dim() == 0 or len(own) != count:
                if own.dim():
                    raise _no_rows(own, count)
                # of no sample, such as a learnt noise: its gradient counts once, on rank 0
                leaves[place] = own if self.group.rank == 0 else own.detach()
                continue
            parts = [tensors[index] for tensors in every if tensors is not None]
            mine = sum(tensors is not None for tensors in every[: self.group.rank])
            parts[mine] = own
            leaves[place] = torch.cat(parts)
        return _pytree.tree_unflatten(leaves, form)

    def _of_first(self, loss: Tensor) -> Tensor:
        """Rank 0's, which always has samples; in float64, whatever the other processes have."""
        number = loss.to(torch.float64, copy=True)
        self.group.from_first([number])
        return number


def _no_rows(output: Tensor, count: int) -> BnbenchError:
    return BnbenchError(
        f"an output of shape {tuple(output.shape)} for {count} samples: it has not one row a sample.",
        "On several processes the objective gets the outputs of all of them, sample by sample.",
        "outputs (N, ...); or one process.",
    )
