"""Evaluation on several processes: each takes its share of the batches, without padding, and all get all answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bnbench.base.ranks import Rows
from bnbench.engine.ranks.draws import rows_of
from bnbench.engine.ranks.group import current
from bnbench.tasks import Task

Pair = tuple[Tensor, Tensor]


def answers_of_ranks(model: nn.Module, task: Task, batches: Iterable[Pair], whole: bool) -> Pair | None:
    """What the task keeps of the outputs for all samples of a part, in order, and their targets; None for one process.

    Every metric is then computed from them as in one process. whole: batches must stay as they are, as the network
    takes statistics of them; else a part of few batches is cut into more.
    """
    group = current()
    if group is None:
        return None
    group.check_same(model)
    pairs = list(batches)
    targets = torch.cat([asked for _, asked in pairs])
    pieces = [_Piece(*pair, Rows(0, len(pair[0]), len(pair[0]))) for pair in pairs]
    if len(pieces) < group.size and not whole:
        pieces = _cut(pieces, group.size)
    own = group.rows(len(pieces))
    kept = []
    for piece in pieces[own.start : own.stop]:
        with rows_of(piece.rows):
            kept.append(task.kept(model(piece.inputs), piece.targets))
    every = group.gathered([torch.cat(kept)] if kept else None)
    place = kept[0].device if kept else torch.device("cpu")
    return torch.cat([tensors[0].to(place) for tensors in every if tensors is not None]), targets


class _Piece(NamedTuple):
    """A batch, or a part of one. rows: its samples in the batch that one process would take."""

    inputs: Tensor
    targets: Tensor
    rows: Rows


def _cut(pieces: list[_Piece], size: int) -> list[_Piece]:
    """At least as many parts as processes, where there are as many samples."""
    parts = math.ceil(size / len(pieces))
    cut: list[_Piece] = []
    for piece in pieces:
        start = 0
        for inputs, targets in zip(*_split(piece, min(parts, len(piece.inputs))), strict=True):
            cut.append(_Piece(inputs, targets, Rows(start, start + len(inputs), len(piece.inputs))))
            start += len(inputs)
    return cut


def _split(piece: _Piece, count: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return piece.inputs.tensor_split(count), piece.targets.tensor_split(count)
