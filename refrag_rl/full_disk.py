"""A full disk, as each library reports it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full_disk(error: BaseException) -> bool:
    """Return whether an error says that there is no room left on the disk."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    if isinstance(error, SafetensorError):
        return any(f"(os error {number})" in str(error) for number in _FULL)
    return False


@contextmanager
def said_by_the_main_thread() -> Iterator[None]:
    """Drop what a thread prints about a full disk.

    TensorBoard writes in a thread. What ends it is raised again in the main thread at the next
    flush, and is said there.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or not is_full_disk(args.exc_value):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
