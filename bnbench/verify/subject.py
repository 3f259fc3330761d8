"""One layer on one shape of input: made, fed and read in one way by all checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.seeding import generator
from bnbench.verify import formulas, reference
from bnbench.verify.causes import BACKWARD, Cause, deviation, explain, usual_causes
from bnbench.verify.findings import INPUTS
from bnbench.verify.formulas import Formula
from bnbench.verify.outcome import Skip, Wrong
from bnbench.verify.parts import Parts

CHANNELS = 5
#: No two axes alike, so that statistics over the wrong axis can't come out right by chance.
SHAPES = dict(zip(INPUTS, ((7, CHANNELS), (6, CHANNELS, 4), (7, CHANNELS, 3, 4)), strict=True))
#: Relative error allowed in float32, of outputs and statistics, and of gradients.
TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 3e-4


@dataclass(frozen=True)
class Rules:
    """The conventions that the layer is held to. momentum: as the layer gets it; weight_of: of which value."""

    eps: float
    momentum: float
    weight_of: Literal["new", "old"]
    kept: Literal["unbiased", "biased"]

    @property
    def new_weight(self) -> float:
        """The weight of the new value in the running statistics."""
        return self.momentum if self.weight_of == "new" else 1 - self.momentum

    @property
    def right(self) -> Formula:
        """The formula that is right under these conventions."""
        return Formula(self.eps, self.new_weight, self.kept)


@dataclass(frozen=True)
class Subject:
    """A layer (made by `maker`) on inputs of one shape. parts: where its vectors are."""

    input: str
    maker: Callable[[], nn.Module]
    parts: Parts
    rules: Rules

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input, channels at axis 1."""
        return SHAPES[self.input]

    @property
    def rank(self) -> int:
        """The number of axes of the input."""
        return len(self.shape)

    def layer(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A fresh layer in training mode; its gamma and beta, where it has them, are not 1 and 0."""
        layer = self.maker().train()
        for role, values in (("gamma", self.gamma), ("beta", self.beta)):
            if role in self.parts:
                self.parts[role].write(layer, values)
        return layer.to(dtype)

    @cached_property
    def gamma(self) -> Tensor:
        """(C,) float64: what `layer` sets, or the 1 of a layer that has none."""
        return self._vector("gamma", 1.0, 0.5, 2.0)

    @cached_property
    def beta(self) -> Tensor:
        """(C,) float64: what `layer` sets, or the 0 of a layer that has none."""
        return self._vector("beta", 0.0, 2.5, 4.0)

    def _vector(self, role: str, without: float, low: float, high: float) -> Tensor:
        if role not in self.parts:
            return torch.full((CHANNELS,), without, dtype=torch.float64)
        size = torch.rand(CHANNELS, generator=generator(0, "verify", role)) * (high - low) + low
        signs = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
        return (size * signs).double()

    def data(self, *stream: object, eps: bool = True) -> Tensor:
        """A float32 batch. With eps, channels 0 and 4 have variances near eps, so that eps matters."""
        noise = torch.randn(self.shape, generator=generator(0, "verify", self.input, *stream))
        small = max(self.rules.eps, 1e-6) ** 0.5
        spread = torch.tensor([small, 1.0, 2.0, 0.3, 5 * small] if eps else [0.7, 1.0, 2.0, 0.5, 1.5])
        centre = spread * torch.tensor([1.5, -0.7, 0.4, -1.2, 0.9])
        return noise * self.column(spread) + self.column(centre)

    def column(self, vector: Tensor) -> Tensor:
        """(C,) -> (C, 1, ...), along the channels of an input."""
        return vector.reshape(-1, *[1] * (self.rank - 2))

    def output(self, layer: nn.Module, x: Tensor, *, as_is: bool = False) -> Tensor:
        """What the layer makes of x. Raises Wrong where that is no tensor of x's shape.

        as_is: x itself goes in, not a copy (which a layer that writes into its input would spoil).
        """
        y: Any = layer(x if as_is else x.clone())
        if not isinstance(y, Tensor):
            raise Wrong(f"forward returned {type(y).__name__}, not a tensor")
        if y.shape != x.shape:
            raise Wrong(f"forward returned shape {tuple(y.shape)} for an input of shape {tuple(x.shape)}")
        return y

    def forward_expected(self, x: Tensor) -> Tensor:
        """The right output in training, float64."""
        return torch.from_numpy(
            reference.forward(_numpy(x), _numpy(self.gamma), _numpy(self.beta), self.rules.eps)
        )

    def inference_expected(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """The right output in eval with these running statistics, float64."""
        gamma, beta = _numpy(self.gamma), _numpy(self.beta)
        return torch.from_numpy(
            reference.inference(_numpy(x), _numpy(mean), _numpy(var), gamma, beta, self.rules.eps)
        )

    def statistics(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """The layer's running mean and variance now, flat, float64."""
        return self.parts["running_mean"].vector(layer), self.parts["running_var"].vector(layer)

    def set_statistics(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """Running statistics of known values, put into the layer; the values, (C,) float64."""
        eps = max(self.rules.eps, 1e-6)
        mean = torch.tensor([0.5, -1.0, 0.25, 2.0, -0.5], dtype=torch.float64)
        var = torch.tensor([eps, 2.0, 0.7, 3.0, 20 * eps], dtype=torch.float64).float().double()
        self.output(layer, self.data("before the statistics"))  # some layers make them in their first step
        wide = self.parts["running_mean"].vector(layer).numel()
        if wide != CHANNELS:
            raise Skip(f"its running statistics hold {wide} numbers, not one per channel")
        self.parts["running_mean"].write(layer, mean)
        self.parts["running_var"].write(layer, var)
        return mean, var

    def trained(self, steps: int = 3) -> tuple[nn.Module, list[Tensor]]:
        """A layer after a few training steps (forward alone), and the batches."""
        layer = self.layer()
        batches = [self.data("step", step) for step in range(steps)]
        for x in batches:
            self.output(layer, x)
        return layer, batches

    @cached_property
    def upstream(self) -> Tensor:
        """The gradient that comes from above, float32, of the input's shape."""
        return torch.randn(self.shape, generator=generator(0, "verify", self.input, "upstream"))

    @cached_property
    def forward_is_wrong(self) -> bool:
        """Whether the output in training is wrong on an ordinary batch; then finer checks say nothing."""
        x = self.data("forward")
        return deviation(self.output(self.layer(), x).detach(), self.forward_expected(x), 1) > TOLERANCE

    @cached_property
    def eval_is_wrong(self) -> bool:
        """Whether the output in eval is wrong for the running statistics that the layer has, if it has any."""
        if not {"running_mean", "running_var"} <= set(self.parts):
            return False
        layer = self.layer()
        try:
            mean, var = self.set_statistics(layer)
        except Skip:
            return True
        x = self.data("eval")
        y = self.output(layer.eval(), x).detach()
        return deviation(y, self.inference_expected(x, mean, var), 1) > TOLERANCE

    @property
    def outputs_are_wrong(self) -> bool:
        """In training or in eval."""
        return self.forward_is_wrong or self.eval_is_wrong

    @cached_property
    def forward_causes(self) -> tuple[Cause, ...]:
        """The mistakes in the forward pass, where they were found out; other checks start from them."""
        if not self.forward_is_wrong:
            return ()
        x = self.data("forward")
        y = self.output(self.layer(), x).detach()

        def fits(formula: Formula) -> bool:
            return deviation(y, self.training_under(formula, x)["forward"], 1) <= TOLERANCE

        return self.explain("forward", fits)

    def training_under(self, formula: Formula, x: Tensor) -> Mapping[str, Tensor]:
        """What a formula would give in training."""
        return formulas.training(x.double(), self.gamma, self.beta, self.upstream.double(), formula)

    def explain(
        self, check: str, fits: Callable[[Formula], bool], known: tuple[Cause, ...] = ()
    ) -> tuple[Cause, ...]:
        """The mistakes of the table that fit. known: those of the forward pass, which this check may share."""
        table = usual_causes(self.rules.right, self.rules.weight_of)
        if check in BACKWARD and (known or not self.forward_is_wrong):
            table = [cause for cause in table if "forward" not in cause.shows_in]  # those are settled
        if "running_mean" not in self.parts:  # what is not there is not used
            table = [cause for cause in table if "in_training" not in dict(cause.change)]
        return explain(fits, table, check, self.rank, self.rules.right, known)


def _numpy(x: Tensor) -> reference.Array:
    return np.asarray(x.detach().double().numpy())


def hold(
    size: float, tolerance: float, causes: Callable[[], tuple[object, ...]] = tuple, what: str = ""
) -> None:
    """Raise Wrong where the error is larger than allowed; only then are causes looked for."""
    if size <= tolerance:
        return
    words, head = [str(cause) for cause in causes()], f"{what} is " if what else ""
    if size == float("inf"):
        raise Wrong(f"{head}NaN or infinite", causes=words)
    raise Wrong(f"{head}off by {size:.2g}", size, tolerance, words)
