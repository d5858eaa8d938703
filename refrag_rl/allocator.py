"""Large blocks of memory stay with the process between steps.

The C library of Linux (glibc) hands blocks of more than 32 MiB back to the system as soon as they
are free, and the system clears them page by page when they are asked for again: at every training
step and every batch of rewards, for every large tensor. Told to keep them, it gives the same memory
out again.

This is what the environment variables ``MALLOC_MMAP_MAX_=0`` and ``MALLOC_TRIM_THRESHOLD_`` do for
a process that is about to start; ``mallopt`` does it for one that runs. Tensors on a GPU have an
allocator of their own (PyTorch's), which keeps memory anyway.
"""

from __future__ import annotations

import ctypes
import platform

# Of malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4

_LARGEST_INT = 2**31 - 1
_MIB = 2**20


def keep_large_blocks() -> bool:
    """Let freed memory stay with this process, for as long as it runs.

    Returns:
        Whether the C library took the settings; ``False``, and nothing happens, where it is not
        glibc.
    """
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _LARGEST_INT})


def return_large_blocks() -> bool:
    """Give freed memory back, as glibc does once its thresholds have risen to their limits.

    For comparisons within one process.

    Returns:
        As ``keep_large_blocks``.
    """
    taken = _set({_M_MMAP_MAX: 65536, _M_MMAP_THRESHOLD: 32 * _MIB, _M_TRIM_THRESHOLD: 64 * _MIB})
    if taken:
        ctypes.CDLL(None).malloc_trim(0)
    return taken


def _set(options: dict[int, int]) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) == 1 for option, value in options.items())
