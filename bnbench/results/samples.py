"""What a run answered on each test sample: right or wrong, and the loss. Written with the run, read where asked for.

    test_samples.safetensors    right (N,) uint8, where answers are right or wrong; loss (N,) float32, and so each
                                further metric that is a mean over samples; in the order of the test set

The header names the test set by a hash of its labels, so that answers on other samples are not paired.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from bnbench.study.records import RunRecord, TestSamples

SAMPLES = "test_samples.safetensors"
#: How far the mean of the answers may be from the metric that run.json has: they are float32.
_TOLERANCE = 1e-4
#: A header of this size has room for far more than a few arrays.
_LONGEST_HEADER = 10_000
#: Bytes of a sample at most: one for right or wrong, four for each number.
_LARGEST = 1 + 4 * 16


def samples_bytes(samples: TestSamples) -> bytes:
    """The file's content."""
    from safetensors.numpy import save

    right = {} if samples.right is None else {"right": samples.right}
    arrays = {**right, "loss": samples.loss, **samples.further}
    return save(arrays, metadata={"labels": samples.labels})


def read_samples(path: Path, run: RunRecord) -> TestSamples | None:
    """The answers of a run; None where there is no such file. Raises ValueError where it can't be the run's."""
    if not path.is_file():
        return None
    count = run.num_samples.get("test", 0)
    if not 0 < path.stat().st_size <= _LARGEST * count + _LONGEST_HEADER:
        raise ValueError(f"it is not of {count} test samples")
    samples = _parse(path.read_bytes())
    right = {} if samples.right is None else {"accuracy": samples.right}
    arrays = {**right, "loss": samples.loss, **samples.further}
    if any(values.shape != (count,) for values in arrays.values()):
        raise ValueError(f"it is not of {count} test samples")
    if samples.right is not None and samples.right.size and samples.right.max() > 1:
        raise ValueError("an answer is neither right nor wrong")
    for metric, values in arrays.items():
        name = f"test_{metric}"
        _check_mean(name, float(values.mean(dtype="float64")), run.final.get(name, math.nan))
    return samples


def _parse(content: bytes) -> TestSamples:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, Any] = load(content)
        (length,) = struct.unpack("<Q", content[:8])
        labels = json.loads(content[8 : 8 + length])["__metadata__"]["labels"]
        right, loss = arrays.pop("right", None), arrays.pop("loss")
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    wrong = right is not None and str(right.dtype) != "uint8"
    if wrong or any(str(values.dtype) != "float32" for values in (loss, *arrays.values())):
        raise ValueError("its numbers are of other types")
    return TestSamples(right, loss, str(labels), arrays)


def _check_mean(name: str, mean: float, expected: float) -> None:
    """What the run says of itself; a loss that is not finite is the same as any other such."""
    if not (math.isfinite(mean) or math.isfinite(expected)):
        return
    if not abs(mean - expected) <= _TOLERANCE * max(1.0, abs(expected)):
        raise ValueError(f"its mean is not the run's {name}: {mean:.6g}, not {expected:.6g}")
