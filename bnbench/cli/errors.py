"""Error output of the commands: one message and an exit code, without a traceback."""

from __future__ import annotations

import typer

from bnbench.base.errors import EXIT_INTERRUPTED, EXIT_NOTHING_USABLE, BnbenchError, ConfigError
from bnbench.base.machine import LESS_MEMORY, why_out_of_memory
from bnbench.base.terminal import echo, indented
from bnbench.base.user_code import signals_handled


class Errors:
    """Turns our own errors into one message and an exit code, without a traceback (unless --debug)."""

    def __init__(self, debug: bool) -> None:
        self.debug = debug

    def __enter__(self) -> None:
        self._signals = signals_handled()
        self._signals.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._signals.__exit__(None, None, None)
        if self.debug or error is None:
            return
        if isinstance(error, BnbenchError):
            echo(error_text(error), err=True)
            raise typer.Exit(error.exit_code) from None
        if lack := why_out_of_memory(error):
            echo(error_text(BnbenchError(f"{lack}.", fix=LESS_MEMORY)), err=True)
            raise typer.Exit(EXIT_NOTHING_USABLE) from None
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
