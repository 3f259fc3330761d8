"""Behaviour of a normalizer, measured by trials: values normalized alone, memory of its statistics, its shift.

Its class and its attributes are not looked at, so that a user's layer is judged as the built-in ones are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found, seed_streams
from bnbench.base.user_code import raise_interrupt, text_of

#: One trial detects a statistic over k values with a probability of 1/4 or more, so 64 trials miss one in 10^8.
TRIALS, FEW_TRIALS = 64, 4
#: Steps of the running statistics that are made; more are extrapolated. Few are enough where each keeps as much.
STEPS, FEW_STEPS = 32, 4
#: A batch that is large in every respect.
MANY, WIDE = 8, 4
#: Far above the root of any eps: what is the same at this size is the same at all sizes.
HUGE = 1e12
CPU = torch.device("cpu")


def values_alone(module: nn.Module, shape: Sequence[int], training: bool = True) -> float:
    """The share of an input's values that are normalized by themselves alone, 0 where the layer is sound here.

    That is: no other value has a part in what becomes of them, although on larger inputs one has; or what
    becomes of them is the same whatever their size. 1 where the layer refuses this shape and takes larger ones.
    """
    if len(shape) < 2 or getattr(module, "works_on_single_values", False):  # a layer made for them says so
        return 0.0
    with _tried(module, training) as tried:
        shares = (tried.alone(larger, FEW_TRIALS) for larger in _larger(shape))
        is_normalizer = any(share is not None and share < 0.5 for share in shares)
        small = [*shape[:2], *(min(size, 2) for size in shape[2:])]
        for tried_shape in dict.fromkeys((tuple(small), tuple(shape))):
            share = tried.alone(tried_shape, TRIALS, must_keep_size=not is_normalizer)
            if share is not None:
                return share
        # too few values (of which running statistics want more than one, too), or a layer of other dimensions
        alike = [larger for larger in _larger(shape) if len(larger) == len(shape)]
        return float(any(tried(tried.signed(larger)) is not None for larger in alike))


def refusal(module: nn.Module, shape: Sequence[int]) -> str:
    """The error that it raises on this shape in training; "" without an error."""
    with _tried(module, True) as tried:
        tried(tried.signed(shape))
        return tried.raised


def takes(module: nn.Module, shape: Sequence[int]) -> bool:
    """Whether it gives an output for this shape in training."""
    with _tried(module, True) as tried:
        return tried(tried.signed(shape)) is not None


def absorbs_bias(module: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a number that is added to every value of a channel has no effect in training."""
    with _tried(module, True) as tried:
        x = tried.signed(shape)
        shift = torch.linspace(-2, 2, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
        y, moved = tried(x), tried(x + shift)
        return y is not None and moved is not None and bool(((y - moved).abs() < 1e-3).all())


def ignores_scale(module: nn.Module, shape: Sequence[int], shifted: bool = False) -> bool:
    """Whether it gives the same in training for an input three times as large.

    shifted: the same number is added to every value of a channel in both, as the bias of the layer before it does.
    """
    with _tried(module, True) as tried:
        x = tried.signed(shape)
        shift = torch.linspace(-2, 2, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2)) if shifted else 0.0
        y, larger = tried(x + shift), tried(3 * x + shift)
        return y is not None and larger is not None and bool(((y - larger).abs() < 1e-3).all())


def has_shift(module: nn.Module, shape: Sequence[int]) -> bool:
    """Whether one of its parameters can shift the output: zeros do not stay zeros."""
    with _tried(module, True) as tried:
        y = tried(torch.zeros(*shape))
        return y is None or bool((y.abs() > 1e-3).any())


def initial_share(module: nn.Module, batches: Sequence[tuple[Sequence[int], int]]) -> float:
    """The share of the initial running statistics that is left where inference starts to use them.

    batches: shapes, and how many batches of each shape a run has. 0 where inference uses no such statistics.
    """
    first, _ = batches[0]
    with _tried(module, True, parameters=False) as tried:
        slots = [slot for slot in tried.slots() if tried.is_statistic(slot, first)]
        if not slots or tried.corrects_itself(first):
            return 0.0
        return max(math.prod(tried.kept(slot, shape, count) for shape, count in batches) for slot in slots)


