"""Padding, other samples and later positions: which of them change a normalizer's output at a valid position.

The same valid numbers are given again with other numbers in the padding, with more padding after every sequence, and
with whole sequences of padding; in training and at inference, in float32 and float64. Compared are the outputs and the
input gradients at valid positions, the gradients of the parameters, and what training keeps. Numbers of a float32 layer
must be equal bit for bit, but for the gradients of parameters, whose sums a kernel may order by the batch's size: these
to 1e-5 relative. Everything of a float64 layer: to 1e-12 relative.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError, LayerError
from bnbench.base.process_state import seeded
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.norms import norms
from bnbench.norms.named import NamedLayer
from bnbench.norms.tokens import TokenNorm, forward_arguments, has_mask_argument
from bnbench.verification.dependence import MODES, Dependence, Dependences
from bnbench.verification.target import Target, find_target
from bnbench.verification.wishes import Wishes

#: Valid positions of each sequence, the longest first; as many channels as 2 groups of `group` have.
LENGTHS, CHANNELS = (7, 4, 2, 6), 32
#: Sequences and positions of padding that are appended.
APPENDED = ((0, 0), (0, 1), (3, 0), (9, 57))
#: What fills the padding: normal numbers times the first, plus the second.
FILLS = ((0.0, 0.0), (30.0, -5.0))
EXACT, ROUNDED = 1e-12, 1e-5
CPU = torch.device("cpu")
Make = Callable[[], nn.Module]
Values = dict[str, Tensor]


def judge(word: str = "", wishes: Wishes | None = None) -> Dependences:
    """The normalizer named `word` as `verify` names it, "" for every registered one. wishes: eps and momentum.

    Raises LayerError without such a layer, or where it takes no tokens in any form.
    """
    values = values_of(wishes or Wishes())
    words = [word] if word else norms.names()
    return Dependences(tuple(judge_layer(find_target(name), values) for name in words))


def values_of(wishes: Wishes) -> dict[str, float | None]:
    """Eps and momentum as a layer's factory takes them, where they were given."""
    momentum = None if wishes.momentum == "none" else wishes.momentum
    values = {"eps": wishes.eps, "momentum": momentum}
    given = {"eps": wishes.eps is not None, "momentum": wishes.momentum is not None}
    return {name: value for name, value in values.items() if given[name]}


def judge_layer(target: Target, values: Mapping[str, float | None]) -> Dependence:
    """One layer. Raises LayerError where it takes no tokens in any form."""
    named = target.layer
    facts = norms.get(named.name).facts if is_registered(named) else None
    if facts and facts.not_over_tokens:
        why, fix = facts.not_over_tokens
        return Dependence(named.name, refused=f"{why} Fix: {fix}")

    def make() -> nn.Module:
        return target.make(CHANNELS, 1, values)

    try:
        with seeded(0, CPU):
            layer = make()
    except BnbenchError as error:
        if not is_registered(named):
            raise
        return Dependence(named.name, refused=" ".join(filter(None, (error.what, error.why))))
    takes_mask = has_mask_argument(layer) if facts is None or facts.takes_mask is None else facts.takes_mask
    whole = bool(facts and facts.whole_sequences)
    trial = _Trial(named.name, make, takes_mask, whole)
    return trial.judged()


def is_registered(layer: NamedLayer) -> bool:
    """Whether it is a registered normalizer, not one of a file or a module."""
    return layer.file is None and layer.module is None and layer.name in norms.names()


@dataclass(frozen=True)
class _Batch:
    """x and toward (N, T, C), zero gradients at padding; mask (N, T), True where valid."""

    x: Tensor
    toward: Tensor
    mask: Tensor


def batch(seed: int, dtype: torch.dtype) -> _Batch:
    """Valid numbers far from mean 0, and random gradients; the padding holds zeros."""
    draw = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS), CHANNELS)
    mask = torch.arange(shape[1]) < torch.tensor(LENGTHS)[:, None]
    keep = mask[..., None]
    x = 3 + 2 * torch.randn(shape, generator=draw, dtype=torch.float64)
    toward = torch.randn(shape, generator=draw, dtype=torch.float64)
    return _Batch((x * keep).to(dtype), (toward * keep).to(dtype), mask)


