"""How much faster the folded network is: both in turn, in pairs, so that a slow moment of the machine hits both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bnbench.network.fold.inputs import call

#: Pairs of passes that are timed, and passes before them that are not.
PAIRS, WARM_UP = 41, 3


@dataclass(frozen=True)
class Speed:
    """times_faster: the median over pairs of the network's time over the folded one's. low, high: of its 95 % interval.

    milliseconds, folded_milliseconds: medians of one pass.
    """

    times_faster: float
    low: float
    high: float
    milliseconds: float
    folded_milliseconds: float
    pairs: int
    threads: int
    batch: int

    def __str__(self) -> str:
        """For example "1.31 times as fast [1.28, 1.35]"."""
        return f"{self.times_faster:.2f} times as fast [{self.low:.2f}, {self.high:.2f}]"


def measure(
    model: nn.Module,
    folded: nn.Module,
    batch: Any,
    samples: int,
    now: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time both on the same batch, which of them first alternating. now: a clock, in seconds."""
    times: list[tuple[float, float]] = []
    with torch.no_grad():
        for number in range(WARM_UP + PAIRS):
            order = (model, folded) if number % 2 else (folded, model)
            took = {}
            for network in order:
                start = now()
                call(network, batch)
                took[id(network)] = now() - start
            if number >= WARM_UP:
                times.append((took[id(model)], took[id(folded)]))
    ratios = sorted(one / two for one, two in times)
    low, high = median_interval(len(ratios))
    middle = len(times) // 2
    own, others = (sorted(pair[i] for pair in times)[middle] for i in (0, 1))
    return Speed(
        ratios[middle],
        ratios[low],
        ratios[high],
        1e3 * own,
        1e3 * others,
        PAIRS,
        torch.get_num_threads(),
        samples,
    )


def median_interval(number: int) -> tuple[int, int]:
    """The positions in a sorted sample between which its median lies with at least 95 %, whatever the distribution.

    The largest k with P(Binomial(number, 1/2) <= k) <= 2.5 % (Conover 1999, section 3.2).
    """
    total, k = 0.0, -1
    while total + math.comb(number, k + 1) / 2**number <= 0.025:
        k += 1
        total += math.comb(number, k) / 2**number
    low = max(k, 0)
    return low, number - 1 - low
