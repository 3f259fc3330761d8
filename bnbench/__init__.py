"""bnbench: does this normalization layer help this network, by how much, and can it be trusted?

The functions are the commands: `bnbench.compare("quickstart")` does what `bnbench compare quickstart` does, prints
nothing, returns a `Comparison`, and leaves the process as it found it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bnbench.base.stopwatch  # noqa: F401  (its clock starts with the package)

if TYPE_CHECKING:
    from bnbench.api.check import check
    from bnbench.api.compare import compare, train
    from bnbench.api.comparison import Comparison
    from bnbench.api.convert import convert
    from bnbench.api.doctor import doctor
    from bnbench.api.explain import explain
    from bnbench.api.fold import fold
    from bnbench.api.load import load, report
    from bnbench.api.look import look
    from bnbench.api.merge import merge
    from bnbench.api.precise import precise_statistics
    from bnbench.api.rebuild import rebuild
    from bnbench.api.replicate import findings, load_replication, replicate
    from bnbench.api.verify import verify, verify_padding
    from bnbench.base.running import Running
    from bnbench.norms.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
    from bnbench.norms.sync_batch import SyncBatchNorm

__version__ = "0.1.0"

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Comparison",
    "Running",
    "SyncBatchNorm",
    "__version__",
    "check",
    "compare",
    "convert",
    "doctor",
    "explain",
    "findings",
    "fold",
    "load",
    "load_replication",
    "look",
    "merge",
    "precise_statistics",
    "rebuild",
    "replicate",
    "report",
    "train",
    "verify",
    "verify_padding",
]

#: Where each name is defined: it is imported when it is first used, so that `import bnbench` loads nothing heavy.
_HOMES = {
    "BatchNorm1d": "bnbench.norms.batch_norm",
    "BatchNorm2d": "bnbench.norms.batch_norm",
    "BatchNorm3d": "bnbench.norms.batch_norm",
    "SyncBatchNorm": "bnbench.norms.sync_batch",
    "Comparison": "bnbench.api.comparison",
    "Running": "bnbench.base.running",
    "check": "bnbench.api.check",
    "compare": "bnbench.api.compare",
    "convert": "bnbench.api.convert",
    "doctor": "bnbench.api.doctor",
    "explain": "bnbench.api.explain",
    "findings": "bnbench.api.replicate",
    "fold": "bnbench.api.fold",
    "load": "bnbench.api.load",
    "load_replication": "bnbench.api.replicate",
    "look": "bnbench.api.look",
    "merge": "bnbench.api.merge",
    "precise_statistics": "bnbench.api.precise",
    "rebuild": "bnbench.api.rebuild",
    "replicate": "bnbench.api.replicate",
    "report": "bnbench.api.load",
    "train": "bnbench.api.compare",
    "verify": "bnbench.api.verify",
    "verify_padding": "bnbench.api.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