def padded(given: _Batch) -> Iterator[tuple[str, _Batch]]:
    """The same valid numbers with other padding; what was done to it, in words."""
    draw = torch.Generator().manual_seed(9)
    for sequences, positions in APPENDED:
        for scale, shift in FILLS:
            if (sequences, positions, scale, shift) == (0, 0, 0.0, 0.0):
                continue
            count, length, channels = given.x.shape
            shape = (count + sequences, length + positions, channels)
            noise = torch.randn(shape, generator=draw, dtype=torch.float64).to(given.x.dtype)
            x, toward, mask = noise * scale + shift, torch.zeros_like(noise), torch.zeros(shape[:2]).bool()
            mask[:count, :length] = given.mask
            x[mask], toward[mask] = given.x[given.mask], given.toward[given.mask]
            words = [_counted(sequences, "sequence of padding")] * (sequences > 0)
            words += [f"{_counted(positions, 'position of padding')} after every sequence"] * (positions > 0)
            what = " and ".join(words) or "other numbers in the padding"
            yield what, _Batch(x, toward, mask)


class _Trial:
    """A normalizer under trial; every call starts from a copy of the same layer, and from the same random streams."""

    def __init__(self, name: str, make: Make, takes_mask: bool, whole: bool) -> None:
        self.name, self.takes_mask, self.whole = name, takes_mask, whole
        self.form, self.layers = self._working(make)
        arguments = forward_arguments(self.layers[torch.float32])[1:]
        self.other_mask = next((name for name in arguments if "mask" in name or "lengths" in name), "")

    def _working(self, make: Make) -> tuple[str, dict[torch.dtype, nn.Module]]:
        """The first form in which the layer can be called, and the layer after two steps of training."""
        errors: list[str] = []
        for form in FORMS:
            try:
                with seeded(0, CPU):
                    layer = make()
                _move_parameters(layer)
                for seed in (1, 2):
                    given = batch(seed, torch.float32)
                    y = self._call(layer, form, given)
                    if y.requires_grad:
                        torch.autograd.backward((y * given.toward).sum())
                    layer.zero_grad()
                return form, {torch.float32: layer, torch.float64: copy.deepcopy(layer).double()}
            except BaseException as error:
                raise_interrupt(error)
                errors.append(f"{form}: {text_of(error)}")
        raise LayerError(
            f"{self.name} does not take tokens in any form.",
            " ".join(f"{error.rstrip('.')}." for error in errors),
            "forward(x) or forward(x, mask) with x (positions, C) and mask (positions,), True where valid, "
            "that returns the shape of x.",
        )

    def _call(self, layer: nn.Module, form: str, given: _Batch) -> Tensor:
        x = given.x
        if form == FORMS[0]:
            y: Tensor = TokenNorm(layer, self.takes_mask, self.whole)(x, given.mask)
        else:
            turned = form == FORMS[2]
            x = x.transpose(1, 2) if turned else x
            y = layer(x, given.mask) if self.takes_mask else layer(x)
            y = y.transpose(1, 2) if turned and isinstance(y, Tensor) and y.dim() == 3 else y
        if not isinstance(y, Tensor) or y.shape != given.x.shape:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"it was given {tuple(x.shape)} and returned {got}")
        return y

    def judged(self) -> Dependence:
        """All trials."""
        changed = {mode: tuple(self._changed(mode)) for mode in MODES}
        found = {mode: lines for mode, lines in changed.items() if lines}
        lines = tuple(f"{mode}: {line}" for mode, lines in found.items() for line, _ in lines)
        largest = max((size for lines in found.values() for _, size in lines), default=0.0)
        called = f"forward({self.form}{', mask' * self.takes_mask})"
        return Dependence(
            self.name,
            self.takes_mask,
            called if not self.whole else "forward((N, C, T))",
            tuple(found),
            self._modes(_other_samples),
            self._modes(_later_positions),
            lines,
            min(largest, sys.float_info.max),
            "" if self.takes_mask else self.other_mask,
        )

    def _results(self, mode: str, given: _Batch) -> Values:
        """Everything that padding must leave as it is, of one step."""
        layer = copy.deepcopy(self.layers[given.x.dtype]).train(mode == "training")
        x = given.x.clone().requires_grad_()
        with seeded(3, CPU):
            y = self._call(layer, self.form, _Batch(x, given.toward, given.mask))
            if y.requires_grad:
                torch.autograd.backward((y * given.toward).sum())
        values = {"valid outputs": y.detach()[given.mask]}
        if x.grad is not None:
            values["gradients of valid inputs"] = x.grad[given.mask]
        for name, parameter in layer.named_parameters():
            if parameter.grad is not None:
                values[f"the gradient of {name}"] = parameter.grad
        for name, buffer in layer.named_buffers():
            if buffer.is_floating_point():
                values[f"what training keeps in {name}"] = buffer
        return values

    def _changed(self, mode: str) -> Iterator[tuple[str, float]]:
        """What padding changed, one line a kind of number, and its largest change."""
        worst: dict[str, tuple[float, str]] = {}
        for dtype in (torch.float32, torch.float64):
            given = batch(5, dtype)
            expected = self._results(mode, given)
            for what, other in padded(given):
                for name, value in self._results(mode, other).items():
                    size = _difference(expected[name], value)
                    allowed = EXACT if dtype == torch.float64 else ROUNDED * name.startswith("the gradient")
                    if size > allowed and size > worst.get(name, (0.0, ""))[0]:
                        kind = str(dtype).removeprefix("torch.")
                        worst[name] = size, f"{what} changed {name} by {size:.2g} of the largest ({kind})"
        yield from ((line, size) for size, line in worst.values())

    def _modes(self, change: Callable[[_Batch], tuple[_Batch, Tensor]]) -> tuple[str, ...]:
        """The modes in which a change of the batch changes outputs that it should leave alone."""
        given = batch(5, torch.float64)
        other, compared = change(given)
        return tuple(
            mode
            for mode in MODES
            if _difference(self._outputs(mode, given)[compared], self._outputs(mode, other)[compared]) > EXACT
        )

    def _outputs(self, mode: str, given: _Batch) -> Tensor:
        layer = copy.deepcopy(self.layers[given.x.dtype]).train(mode == "training")
        with seeded(3, CPU), torch.no_grad():
            return self._call(layer, self.form, given)


