"""Noise of layers in training: each process draws that of the whole batch, and keeps its own samples' part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bnbench.base.ranks import Rows, own_part, set_rows, whole_shape

#: Functions of torch that multiply with a mask of the input's shape, and draw it from the global stream.
_MASKING = ("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout")


class _WholeDraws(TorchFunctionMode):
    """Dropout, and stochastic depth by sample, with the masks of the whole batch: those of one process."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _MASKING:
            return self._masked(func, args, kwargs)
        if name == "bernoulli_" and _is_by_sample(args[0]):
            drawn = args[0].new_empty(whole_shape(tuple(args[0].shape)))
            return args[0].copy_(func(drawn, *args[1:], **kwargs)[own_part(len(args[0]))])
        return func(*args, **kwargs)

    def _masked(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rest = {**dict(zip(("input", "p", "train"), args, strict=False)), **kwargs}
        x, p = rest["input"], rest.get("p", 0.5)
        if (
            not rest.get("training", rest.get("train", True))
            or not p
            or not isinstance(x, Tensor)
            or not x.dim()
        ):
            return func(*args, **kwargs)
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        ones = torch.ones(whole_shape(tuple(x.shape)), dtype=x.dtype, device=x.device)
        ones = ones.contiguous(memory_format=torch.channels_last) if last else ones
        mask = func(ones, p, True)[own_part(len(x))]
        inplace = rest.get("inplace", len(args) > 3 and args[3])
        return x.mul_(mask) if inplace else x * mask


def _is_by_sample(tensor: Tensor) -> bool:
    """Whether it has one number a sample, as the masks of stochastic depth have."""
    return (
        tensor.dim() > 1 and tensor.numel() == len(tensor) and whole_shape((len(tensor),)) != (len(tensor),)
    )


@contextmanager
def rows_of(rows: Rows) -> Iterator[None]:
    """Inside, layers draw their noise for the whole batch, of which these rows are this process's."""
    set_rows(rows)
    try:
        with _WholeDraws():
            yield
    finally:
        set_rows(None)
