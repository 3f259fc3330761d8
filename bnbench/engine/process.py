"""What training changes in its process: entered for good by the command line and by workers, else left as it was.

A command has its process to itself. A call from Python does not: what it finds (random streams, threads, flags of
torch, environment variables, filters of warnings, import paths, the folder) is there again when it ends, also by an
error; what can't be undone (the allocator) it does not do; and it leaves signals alone. What can't be undone and has
to be done is TensorFlow's number of threads, for `framework: keras`.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from bnbench.base.errors import BnbenchError

try:
    import torch
except (
    ImportError,
    OSError,
    MemoryError,
) as error:  # OSError: a library that torch is linked with is missing
    if isinstance(error, MemoryError) or any(
        text in str(error) for text in ("map segment", "llocate memory")
    ):
        raise BnbenchError(
            f"torch can't be imported: memory ran out: {type(error).__name__}: {error}",
            "Its libraries alone take some gigabytes of address space.",
            "a larger limit: ulimit -v unlimited, or more memory for the container.",
        ) from error
    raise BnbenchError(
        f"torch can't be imported: {type(error).__name__}: {error}",
        "Training and checking a study need it; `bnbench report`, `bnbench list` and `bnbench.load` do not.",
        "pip install torch torchvision",
    ) from error

from bnbench.base.process_state import left_as_found
from bnbench.engine.memory import keep_freed_memory

#: One call at a time: these settings are the whole process's.
_turn = threading.Lock()
_owner: int | None = None
#: The process that imported this: one that is forked from it has another number.
_PROCESS = os.getpid()


def is_forked() -> bool:
    """Whether this process was forked after its imports: torch's other threads did not come along."""
    return os.getpid() != _PROCESS


@contextmanager
def training_process(*, for_good: bool = False) -> Iterator[None]:
    """Inside, this process is set up for training; afterwards it is as it was. Other threads wait for their turn.

    for_good: the process is the command line's or a worker's, so everything stays as it was set. Raises BnbenchError
    where the call comes from inside another one: from a listener, or from the code of a layer.
    """
    global _owner
    if for_good:
        keep_freed_memory()
        if is_forked():
            torch.set_num_threads(1)  # whatever needs a second one would wait for it forever
        yield
        return
    if _owner == threading.get_ident():
        raise BnbenchError(
            "bnbench is training already, and was called again from inside: by a listener, or by a layer.",
            "One process trains one study at a time.",
            "call it after the first one has returned.",
        )
    with _turn, ExitStack() as stack:
        _owner = threading.get_ident()
        stack.callback(_release)
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(left_as_found(_device_in_use()))
        for values in (sys.path, sys.meta_path):
            stack.callback(_restore_list, values, list(values))
        stack.callback(_restore_environment, dict(os.environ))
        stack.callback(_restore_folder, _folder())
        for read, write in _SETTINGS:
            with suppress(RuntimeError):  # of torch's older and newer flags, only one kind may be read
                stack.callback(_restore_setting, read, write, read())
        _set_defaults(stack)
        if is_forked():
            torch.set_num_threads(1)  # whatever needs a second one would wait for it forever
        yield


def set_deterministic() -> None:
    """The same command gives the same bits on a GPU too: deterministic kernels, no TF32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _set_defaults(stack: ExitStack) -> None:
    """What a run counts on, whatever the caller has chosen for code of their own."""
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    stack.enter_context(torch.inference_mode(False))
    if torch.get_default_device() != torch.device("cpu"):
        stack.callback(torch.set_default_device, torch.get_default_device())
        torch.set_default_device(None)
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))


def _flag(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


#: Pairs of what reads a setting of torch and what writes it.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    _flag(torch.backends.cudnn, "enabled"),
    _flag(torch.backends.cudnn, "benchmark"),
    _flag(torch.backends.cudnn, "deterministic"),
    _flag(torch.backends.cudnn, "allow_tf32"),
    _flag(torch.backends.cuda.matmul, "allow_tf32"),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
)


def _restore_setting(read: Callable[[], Any], write: Callable[[Any], object], before: Any) -> None:
    with suppress(RuntimeError):
        if read() != before:
            write(before)


def _restore_list(values: MutableSequence[Any], before: list[Any]) -> None:
    if values != before:
        values[:] = before


def _restore_environment(before: dict[str, str]) -> None:
    for name in [name for name in os.environ if name not in before]:
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _folder() -> str | None:
    with suppress(OSError):
        return os.getcwd()
    return None


def _restore_folder(before: str | None) -> None:
    if before is not None and _folder() != before:
        with suppress(OSError):
            os.chdir(before)


def _device_in_use() -> torch.device:
    """Whose random stream there is beside the CPU's."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _release() -> None:
    global _owner
    _owner = None
