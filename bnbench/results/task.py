"""The task of a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnbench.base.errors import PluginError, ResultsError
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts, task_facts


def read_task(path: Path, values: Any, damaged: type[ResultsError], fix: str) -> TaskFacts:
    """The task that a file names; image classification where it names none. Declares the task's metrics.

    Raises `damaged` where it can't be read, ResultsError where a metric means something else in this process.
    """
    if values is None:
        return IMAGE_CLASSIFICATION
    try:
        return task_facts(values)
    except PluginError as error:
        raise ResultsError(f"{path}: {error.what}", error.why, "read it in a process of its own.") from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        message = f"{type(error).__name__}: {error}".rstrip(".")
        raise damaged(f"{path}: damaged: task: {message}.", fix=fix) from None
