"""One run at a time in a folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from refrag_rl.errors import UserError

LOCK_FILE = ".lock"

_held: list[int] = []
"""Open lock files of this process."""


def hold(folder: Path) -> None:
    """Take the lock of a run's folder, until ``release_all`` or the end of the process.

    The file stays behind; it is the system's lock on it that counts, which no kill leaves behind.

    Args:
        folder: Exists.

    Raises:
        UserError: Another run holds it, or the folder cannot be locked.
    """
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(f"{folder} cannot be locked: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace")
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise UserError(f"{folder} cannot be locked: {error.strerror}") from error
        raise UserError(
            f"{folder} is in use by another run{f' ({holder})' if holder else ''}; "
            "wait for it or stop it, runs are never mixed"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    _held.append(descriptor)


def release_all() -> None:
    """Release every lock that this process holds."""
    while _held:
        os.close(_held.pop())
