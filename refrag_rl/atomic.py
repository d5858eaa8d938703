"""Files and folders that are there whole or not at all, also after a crash or a loss of power."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FRESH_SUFFIX = ".new"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path to write to; what was written there takes the place of ``path`` at the end.

    The temporary file lies in the same folder. It is on the disk before it is renamed, and the
    rename is on the disk when this ends. An error leaves ``path`` as it was.

    Args:
        path: In a folder that exists.

    Raises:
        OSError: As when a file is written, such as for a full disk.
    """
    fresh = path.with_name(f".{path.name}{FRESH_SUFFIX}")
    try:
        yield fresh
        sync(fresh)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """Yield the folder to make and write files into; it becomes ``path`` at the end, whole.

    As ``replacing``, but ``path`` must not exist yet. What a killed process left is made again.

    Args:
        path: In a folder that exists.

    Raises:
        OSError: As when files are written, such as for a full disk.
    """
    fresh = path.with_name(f".{path.name}{FRESH_SUFFIX}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        yield fresh
        for written in (*fresh.iterdir(), fresh):
            sync(written)
        os.replace(fresh, path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 whole or not at all; see ``replacing``."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that processes left which were killed while they wrote."""
    for path in folder.glob(f".*{FRESH_SUFFIX}"):
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
