"""How a layer infers with its running statistics, found by trials: whether other statistics can take their place.

A layer keeps them in `running_mean` and `running_var`, one number a channel (axis 1). Its class is not looked at, so
that a user's layer is judged as the built-in ones are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found, seed_streams
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.norms.behaviour import ModuleState

MEAN, VAR = "running_mean", "running_var"
#: Attributes in which layers keep the number that is added to the variance, and common values of it.
_EPS = ("eps", "epsilon", "variance_epsilon")
_COMMON = (1e-5, 1e-3, 1e-6, 1e-4, 0.0)
#: A variance at which such numbers count, and how far results may lie apart that are the same.
_SMALL, _TOLERANCE = 1e-3, 5e-5


@dataclass(frozen=True)
class InferenceForm:
    """What the running statistics of a layer do.

    used: inference depends on them, and training moves them. eps: inference is an affine map, channel by channel, of
    (x - mean) / √(var + eps); None where it is not. added: what the running variance holds beside the variance of the
    inputs (batch renormalization's σ² holds its eps). by_training: with the statistics of a batch, inference does what
    training does with that batch.
    """

    used: bool
    eps: float | None = None
    added: float = 0.0
    by_training: bool = False

    @property
    def takes_statistics(self) -> bool:
        """Whether a mean and a variance of inputs can take the place of the running ones."""
        return self.eps is not None or self.by_training


def has_statistics(module: nn.Module) -> bool:
    """Whether the module itself, and not one inside it, has running statistics by these names."""
    vectors = [_own(module, name) for name in (MEAN, VAR)]
    return all(isinstance(v, Tensor) and v.ndim == 1 and v.is_floating_point() for v in vectors)


def _own(module: nn.Module, name: str) -> object:
    return module._buffers.get(name, vars(module).get(name))


def inference_form(module: nn.Module, shape: Sequence[int]) -> InferenceForm:
    """The form of a layer with `has_statistics`, on inputs of this shape (N, C, ...). Leaves the module as it was.

    Raises ValueError where the layer can't be tried: it refuses the shape, or has another number of statistics.
    """
    state = ModuleState(module)
    modes = [(inner, inner.training) for inner in module.modules()]
    device = getattr(module, MEAN).device
    with left_as_found(device), torch.no_grad():
        try:
            return _Trial(module, shape, state, device).form()
        finally:
            state.restore()
            for inner, mode in modes:
                inner.training = mode


class _Trial:
    def __init__(
        self, module: nn.Module, shape: Sequence[int], state: ModuleState, device: torch.device
    ) -> None:
        self.module, self.state, self.device = module, state, device
        self.draw = torch.Generator().manual_seed(0)
        channels = len(getattr(module, MEAN))
        if len(shape) < 2 or shape[1] != channels or len(getattr(module, VAR)) != channels:
            raise ValueError(f"it has {channels} running means for inputs of shape {tuple(shape)}")
        self.column = (1, channels, *[1] * (len(shape) - 2))
        self.axes = [axis for axis in range(len(shape)) if axis != 1]
        mean = torch.randn(self.column, generator=self.draw)
        var = _SMALL * (0.5 + torch.rand(self.column, generator=self.draw))
        dtype = next(iter(module.parameters()), getattr(module, MEAN)).dtype
        self.x = (mean + var.sqrt() * torch.randn(*shape, generator=self.draw)).to(device, dtype)
        self.mean, self.var = mean.to(device), var.to(device)
        self.moved = [0.1 + 0.3 * torch.rand(p.shape, generator=self.draw) for p in module.parameters()]

    def form(self) -> InferenceForm:
        y = self._infer(self.x, self.mean, self.var)
        others = [(self.mean + 0.1, self.var), (self.mean, 4 * self.var)]
        used = any(not _close(y, self._infer(self.x, *other)) for other in others)
        if not used or not self._moves():
            return InferenceForm(False)
        zero, one = torch.zeros_like(self.mean), torch.ones_like(self.var)
        for eps in self._candidates():
            standard = (self.x - self.mean) / (self.var + eps).sqrt() * math.sqrt(1 + eps)
            if _close(y, self._infer(standard, zero, one)):
                own = self._candidates()[0]
                return InferenceForm(True, eps, own if eps == 0.0 else 0.0)
        return InferenceForm(True, by_training=self._is_training())

    def _candidates(self) -> list[float]:
        """The module's own first."""
        own = [getattr(self.module, name, None) for name in _EPS]
        return list(dict.fromkeys([*(float(eps) for eps in own if isinstance(eps, int | float)), *_COMMON]))

    def _infer(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        self.state.restore()
        self.module.eval()
        for name, value in ((MEAN, mean), (VAR, var)):
            getattr(self.module, name).copy_(value.flatten())
        return self._call(x)

    def _call(self, x: Tensor) -> Tensor:
        seed_streams(0, self.device)
        for parameter, by in zip(self.module.parameters(), self.moved, strict=True):
            parameter.add_(by.to(parameter))
        try:
            y = self.module(x)
        except BaseException as error:
            raise_interrupt(error)
            raise ValueError(text_of(error)) from error
        if not isinstance(y, Tensor) or y.shape != x.shape:
            raise ValueError("its output has another shape than its input")
        return y.detach().float()

    def _moves(self) -> bool:
        """Whether a step of training moves a running statistic."""
        self.state.restore()
        self.module.train()
        before = [getattr(self.module, name).clone() for name in (MEAN, VAR)]
        self._call(3 + 2 * self.x)
        after = [getattr(self.module, name) for name in (MEAN, VAR)]
        return any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))

    def _is_training(self) -> bool:
        self.state.restore()
        self.module.train()
        trained = self._call(self.x)
        mean = self.x.double().mean(self.axes, keepdim=True)
        var = (self.x.double() - mean).square().mean(self.axes, keepdim=True)
        return _close(trained, self._infer(self.x, mean.to(self.x), var.to(self.x)))


def _close(y: Tensor, other: Tensor) -> bool:
    return bool(((y - other).abs() <= _TOLERANCE * (1 + y.abs())).all())
