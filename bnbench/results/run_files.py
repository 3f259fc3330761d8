"""The files of one run: its record, its curves, its weights, and what is kept beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from bnbench.base.files import to_csv, to_json
from bnbench.results.files import CHECKPOINT, HISTORY, RUN, SCHEMA_VERSION, STEPS
from bnbench.results.probes import PROBES, probes_text
from bnbench.results.samples import SAMPLES, samples_bytes
from bnbench.results.sheets import sheet_files
from bnbench.study.records import Extras, RunRecord


def run_files(record: RunRecord, weights: Mapping[str, Any] | None, extras: Extras) -> dict[str, bytes]:
    """Their contents by their names; run.json is the last: with it, the folder is whole."""
    content = {
        HISTORY: to_csv(_history_rows(record), ["step"]).encode("utf-8"),
        STEPS: to_csv(_step_rows(record), ["step"]).encode("utf-8"),
    }
    if weights is not None:
        from safetensors.numpy import save

        content[CHECKPOINT] = save(dict(weights))
    if extras.samples is not None:
        content[SAMPLES] = samples_bytes(extras.samples)
    if extras.probes:
        content[PROBES] = probes_text(extras.probes).encode("utf-8")
    content |= sheet_files(extras.sheets)
    content[RUN] = to_json(run_json(record)).encode("utf-8")
    return content


def run_json(record: RunRecord) -> dict[str, Any]:
    """The content of run.json."""
    values = asdict(record)
    del values["history"], values["step_losses"]
    for key in ("inside", "probe_seconds", "inference", "inference_best"):  # of runs that were asked for them
        if not values[key]:
            del values[key]
    return {"schema_version": SCHEMA_VERSION, **values}


def _history_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for row in record.history:
        yield {
            "step": row.step,
            "epoch": row.epoch,
            "train_seconds": row.train_seconds,
            "batch_loss": row.batch_loss,
            **row.metrics,
        }


def _step_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for step, loss in enumerate(record.step_losses, start=1):
        yield {"step": step, "batch_loss": f"{loss:.9g}"}  # nine digits are all that a float32 has
