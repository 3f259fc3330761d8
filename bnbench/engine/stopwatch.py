"""The clock of a training."""

from __future__ import annotations

import os
import time

import torch

from bnbench.engine.choose import EngineChoice
from bnbench.engine.device import synchronize


class Stopwatch:
    """Adds up the seconds between start and stop; waits for the device at both ends.

    Where this thread does all the work its processor time counts, as other processes may share its core.
    """

    def __init__(self, device: torch.device, choice: EngineChoice) -> None:
        self.device, self.seconds, self._since = device, 0.0, 0.0
        alone = device.type == "cpu" and choice.threads == 1 and not choice.own_threads
        # elsewhere than on POSIX the ticks of a thread's clock are coarse
        self._now = time.thread_time if alone and os.name == "posix" else time.perf_counter

    def start(self) -> None:
        """Go on."""
        synchronize(self.device)
        self._since = self._now()

    def stop(self) -> None:
        """Stand still."""
        synchronize(self.device)
        self.seconds += self._now() - self._since
