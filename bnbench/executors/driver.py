"""The driver of jobs as its workers see it: whether it lives, and whether it wants them to stop.

It is named by its process, and by a file in the results folder with a random word. A worker that reads that word there
shares the folder, and writes its results into it. While it trains, the worker looks at the file: where it asks to stop,
or is gone, the runs save their states and pause. A worker that the driver has started on the same machine ends itself
where that process is gone.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnbench.base.errors import ResultsError
from bnbench.base.files import WRITING, read_text, write_whole
from bnbench.base.owner import Owner, owner_of, this_process
from bnbench.base.stopping import ask_to_stop

#: Seconds between two looks at the driver.
LOOK = 0.5
#: So often in a row a worker misses the driver's file before it believes that.
_MISSES = 6
_STOP = "stop: "


@dataclass(frozen=True)
class DriverMark:
    """Which process drives, and its file. owned: whether it started its workers, so that they end with it."""

    process: Owner
    file: str
    owned: bool = False

    @classmethod
    def of_this_process(cls, folder: Path) -> DriverMark:
        """The mark of this process, for workers that find the results folder."""
        # the next command that opens the folder removes what a kill leaves of it
        file = os.path.abspath(folder / f".driver-{secrets.token_hex(4)}{WRITING}")
        return cls(this_process(), file)

    def write(self, reason: str = "") -> None:
        """Write the file, with a reason to stop where there is one. Raises ResultsError."""
        word = self.process.word
        write_whole(Path(self.file), f"{word}\n{_STOP}{reason}\n" if reason else f"{word}\n")

    def renew(self) -> None:
        """Write it again where another process took it for a leftover."""
        if not os.path.lexists(self.file):
            with suppress(ResultsError):
                self.write()

    def remove(self) -> None:
        """Remove the file: whoever still trains for this driver stops."""
        with suppress(OSError):
            Path(self.file).unlink()

    def values(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> DriverMark:
        """From plain values."""
        return cls(owner_of(values["process"]), str(values["file"]), bool(values["owned"]))

    @property
    def is_this_process(self) -> bool:
        """Whether it is the very process that asks."""
        return self.process.is_dead is False and self.process.pid == os.getpid()

    def shares(self) -> bool:
        """Whether this process shares the driver's results folder, and may write there."""
        for _ in range(_MISSES):
            if not Path(self.file).parent.is_dir():
                return False
            if self._wish() is not None:
                break
            time.sleep(LOOK / 4)
        else:
            return False
        probe = Path(f"{self.file[: -len(WRITING)]}-{secrets.token_hex(4)}{WRITING}")
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError:
            return False
        return True

    def _wish(self) -> str | None:
        """Why it wants its workers to stop; "" where it does not, None where there is no such file of its."""
        try:
            word, _, rest = read_text(Path(self.file)).partition("\n")
        except (OSError, ValueError):
            return None
        return rest.strip().removeprefix(_STOP) if word == self.process.word else None

    @contextmanager
    def watched(self, shared: bool) -> Iterator[None]:
        """Inside, a thread looks at the driver, and asks the runs of this process to stop where it does or is gone."""
        over = threading.Event()

        def look() -> None:
            misses = 0
            while not over.wait(LOOK):
                wish = self._wish() if shared else ""
                misses = misses + 1 if wish is None else 0
                if wish or misses >= _MISSES or self.process.is_dead:
                    ask_to_stop(wish or "its driver is gone")

        thread = threading.Thread(target=look, name="bnbench-driver", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def end_with_it(self) -> None:
        """Let this process end itself once the driver that started it is gone, also between two jobs."""
        if self.process.word in _followed or not self.owned or self.process.is_dead is not False:
            return
        _followed.add(self.process.word)

        def look() -> None:
            while not self.process.is_dead:
                time.sleep(LOOK)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=look, name="bnbench-end", daemon=True).start()


#: The drivers that this process ends with.
_followed: set[str] = set()