Slot = tuple[nn.Module, str]


def statistics_of(module: nn.Module, shape: Sequence[int]) -> list[Slot]:
    """The tensors, and the modules that hold them, by which inference depends on earlier batches of training."""
    with _tried(module, True, parameters=False) as tried:
        return [slot for slot in tried.slots() if tried.is_statistic(slot, shape)]


@contextmanager
def _tried(module: nn.Module, training: bool, parameters: bool = True) -> Iterator[_Tried]:
    """The module to be tried on the CPU; as it was, afterwards. parameters: all of them are moved first."""
    before = ModuleState(module)
    modes = [(inner, inner.training) for inner in module.modules()]
    device = next((tensor.device for tensor in before.tensors), CPU)
    with left_as_found(device), torch.no_grad():
        seed_streams(0, device)
        try:
            module.train(training)
            if parameters:
                for parameter in module.parameters():
                    parameter.add_(0.1 + 0.3 * torch.rand(parameter.shape).to(parameter))
            yield _Tried(module, device)
        finally:
            before.restore()
            for inner, mode in modes:
                inner.training = mode


class ModuleState:
    """The state that a module's forward can change: tensors, registered or not, and Python numbers."""

    def __init__(self, module: nn.Module) -> None:
        self.tensors: list[Tensor] = []
        self._places: list[tuple[Any, str, Any, Any]] = []
        for inner in module.modules():
            for place in (inner._parameters, inner._buffers, vars(inner)):
                for name, value in list(place.items()):
                    if isinstance(value, Tensor):
                        self.tensors.append(value)
                        self._places.append((place, name, value, value.detach().clone()))
                    elif isinstance(value, bool | int | float) and name != "training":
                        self._places.append((place, name, value, None))

    def restore(self) -> None:
        """Put back the objects and what was in them."""
        for place, name, value, content in self._places:
            place[name] = value
            if content is not None and value.shape != content.shape:  # resized in place, as observers do
                value.data = content.clone()
            elif content is not None:
                value.detach().copy_(content)