def _counted(number: int, thing: str) -> str:
    """For example "9 sequences of padding"."""
    return f"{number} {thing if number == 1 else thing.replace(' of', 's of', 1)}"


#: How a layer may be called over tokens; the first is how bnbench's networks call it.
FORMS = ("(N * T, C)", "(N, T, C)", "(N, C, T)")


def _other_samples(given: _Batch) -> tuple[_Batch, Tensor]:
    """Other numbers in every sequence but the first, whose valid outputs are compared."""
    x = given.x.clone()
    x[1:] = torch.where(given.mask[1:, :, None], 2 * x[1:].flip(2) - 5, x[1:])
    compared = given.mask.clone()
    compared[1:] = False
    return _Batch(x, given.toward, given.mask), compared


def _later_positions(given: _Batch) -> tuple[_Batch, Tensor]:
    """Other numbers from the fourth position of the first sequence on; the ones before are compared."""
    x = given.x.clone()
    x[0, 3:] = 2 * x[0, 3:].flip(1) - 5
    compared = torch.zeros_like(given.mask)
    compared[0, :3] = True
    return _Batch(x, given.toward, given.mask), compared


def _move_parameters(layer: nn.Module) -> None:
    """Away from 0 and 1."""
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 + 0.3 * torch.rand(parameter.shape, generator=draw).to(parameter))


def _difference(expected: Tensor, value: Tensor) -> float:
    """The largest difference, relative to the largest number; 0.0 only where all are equal bit for bit."""
    if torch.equal(expected, value):
        return 0.0
    gap = (expected - value).abs().max() / expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return float(gap) if gap.isfinite() else float("inf")
