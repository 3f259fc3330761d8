"""The global random streams of a run, which a user's layers draw from, as plain data."""

from __future__ import annotations

from typing import Any

import torch

from bnbench.base.process_state import ProcessState


def streams_now(device: torch.device) -> dict[str, Any]:
    """Those of this process; inside of a run they are its own (see `in_private`)."""
    now = ProcessState.now(device)
    return {"cpu": now.cpu, "accelerator": now.accelerator, "numpy": now.numpy, "python": now.python}


def put_streams(streams: dict[str, Any], device: torch.device) -> None:
    """Let them go on from there. Those of an accelerator that is not here stay."""
    now = ProcessState.now(device)
    there, own = streams["accelerator"], now.accelerator
    accelerator = there if there is not None and own is not None and there.shape == own.shape else own
    ProcessState(
        device,
        streams["cpu"],
        accelerator,
        streams["numpy"],
        streams["python"],
        now.threads,
    ).restore()
