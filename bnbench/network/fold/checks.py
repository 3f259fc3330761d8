"""Four comparisons of a folded network with the one that it was made of. No tolerance in them is chosen by hand.

float64: what the algebra leaves when rounding is all but gone. The network's own type: the folded network may round
twice as much as the network itself does, measured against float64. Predictions: how many largest entries moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.network_records import Proof
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.fold.inputs import Trial, call, change_real
from bnbench.network.fold.precision import InFloat64, real_tensors

#: The difference that the algebra may leave in float64, relative to the largest entry of the output.
LARGEST = 1e-10
#: How much more than the network itself the folded one may round; and what is always allowed, in ulp.
FACTOR, ULPS = 2.0, 8.0


@dataclass(frozen=True)
class Pair:
    """A network and the same folded, or the same in another type."""

    own: nn.Module
    folded: nn.Module


def outputs(model: nn.Module, batch: Any, *, wide: bool) -> list[Tensor]:
    """Every real tensor that the network gives, as float64. wide: it runs in float64."""
    with torch.no_grad():
        if not wide:
            return [tensor.double() for tensor in real_tensors(call(model, batch))]
        with InFloat64():
            return real_tensors(call(model, change_real(batch, Tensor.double)))


def difference(own: list[Tensor], other: list[Tensor]) -> float:
    """The largest difference relative to the largest entry of each tensor; inf where shapes or infinities differ."""
    if len(own) != len(other):
        return float("inf")
    worst = 0.0
    for one, two in zip(own, other, strict=True):
        if one.shape != two.shape:
            return float("inf")
        finite = torch.isfinite(one)
        same = (one == two) | (one.isnan() & two.isnan())
        if not torch.equal(finite, torch.isfinite(two)) or not bool((same | finite).all()):
            return float("inf")
        if bool(finite.any()):
            gap, size = (one - two)[finite].abs().max().item(), one[finite].abs().max().item()
            worst = max(worst, gap / size if size else (0.0 if gap == 0 else float("inf")))
    return worst


def in_float64(pair: Pair, trials: Iterable[Trial]) -> Proof:
    """Both in float64, on random and on adversarial inputs."""
    worst, at, done, skipped = 0.0, "", 0, []
    for trial in trials:
        try:
            own = outputs(pair.own, trial.batch, wide=True)
        except BaseException as error:  # whatever the network raises on an unusual input
            raise_interrupt(error)
            if trial.needed:
                return Proof("float64", None, None, f"the network fails in float64: {first_line(error)}")
            skipped.append(trial.name)
            continue
        gap = difference(own, outputs(pair.folded, trial.batch, wide=True))
        done += 1
        if gap > worst or not at:
            worst, at = gap, trial.name
    text = f"largest difference of the outputs over {done} kinds of inputs ({at}), of the largest entry"
    text += f"; not taken by the network: {', '.join(skipped)}" if skipped else ""
    return Proof("float64", worst <= LARGEST, worst, f"{text}; allowed: {LARGEST:g}")


def in_own_type(pair: Pair, exact: nn.Module, batches: list[Any]) -> Proof:
    """Both in the type of the network's parameters, against its own outputs in float64."""
    dtype = dtype_of(pair.own)
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.float64:
        return Proof(
            name + " rounding", None, None, "the network is float64: the first comparison is the whole"
        )
    own = folded = 0.0
    for batch in batches:
        truth = outputs(exact, batch, wide=True)
        own = max(own, difference(truth, outputs(pair.own, batch, wide=False)))
        folded = max(folded, difference(truth, outputs(pair.folded, batch, wide=False)))
    ulps = folded / torch.finfo(dtype).eps
    text = (
        f"error against float64 over {_count(batches)} inputs, of the largest entry: {folded:.2g} folded, {own:.2g} as "
        f"it was; allowed: twice that, or {ULPS:g} ulp"
    )
    return Proof(f"{name} rounding", folded <= FACTOR * own or ulps <= ULPS, folded, text)


def predictions(pair: Pair, exact: nn.Module, batches: list[Any], source: str) -> Proof:
    """The inputs whose largest output is another one. A tie within rounding may fall either way, and is counted too."""
    flips = number = wrong = 0
    for batch in batches:
        truth = outputs(exact, batch, wide=True)
        own, folded = (outputs(model, batch, wide=False) for model in (pair.own, pair.folded))
        if not own or own[0].dim() < 2 or own[0].shape[1] < 2:
            return Proof("predictions", None, None, "the network gives no scores of classes")
        one, two = (scores[0].argmax(1, keepdim=True) for scores in (own, folded))
        size = truth[0].abs().max().item()
        rounding = (
            max(difference(truth[:1], own[:1]) * FACTOR, ULPS * torch.finfo(dtype_of(pair.own)).eps) * size
        )
        margin = (truth[0].gather(1, one) - truth[0].gather(1, two)).abs()
        flips += int((one != two).sum())
        wrong += int((margin > 2 * rounding).sum())
        number += one.numel()
    text = f"largest scores that moved, of {number} predictions on {source}"
    text += f"; {flips - wrong} of them are ties within rounding" if flips else ""
    return Proof("predictions", wrong == 0, flips, text)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The type of the first real parameter or buffer."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.get_default_dtype()


def _count(batches: list[Any]) -> int:
    return sum(len(next(iter(real_or_first(batch)))) for batch in batches)


def real_or_first(batch: Any) -> list[Tensor]:
    """The tensors of one batch."""
    if isinstance(batch, Tensor):
        return [batch]
    values = batch.values() if isinstance(batch, dict) else batch
    return [value for value in values if isinstance(value, Tensor)]
