"""Tensors that share memory: whether they do so in the same way as where the run began."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Overlaps:
    """Collects where tensors lie."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, str, Any]] = []

    def add(self, tensor: Tensor, path: str) -> None:
        """One more."""
        if tensor.numel():
            reach = sum(
                (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
            )
            start = tensor.data_ptr()
            shape = tuple(tensor.shape), tensor.stride(), str(tensor.dtype)
            self._spans.append((start, start + (reach + 1) * tensor.element_size(), path, shape))

    def pairs(self) -> frozenset[Any]:
        """Those that reach into each other, and how."""
        found, ordered = [], sorted(self._spans, key=lambda span: span[:3])
        for index, (start, end, path, shape) in enumerate(ordered):
            for other, _, further, of_other in ordered[index + 1 :]:
                if other >= end:
                    break
                found.append((path, further, other - start, shape, of_other))
        return frozenset(found)
