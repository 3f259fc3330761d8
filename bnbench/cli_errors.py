"""What a command says when it fails: one message and an exit code, no traceback."""

from __future__ import annotations

import signal
from typing import Any, NoReturn

import typer

from bnbench.errors import EXIT_INTERRUPTED, BnbenchError, ConfigError


class Errors:
    """Turns our own errors into one message and an exit code, without a traceback (unless --debug)."""

    def __init__(self, debug: bool) -> None:
        self.debug = debug

    def __enter__(self) -> None:
        signal.signal(signal.SIGTERM, _interrupt)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.debug or error is None:
            return
        if isinstance(error, BnbenchError):
            many = isinstance(error, ConfigError) and len(error.mistakes) > 1
            head = f"{len(error.mistakes)} mistakes:\n" if many else "Error: "  # type: ignore[attr-defined]
            typer.echo(f"{head}{error}", err=True)
            raise typer.Exit(error.exit_code) from None
        if isinstance(error, KeyboardInterrupt):
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
