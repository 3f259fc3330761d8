"""One layer on one shape of input: made, fed and read in one way by all checks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.base.seeding import generator
from bnbench.verification import formulas, hidden, reference
from bnbench.verification.cause import BACKWARD, Cause
from bnbench.verification.causes import usual_causes
from bnbench.verification.fit import close, deviation, explain
from bnbench.verification.formulas import Formula
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.parts import Parts, unknown_parameters
from bnbench.verification.rules import Rules, describe_tensor, is_ordinary
from bnbench.verification.wishes import INPUTS

CHANNELS = 5
#: No two axes alike, so that statistics over the wrong axis can't come out right by chance.
SHAPES = dict(
    zip(INPUTS, ((7, CHANNELS), (6, CHANNELS, 4), (7, CHANNELS, 3, 4), (7, CHANNELS, 2, 3, 4)), strict=True)
)
#: Relative error allowed in float32, of outputs and statistics, and of gradients.
TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 3e-4
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Subject:
    """A layer (made by `maker`) on inputs of one shape. parts: where its vectors are."""

    input: str
    maker: Callable[[], nn.Module]
    parts: Parts
    rules: Rules

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the input, with channels at axis 1."""
        return SHAPES[self.input]

    @property
    def rank(self) -> int:
        """The number of axes of the input."""
        return len(self.shape)

    def layer(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A fresh layer in training mode, every parameter changed: gamma and beta, and those without a role."""
        layer = self.maker().train()
        for role, values in (("gamma", self.gamma), ("beta", self.beta)):
            if role in self.parts:
                self._write(layer, role, values)
        for part in unknown_parameters(layer, self.parts):
            tensor = part.read(layer)
            with torch.no_grad(), contextlib.suppress(Exception):
                draw = generator(0, "verify", "unknown", part.path)
                tensor.copy_(torch.rand(tensor.shape, generator=draw) * 1.5 + 0.5)
        return layer.to(dtype)

    def _write(self, layer: nn.Module, role: str, values: Tensor) -> None:
        part = self.parts[role]
        try:
            wide = part.read(layer).numel()
        except (AttributeError, KeyError, IndexError):  # made in the first step
            layer(self.data("before the parameters"))
            wide = part.read(layer).numel()
        part.write(layer, values[:1] if wide == 1 else values)

    @cached_property
    def gamma(self) -> Tensor:
        """(C,) float64: what `layer` sets, or the 1 of a layer that has none."""
        return self._vector("gamma", 1.0, 0.5, 2.0)

    @cached_property
    def beta(self) -> Tensor:
        """(C,) float64: what `layer` sets, or the 0 of a layer that has none."""
        return self._vector("beta", 0.0, 2.5, 4.0)

    def is_shared(self, role: str) -> bool:
        """Whether the layer has one number of that role for all channels."""
        return role in self.parts and self.parts[role].vector(self._made).numel() == 1

    @cached_property
    def _made(self) -> nn.Module:
        layer = self.maker()
        with contextlib.suppress(Exception):
            layer(self.data("before the parameters"))
        return layer

    def _vector(self, role: str, without: float, low: float, high: float) -> Tensor:
        if role not in self.parts:
            return torch.full((CHANNELS,), without, dtype=torch.float64)
        size = torch.rand(CHANNELS, generator=generator(0, "verify", role)) * (high - low) + low
        signs = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
        values = (size * signs).double()
        return values[:1].expand(CHANNELS) if self.is_shared(role) else values

    def data(self, *stream: object, eps: bool = True, samples: int | None = None) -> Tensor:
        """A float32 batch. With eps, channels 0 and 4 have variances below and near eps, so that eps matters."""
        shape = (samples or self.shape[0], *self.shape[1:])
        noise = torch.randn(shape, generator=generator(0, "verify", self.input, *stream))
        small = min(max(self.rules.eps, 1e-6), 1e4) ** 0.5
        spread = torch.tensor([0.6 * small, 1.0, 2.0, 0.3, 5 * small] if eps else [0.7, 1.0, 2.0, 0.5, 1.5])
        centre = spread * torch.tensor([1.5, -0.7, 0.4, -1.2, 0.9])
        return noise * self.column(spread) + self.column(centre)

    def column(self, vector: Tensor) -> Tensor:
        """(C,) -> (C, 1, ...), along the channels of an input."""
        return vector.reshape(-1, *[1] * (self.rank - 2))

    def output(self, layer: nn.Module, x: Tensor, *, as_is: bool = False) -> Tensor:
        """The layer's output for x. Raises Wrong where it is not a tensor of x's shape.

        as_is: x itself goes in, not a copy (which a layer that writes into its input would spoil).
        """
        y: Any = layer(x if as_is else x.clone())
        if not isinstance(y, Tensor):
            raise Wrong(f"forward returned {type(y).__name__}, not a tensor")
        if not is_ordinary(y):
            raise Wrong(f"forward returned {describe_tensor(y)}, not real numbers in memory")
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

    @cached_property
    def statistics_are(self) -> Literal["tensors", "hidden", "absent"]:
        """Whether the running statistics are among the layer's tensors, show in eval alone, or are not there."""
        if set(STATISTICS) <= set(self.parts):
            return "tensors"
        return "absent" if hidden.uses_batch_in_eval(self) else "hidden"

    def statistics(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """The layer's running mean and variance now, flat, float64: read, or solved for from what eval gives."""
        if self.statistics_are == "hidden":
            return hidden.statistics(self, layer)
        return self.parts["running_mean"].vector(layer), self.parts["running_var"].vector(layer)

    def set_statistics(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """Running statistics of known values, put into the layer; the values, (C,) float64."""
        if self.statistics_are == "hidden":
            raise Skip("its running statistics are not among its tensors, and can't be set")
        eps = min(max(self.rules.eps, 1e-6), 1e4)
        mean = torch.tensor([0.5, -1.0, 0.25, 2.0, -0.5], dtype=torch.float64)
        var = torch.tensor([eps / 4, 2.0, 0.7, 3.0, 20 * eps], dtype=torch.float64).float().double()
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
        if self.statistics_are != "tensors":
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
        """The identified mistakes in the forward pass; other checks start from them.

        They have to fit on two batches of different sizes.
        """
        if not self.forward_is_wrong:
            return ()
        batches = [self.data("forward"), self.data("forward again", samples=self.shape[0] + 4)]
        seen = [(x, self.output(self.layer(), x).detach()) for x in batches]

        def fits(formula: Formula) -> bool:
            each = ((y, formulas.forward(x.double(), self.gamma, self.beta, formula)) for x, y in seen)
            return all(close(y, predicted, TOLERANCE) for y, predicted in each)

        return self.explain("forward", fits)

    @cached_property
    def foreign_words(self) -> tuple[str, ...]:
        """Parameters that batch norm does not have, where they alone make the output wrong."""
        unknown = unknown_parameters(self.maker(), self.parts)
        if not unknown or not self.forward_is_wrong:
            return ()
        layer, x = self.maker().train(), self.data("forward")
        for role, values in (("gamma", self.gamma), ("beta", self.beta)):
            if role in self.parts:
                self._write(layer, role, values)
        if deviation(self.output(layer, x).detach(), self.forward_expected(x), 1) > TOLERANCE:
            return ()
        return tuple(f"{part.path} is a parameter that batch norm does not have" for part in unknown)

    def training_under(self, formula: Formula, x: Tensor) -> Mapping[str, Tensor]:
        """The predictions of a formula in training."""
        upstream = self.upstream.double() if x.shape == self.shape else torch.ones_like(x).double()
        return formulas.training(x.double(), self.gamma, self.beta, upstream, formula)

    def explain(
        self, check: str, fits: Callable[[Formula], bool], known: tuple[Cause, ...] = ()
    ) -> tuple[Cause, ...]:
        """The mistakes of the table that fit. known: those of the forward pass, which this check may share."""
        table = usual_causes(self.rules.right, self.rules.weight_of, self.rules.measured)
        if check in BACKWARD and self.forward_is_wrong and not known:
            return ()  # the derivative of something that nobody understands
        if check in BACKWARD:
            table = [cause for cause in table if "forward" not in cause.shows_in]  # those are settled
        if self.statistics_are == "absent":  # what is not there is not used
            table = [cause for cause in table if "in_training" not in dict(cause.change)]
        return explain(fits, table, check, self.rank, self.rules.right, known)


def _numpy(x: Tensor) -> reference.Array:
    return np.asarray(x.detach().double().numpy())
