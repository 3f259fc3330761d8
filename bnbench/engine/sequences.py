"""The work of a network over sequences, and whether a stack of its replicas is faster than one run after the other.

Measured by tests/benchmarks/text_speed.py; docs/benchmarks.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from bnbench.base.stacked import LANES
from bnbench.data import Sizes
from bnbench.engine.stacked.chain import chain, has_stacked_form
from bnbench.models.sequences import LearntPositions, SinusoidalPositions
from bnbench.models.transformer_block import TransformerBlock

#: Products of weights with positions in one step, from which one run keeps a core busy without a stack.
WORTH_NO_STACK = 100_000_000
#: The same, from which one run repays a second thread better than a second run in a process beside it.
WORTH_THREADS = 5_000_000_000


@dataclass(frozen=True)
class Sequences:
    """What a step of one run does to sequences.

    length: positions of a sequence. products: of weights, embeddings left out, with positions, in the forward pass.
    stacked: the share of these weights in layers with a stacked form. per_position: all of the network's layers are a
    transformer's, up to the outputs, of which each position has its own.
    """

    length: int
    products: int
    stacked: float
    per_position: bool

    @classmethod
    def of(cls, model: nn.Module, batch_size: int, sizes: Sizes) -> Sequences | None:
        """Of a network over tokens, or with a transformer's blocks; None for any other one."""
        blocks = any(isinstance(module, TransformerBlock) for module in model.modules())
        if sizes.vocabulary is None and not blocks:
            return None
        tables = [m for m in model.modules() if isinstance(m, LearntPositions | SinusoidalPositions)]
        length = max([len(table.weight) for table in tables], default=sizes.input_shape[0])
        layers = chain(model) if isinstance(model, nn.Sequential) else [model]
        weights = [(layer, _weights(layer)) for layer in layers]
        total = sum(count for _, count in weights)
        known = sum(count for layer, count in weights if has_stacked_form(layer))
        return cls(length, batch_size * length * total, known / max(1, total), blocks and sizes.per_position)

    @property
    def are_worth_threads(self) -> bool:
        """Whether one run should have all cores."""
        return self.products >= WORTH_THREADS

    def why_no_gain(self) -> str:
        """Why a stack would be slower, or no faster; "" where it is faster."""
        if self.products >= WORTH_NO_STACK:
            return "its steps are large enough to keep a core busy without a stack"
        if self.stacked < 0.5:
            return "most of its weights are in layers without a stacked form"
        return ""

    def stand_alone(self, device: torch.device) -> bool:
        """Whether a stack of one run has the bits that it has in any other stack.

        On a CPU the products of positions are made replica by replica; what is done to all at once falls on whole
        vectors, however many replicas there are.
        """
        return device.type == "cpu" and self.per_position and self.length % LANES == 0


def _weights(module: nn.Module) -> int:
    """How many numbers a position is multiplied with."""
    tables = (nn.Embedding, LearntPositions, SinusoidalPositions)
    own = (m for m in module.modules() if not isinstance(m, tables))
    return sum(p.numel() for m in own for p in m.parameters(recurse=False))
