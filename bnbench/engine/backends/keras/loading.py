"""TensorFlow, imported when it is first needed: quiet, on the CPU, on one thread, deterministic."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bnbench.base.errors import BnbenchError

_FIX = "pip install 'bnbench[keras]' (from a checkout: pip install '.[keras]'), or framework: torch."


@functools.cache
def tensorflow() -> Any:
    """The module. Raises BnbenchError where it is missing, broken or older than Keras 3.

    One thread, because TensorFlow's number of threads holds for the whole process and changes last bits.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with suppress(ImportError):
        importlib.import_module("triton")  # torch loads it late, and after TensorFlow it crashes the process
    try:
        with _silent():
            tf = importlib.import_module("tensorflow")
            version = str(tf.keras.__version__)
    except ModuleNotFoundError as error:
        missing = "TensorFlow" if error.name == "tensorflow" else f"TensorFlow's module {error.name}"
        raise BnbenchError(f"framework: keras: {missing} is not installed.", fix=_FIX) from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise BnbenchError(
            f"framework: keras: TensorFlow can't be imported: {type(error).__name__}: {reason}", fix=_FIX
        ) from error
    if not version.startswith("3."):
        raise BnbenchError(
            f"framework: keras needs Keras 3, and tf.keras is Keras {version}.",
            "Keras 2 stores another variance in its batch normalization of images.",
            "unset TF_USE_LEGACY_KERAS, or " + _FIX,
        )
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    return tf


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing goes to stderr: TensorFlow writes a greeting there before it reads any setting."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