class _Tried:
    """A module under trial; every call starts from the same state and the same random streams."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module, self.device, self.state, self.seed = module, device, ModuleState(module), 0
        self.draw = torch.Generator().manual_seed(0)
        self.raised = ""

    def __call__(self, x: Tensor, keep: bool = False) -> Tensor | None:
        """Its output, None where it raises or gives no finite tensor of this shape. keep: its state moves on."""
        if not keep:
            self.state.restore()
        seed_streams(self.seed, self.device)
        self.raised = ""
        try:
            y = self.module(x.to(self.device))
        except BaseException as error:
            raise_interrupt(error)
            self.raised = text_of(error)
            return None
        if not isinstance(y, Tensor) or y.shape != x.shape or not y.isfinite().all():
            return None
        return y.detach().float().cpu()

    def alone(self, shape: Sequence[int], trials: int, must_keep_size: bool = False) -> float | None:
        """The share of values that no other value had a part in, over all trials. None where it can't be tried.

        must_keep_size: only of those whose size has no effect either. Whole samples or channels count.
        """
        alone = torch.ones(*shape, dtype=torch.bool)
        kept = alone
        for self.seed in range(trials):
            x, others = self.signed(shape), self.signed(shape)
            # by turns one half and the other, so that two trials look at every value
            kept = ~kept if self.seed % 2 else torch.rand(*shape, generator=self.draw) < 0.5
            y, other = self(x), self(torch.where(kept, x, others))
            if y is None or other is None:
                return None
            alone &= ~(kept & _differ(y, other, 1e-5))
            for factor in (3, HUGE) if must_keep_size else ():
                if (larger := self(factor * x)) is not None:
                    alone &= ~_differ(y, larger, 1e-2)
            if not alone.any():
                return 0.0
        whole = alone.flatten(1).all(1).any() or alone.transpose(0, 1).flatten(1).all(1).any()
        return float(alone.float().mean()) if whole else 0.0

    def slots(self) -> list[Slot]:
        """Float tensors beside the parameters, registered or not."""
        places = (
            (inner, name, value)
            for inner in self.module.modules()
            for place in (inner._buffers, vars(inner))
            for name, value in place.items()
        )
        return [
            (m, name) for m, name, value in places if isinstance(value, Tensor) and value.is_floating_point()
        ]

    def is_statistic(self, slot: Slot, shape: Sequence[int]) -> bool:
        """Whether inference depends on it, and training moves it, or does not look at it."""
        x = self._sample(shape)
        self.state.restore()
        before = getattr(*slot).detach().clone()
        y = self(x)
        moved = not torch.equal(before, getattr(*slot))
        looked_at = self._depends(slot, x, y, before)
        self.module.eval()
        try:
            used = self._depends(slot, x, self(x), before)
        finally:
            self.module.train()
        return used and (moved or not looked_at)

    def _depends(self, slot: Slot, x: Tensor, y: Tensor | None, value: Tensor) -> bool:
        self.state.restore()
        getattr(*slot).copy_(value + 1)
        other = self(x, keep=True)
        return y is not None and other is not None and bool(_differ(y, other, 1e-6).any())

    def kept(self, slot: Slot, shape: Sequence[int], steps: int) -> float:
        """The share of the initial value that remains after this number of batches."""
        for made in (FEW_STEPS, STEPS):
            ends = [self._walk(slot, shape, min(steps, made), offset) for offset in (0.0, 1.0)]
            gaps = [1.0, *(float((b - a).abs().double().mean()) for a, b in zip(*ends, strict=True))]
            if gaps[-1] == 0 or len(gaps) < 2:
                return 0.0
            if abs(gaps[-1] / gaps[-2] - gaps[1]) < 1e-3:
                break
        rest = steps - (len(gaps) - 1)
        return min(1.0, gaps[-1] * min(1.0, gaps[-1] / gaps[-2]) ** rest)

    def _walk(self, slot: Slot, shape: Sequence[int], steps: int, offset: float) -> list[Tensor]:
        """Its values after each of some steps, from its initial value plus an offset."""
        values: list[Tensor] = []
        self.state.restore()
        getattr(*slot).add_(offset)
        self.draw.manual_seed(0)
        for self.seed in range(steps):
            if self(torch.randn(*shape, generator=self.draw), keep=True) is None:
                return values
            values.append(getattr(*slot).detach().clone())
        return values

    def _sample(self, shape: Sequence[int]) -> Tensor:
        """A batch whose mean and variance are not those that statistics start with."""
        return 3 + 2 * torch.randn(*shape, generator=self.draw)

    def signed(self, shape: Sequence[int]) -> Tensor:
        """Values between 0.5 and 1.5, of either sign."""
        signs = (torch.rand(*shape, generator=self.draw) < 0.5).float().mul(2).sub(1)
        return (0.5 + torch.rand(*shape, generator=self.draw)) * signs

    def corrects_itself(self, shape: Sequence[int]) -> bool:
        """Whether one batch is enough: inference on it does what training did, as debiased statistics do."""
        x = self._sample(shape)
        self.state.restore()
        trained = self(x, keep=True)
        self.module.eval()
        inferred = self(x, keep=True)
        self.module.train()
        if trained is None or inferred is None:
            return False
        return bool((trained - inferred).abs().mean() < 0.02 * trained.abs().mean())


def _differ(y: Tensor, other: Tensor, tolerance: float) -> Tensor:
    return (y - other).abs() > tolerance * (1 + y.abs())


def _larger(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Inputs on which every statistic that there can be is of many values."""
    wide = (MANY, shape[1], *[WIDE] * max(len(shape) - 2, 2))
    return list(dict.fromkeys(((MANY, *shape[1:]), wide)))
