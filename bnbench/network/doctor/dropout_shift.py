"""The variance shift: dropout before a layer changes the variance of its inputs in training alone.

Li et al. 2019 (arXiv 1801.05134), section 3: running statistics are taken with dropout on and used with it off. The
number here is the variance in training over the variance in inference, of a channel's inputs, both with the
statistics of the batch in the layers before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bnbench.base.gap_records import Measure
from bnbench.base.process_state import seed_streams, seeded
from bnbench.base.user_code import raise_interrupt
from bnbench.network.doctor.data import DataBatch
from bnbench.network.doctor.passes import LayerStatistics, training_flags
from bnbench.network.doctor.resampling import FEWEST, resampled
from bnbench.network.doctor.untouched import called, untouched
from bnbench.network.statistics import StatisticsLayer
from bnbench.network.ways import input_statistics

#: Functions of torch that drop values, all of them with the argument `training`.
_DROPS = {
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
}
#: Functions that draw random numbers, of which noise of one's own is made.
_DRAWS = {
    torch.bernoulli,
    torch.rand,
    torch.rand_like,
    torch.randn,
    torch.randn_like,
    torch.normal,
    Tensor.bernoulli,
    Tensor.bernoulli_,
    Tensor.normal_,
    Tensor.uniform_,
}
_CALLED_SO = re.compile(r"drop|stochastic", re.IGNORECASE)
#: Names under which modules keep the rate.
_RATES = ("p", "drop_prob", "dropout", "rate", "drop_rate")
#: Draws of the noise for each batch.
REPEATS = 4
#: Of the noise. Inputs that are made up are often drawn from 0 on, and must not go along with it.
_SEED = 180_105_134


@dataclass(frozen=True, eq=False)
class Shift:
    """Of one layer. ratio: variance in training over that in inference, the median of its channels.

    by: the noise that ran last before it, as "Dropout blocks.1.drop" or "dropout in blocks.1". whole: it drops whole
    branches of a sample (stochastic depth), and no single values. training: mean and variance in training, (C,).
    """

    ratio: Measure
    by: str
    whole: bool
    training: tuple[Tensor, Tensor]


def noise_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that drop something in training, by name: torch's, and those without parameters that are called so."""
    return {name: module for name, module in model.named_modules() if _drops_something(module)}


