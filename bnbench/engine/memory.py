"""Memory that PyTorch frees stays with the process, for the next step to use."""

from __future__ import annotations

import ctypes
import functools

# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@functools.cache
def keep_freed_memory() -> None:
    """Tell the C library not to give large blocks back to the system when they are freed.

    Activations of a convolutional network are such blocks: each is given back and asked for again in every
    step, and the system clears its pages each time: a sixth of a step and two fifths of an evaluation
    (tests/benchmarks/freed_memory.py). Where the library is not glibc, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20)):
        mallopt(ctypes.c_int(option), ctypes.c_int(value))
