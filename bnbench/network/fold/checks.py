"""Four comparisons of a folded network with the one that it was made of. No tolerance in them is chosen by hand.

float64: what the algebra leaves when rounding is all but gone. The network's own type: the folded network may round
twice as much as the network itself does, measured against float64. Predictions: how many largest entries moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
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
#: How many units of the last place numbers are moved by, and how often, to find how sensitive a network is.
BITS, DRAWS = 4.0, 4
_NOTHING = (
    "the network gives zeros whatever it is given, as a last layer that starts at zero does, or no numbers: no "
    "comparison shows anything"
)


@dataclass(frozen=True)
class Pair:
    """A network and the same folded, or the same in another type."""

    own: nn.Module
    folded: nn.Module


def outputs(model: nn.Module, batch: Any, *, wide: bool) -> list[Tensor]:
    """Every real tensor that the network gives, as float64. wide: it runs in float64.

    Random draws inside it are the same each time.
    """
    with torch.no_grad():
        torch.default_generator.manual_seed(0)
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
    """Both in float64, on random and on adversarial inputs.

    An input on which the network itself moves as much where its weights move by their last bits shows nothing: it is
    left out, and named.
    """
    worst, at, done = 0.0, "", 0
    skipped: dict[str, list[str]] = {}
    for trial in trials:
        try:
            own = outputs(pair.own, trial.batch, wide=True)
        except BaseException as error:  # whatever the network raises on an unusual input
            raise_interrupt(error)
            if trial.needed:
                return Proof("float64", None, None, f"the network fails in float64: {first_line(error)}")
            skipped.setdefault("not taken by the network", []).append(trial.name)
            continue
        if trial.needed and not any(bool(tensor.any()) for tensor in own):
            return Proof("float64", None, None, _NOTHING)
        gap = difference(own, outputs(pair.folded, trial.batch, wide=True))
        if gap > LARGEST and not trial.needed and gap < _sensitivity(pair.own, trial.batch, own):
            words = "left out, as the network itself moves as much where its weights move by their last bits"
            skipped.setdefault(words, []).append(trial.name)
            continue
        done += 1
        if gap > worst or not at:
            worst, at = gap, trial.name
    text = f"largest difference of the outputs over {done} kinds of inputs ({at}), of the largest entry"
    text += "".join(f"; {words}: {', '.join(names)}" for words, names in skipped.items())
    return Proof("float64", worst <= LARGEST, worst, f"{text}; allowed: {LARGEST:g}")


def _sensitivity(model: nn.Module, batch: Any, own: list[Tensor]) -> float:
    """The largest difference over some draws where each number of the network moves by its last bits, up or down.

    `BITS` of them: a folded weight is a product of some rounded numbers.
    """
    worst = 0.0
    for seed in range(DRAWS):
        copy, draw = deepcopy(model), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in (*copy.parameters(), *copy.buffers()):
                if value.is_floating_point():
                    signs = torch.randint(2, value.shape, generator=draw).to(value) * 2 - 1
                    value.mul_(1 + signs * BITS * torch.finfo(torch.float64).eps)
        worst = max(worst, difference(own, outputs(copy, batch, wide=True)))
    return worst


@dataclass
class Measured:
    """What many inputs showed. own, folded: the largest errors against float64, relative to the largest entry.

    flips: predictions that moved; wrong: those of them that rounding does not explain. predictions: all, 0 where the
    network gives no scores of classes.
    """

    own: float = 0.0
    folded: float = 0.0
    inputs: int = 0
    flips: int = 0
    wrong: int = 0
    predictions: int = 0


def measure(pair: Pair, exact: nn.Module, batches: Iterable[Any]) -> Measured:
    """Both networks in their own type beside the network in float64, batch by batch."""
    found = Measured()
    eps = torch.finfo(dtype_of(pair.own)).eps
    for batch in batches:
        truth = outputs(exact, batch, wide=True)
        own, folded = (outputs(model, batch, wide=False) for model in (pair.own, pair.folded))
        error = difference(truth, own)
        found.own, found.folded = max(found.own, error), max(found.folded, difference(truth, folded))
        found.inputs += size_of(batch)
        if not own or own[0].dim() < 2 or own[0].shape[1] < 2:
            continue
        one, two = (scores[0].argmax(1, keepdim=True) for scores in (own, folded))
        rounding = max(error * FACTOR, ULPS * eps) * truth[0].abs().max().item()
        margin = (truth[0].gather(1, one) - truth[0].gather(1, two)).abs()
        found.flips += int((one != two).sum())
        found.wrong += int((margin > 2 * rounding).sum())
        found.predictions += one.numel()
    return found


def own_type_proof(pair: Pair, found: Measured) -> Proof:
    """Both in the type of the network's parameters, against its own outputs in float64."""
    dtype = dtype_of(pair.own)
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.float64:
        return Proof(
            name + " rounding", None, None, "the network is float64: the first comparison is the whole"
        )
    ulps = found.folded / torch.finfo(dtype).eps
    text = (
        f"error against float64 over {found.inputs} inputs, of the largest entry: {found.folded:.2g} folded, "
        f"{found.own:.2g} as it was; allowed: twice that, or {ULPS:g} ulp"
    )
    return Proof(f"{name} rounding", found.folded <= FACTOR * found.own or ulps <= ULPS, found.folded, text)


def predictions_proof(found: Measured, source: str) -> Proof:
    """The inputs whose largest score is another one. A tie within rounding may fall either way, and is counted too."""
    if not found.predictions:
        return Proof("predictions", None, None, "the network gives no scores of classes")
    text = f"largest scores that moved, of {found.predictions} predictions on {source}"
    text += f"; {found.flips - found.wrong} of them are ties within rounding" if found.flips else ""
    return Proof("predictions", found.wrong == 0, found.flips, text)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The type of the first real parameter or buffer."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.get_default_dtype()


def size_of(batch: Any) -> int:
    """The samples of a batch."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    values = batch.values() if isinstance(batch, Mapping) else batch
    return next((size_of(value) for value in values if isinstance(value, Tensor)), 1)
