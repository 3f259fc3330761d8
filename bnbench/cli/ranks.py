"""A command in one of the processes that torchrun starts: rank 0 is the command, the others follow it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from bnbench.base.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NOTHING_USABLE, BnbenchError, UsageError
from bnbench.base.ranks import World, world_of
from bnbench.base.terminal import echo
from bnbench.cli.errors import error_text

#: The commands that train.
_TRAINING = ("train", "compare", "look", "replicate")


def on_ranks(command: Callable[[], int]) -> int:
    """The exit code of the command. Where several processes train a run it is rank 0's in all of them.

    Commands that train nothing are rank 0's alone.
    """
    trains = any(word in _TRAINING for word in sys.argv[1:2])
    try:
        world = world_of()
    except UsageError as error:
        if not trains:  # these variables may be anyone's
            return command()
        echo(error_text(error), err=True)
        return error.exit_code
    if not world.several:
        return command()
    if not trains:
        return command() if world.rank == 0 else EXIT_DONE
    os.environ.setdefault(
        "TORCH_CPP_LOG_LEVEL", "ERROR"
    )  # where a process ends, the others say so themselves
    return _lead(command, world) if world.rank == 0 else _follow(world)


def _lead(command: Callable[[], int], world: World) -> int:
    from bnbench.api.ranks import lead

    lead()
    code = EXIT_NOTHING_USABLE
    try:
        code = command()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        raise
    finally:
        with suppress(KeyboardInterrupt):
            for number in (
                signal.SIGINT,
                signal.SIGTERM,
            ):  # torchrun passes on what the terminal has sent already
                signal.signal(number, _ignored)
            from bnbench.engine.ranks.lead import dismiss

            dismiss(world, code)
    return code


def _ignored(number: int, frame: FrameType | None) -> None:
    pass


def _follow(world: World) -> int:
    try:
        from bnbench.engine.ranks.follow import follow

        nowhere = os.open(os.devnull, os.O_WRONLY)
        kept = os.dup(2)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        try:
            return follow(world)
        except BnbenchError:
            os.dup2(kept, 2)  # rank 0 is not there to say it
            raise
    except BnbenchError as error:
        echo(error_text(error), err=True)
        return error.exit_code