def _drops_something(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return True
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    leaf = not [*module.parameters()] and not [*module.children()]
    return leaf and bool(_CALLED_SO.search(type(module).__name__))


def drops_branches(module: nn.Module) -> bool:
    """Whether it drops all values of a sample or none, as stochastic depth does; found by a trial with ones."""
    if isinstance(module, nn.modules.dropout._DropoutNd | nn.RNNBase):
        return False
    with seeded(0, torch.device("cpu")), torch.no_grad():
        try:
            kept = module(torch.ones(64, 4, 4, 4)).flatten(1)
        except BaseException as error:
            raise_interrupt(error)
            return True
    return bool((kept == kept[:, :1]).all())


class _Drops(TorchFunctionMode):
    """Hears of every call of a function that drops values; off: it gives its input back.

    drawn: hears of every draw of random numbers.
    """

    def __init__(self, off: bool, note: Callable[[], None], drawn: Callable[[Any], None]) -> None:
        super().__init__()
        self.off, self.note, self.drawn = off, note, drawn

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DROPS:
            rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            training = kwargs.get("training", args[2] if len(args) > 2 else True)
            if rate and training:
                self.note()
                if self.off:
                    return args[0] if args else kwargs["input"]
        given = func(*args, **kwargs)
        if func in _DRAWS:
            self.drawn(given)
        return given


def dropout_shifts(
    model: nn.Module,
    batches: Sequence[DataBatch],
    layers: Sequence[StatisticsLayer],
    branches: bool = True,
) -> dict[str, Shift]:
    """The shift of every layer that noise runs before. Leaves the model as it was.

    branches: also where the noise is stochastic depth alone, which drops whole branches of a sample.
    """
    run = _Runs(model, layers)
    probe = run(batches[:1], 1, off=False)
    if not any(branches or not whole for _, whole in probe.by.values()):
        return {}
    on, off = run(batches, REPEATS, off=False), run(batches, 1, off=True, quiet=probe.noisy)
    shifts: dict[str, Shift] = {}
    for layer in layers:
        if layer.name not in on.by or layer.name not in off.statistics:
            continue
        with_noise, without = _recorded(on.statistics[layer.name]), _recorded(off.statistics[layer.name])
        shifts[layer.name] = Shift(_ratio(with_noise, without), *on.by[layer.name], with_noise.total)
    return shifts


Calls = list[tuple[int, Tensor, Tensor]]


class _Runs:
    """Passes in training mode, with noise on or off, and what they recorded."""

    def __init__(self, model: nn.Module, layers: Sequence[StatisticsLayer]) -> None:
        self.model, self.layers = model, layers
        self.names = {id(module): name for name, module in model.named_modules()}
        self.statistics: dict[str, Calls] = {}
        self.by: dict[str, tuple[str, bool]] = {}
        self.noisy: set[str] = set()
        self._last: tuple[str, bool] | None = None
        self._scopes: list[str] = []

    def __call__(
        self, batches: Sequence[DataBatch], repeats: int, *, off: bool, quiet: Iterable[str] = ()
    ) -> _Runs:
        """A record of its own. quiet: modules with noise of their own, which run as in inference."""
        record = _Runs(self.model, self.layers)
        with untouched(self.model) as device, torch.no_grad(), ExitStack() as stack:
            seed_streams(_SEED, device)
            training_flags(self.model)
            noise = noise_modules(self.model)
            whole = {name: drops_branches(module) for name, module in noise.items()}
            for name, module in noise.items():
                if off:
                    module.eval()
                stack.callback(module.register_forward_pre_hook(record._drops(name, whole[name])).remove)
            tracked = [self.model.get_submodule(layer.name) for layer in self.layers]
            for scope in quiet:
                if all(module is not self.model.get_submodule(scope) for module in tracked):
                    self.model.get_submodule(scope).training = False
            for layer, module in zip(self.layers, tracked, strict=True):
                stack.callback(module.register_forward_pre_hook(record._enters(layer.name)).remove)
            record._follow(stack)
            with _Drops(off, record._function, record._drawn):
                for batch in batches:
                    for _ in range(repeats):
                        record._last = None
                        called(self.model, batch.inputs, device)
        return record

    def _follow(self, stack: ExitStack) -> None:
        """Know in which module's forward a function is called."""
        for name, module in self.model.named_modules():
            stack.callback(
                module.register_forward_pre_hook(lambda *_, name=name: self._scopes.append(name)).remove
            )
            stack.callback(module.register_forward_hook(lambda *_: self._leave(), always_call=True).remove)

    def _leave(self) -> None:
        if self._scopes:
            self._scopes.pop()

    def _drops(self, name: str, whole: bool) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            rates = [rate for key in _RATES if isinstance(rate := getattr(module, key, None), float | int)]
            if module.training and (any(rates) or not rates):
                self._last = f"{type(module).__name__} {name}", whole

        return hook

    def _function(self) -> None:
        scope = self._scopes[-1] if self._scopes else ""
        if self._last is None or not self._last[0].endswith(f" {scope}"):  # else it is that module's function
            self._last = f"dropout in {scope or 'the network itself'}", False

    def _drawn(self, numbers: Any) -> None:
        """Random numbers of a forward: one for each sample drops (or scales) whole branches."""
        scope = self._scopes[-1] if self._scopes else ""
        if self._last is not None and self._last[0].endswith(f" {scope}"):
            return
        self.noisy.add(scope)
        whole = isinstance(numbers, Tensor) and numbers.ndim > 1 and numbers.numel() == len(numbers)
        self._last = f"the noise in {scope or 'the network itself'}", whole

    def _enters(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            self.statistics.setdefault(name, []).append(input_statistics(arguments))
            if self._last is not None:
                self.by.setdefault(name, self._last)

        return hook


def _recorded(calls: Calls) -> LayerStatistics:
    """Every call by itself."""
    counts = torch.tensor([count for count, _, _ in calls], dtype=torch.float64)
    means, variances = (
        torch.stack(column).cpu() for column in ([c[1] for c in calls], [c[2] for c in calls])
    )
    return LayerStatistics(counts, means, variances, ())


def _ratio(on: LayerStatistics, off: LayerStatistics) -> Measure:
    """The median over channels of the ratio of variances, with its interval over batches."""

    def median(first: Tensor, second: Tensor) -> Tensor:
        return (first / second.clamp(min=torch.finfo(torch.float64).tiny)).quantile(0.5, -1)

    value, batches = float(median(on.total[1], off.total[1])), len(off.counts)
    if batches < FEWEST or len(on.counts) != REPEATS * batches:
        return Measure(value, float("nan"), float("nan"))
    weights = resampled(batches)
    drawn = median(on.weighted(weights.repeat_interleave(REPEATS, 1))[1], off.weighted(weights)[1])
    return Measure(value, float(drawn.quantile(0.025)), float(drawn.quantile(0.975)))
