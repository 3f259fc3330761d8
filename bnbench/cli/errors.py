"""Error output of the commands: one message and an exit code, without a traceback."""

from __future__ import annotations

import signal

import typer

from bnbench.base.errors import (
    EXIT_INTERRUPTED,
    EXIT_NOT_EVERYTHING,
    EXIT_NOTHING_USABLE,
    BnbenchError,
    ConfigError,
)
from bnbench.base.machine import LESS_MEMORY, why_out_of_memory
from bnbench.base.stopping import go_on
from bnbench.base.terminal import echo, indented
from bnbench.base.user_code import received, signals_handled


class Errors:
    """Turns our own errors into one message and an exit code, without a traceback (unless --debug).

    trains: whether the command trains: one that SIGTERM or its like stops goes on when it is given again.
    """

    def __init__(self, debug: bool, *, trains: bool = False) -> None:
        self.debug, self.trains = debug, trains

    def __enter__(self) -> None:
        go_on()
        self._signals = signals_handled()
        self._signals.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        came = received()
        self._signals.__exit__(None, None, None)
        if self.debug or error is None:
            return
        if isinstance(error, BnbenchError):
            echo(error_text(error), err=True)
            raise typer.Exit(error.exit_code) from None
        if lack := why_out_of_memory(error):
            echo(error_text(BnbenchError(f"{lack}.", fix=LESS_MEMORY)), err=True)
            raise typer.Exit(EXIT_NOTHING_USABLE) from None
        if isinstance(error, KeyboardInterrupt) and self.trains and came and signal.SIGINT not in came:
            name = signal.Signals(came[0]).name
            echo(f"Stopped by {name}. What is finished is kept; the same command goes on.", err=True)
            raise typer.Exit(EXIT_NOT_EVERYTHING) from None
        if isinstance(error, KeyboardInterrupt):
            echo("Interrupted.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


def error_text(error: BnbenchError) -> str:
    """The message as it is printed: every part on its own line, every mistake too."""
    if isinstance(error, ConfigError):
        mistakes = "\n".join(indented(str(mistake)) for mistake in error.mistakes)
        return (
            f"{len(error.mistakes)} mistakes:\n{mistakes}"
            if len(error.mistakes) > 1
            else f"Error: {mistakes}"
        )
    fix = f"Fix: {error.fix}" if error.fix else ""
    parts = [part for part in (error.what, error.why, fix) if part] or [str(error)]
    return "Error: " + "\n".join(map(indented, parts))
