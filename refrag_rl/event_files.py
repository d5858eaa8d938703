"""TensorBoard's event files of a run that may be stopped and gone on with.

A run that was killed has written points after its last checkpoint, and will write them again. So a
checkpoint holds how long the event files were, and a resumed run cuts them there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from refrag_rl.atomic import sync

Position = Mapping[str, int]
"""Length of each event file in bytes, by its path within the folder."""


class ResumableWriter(SummaryWriter):
    """A ``SummaryWriter`` that goes on from a position.

    Args:
        folder: Where the event files are.
        position: What ``position`` returned before; everything after it is cut off. Nothing: the
            curves begin anew.
        purge_step: Tells a TensorBoard that is open meanwhile from which step on to forget what it
            has read; ``None``: nothing.
    """

    def __init__(self, folder: Path, position: Position, *, purge_step: int | None = None) -> None:
        self._folder = folder
        cut_event_files(folder, position)
        super().__init__(str(folder), purge_step=purge_step)

    def position(self) -> dict[str, int]:
        """Return the position after everything that was added, once it is on the disk.

        Raises:
            OSError: It could not be written.
        """
        self.flush()
        paths = _event_files(self._folder)
        for path in paths:
            sync(path)
        return {str(path.relative_to(self._folder)): path.stat().st_size for path in paths}


def cut_event_files(folder: Path, position: Position) -> None:
    """Cut the event files in a folder to a position; files that it does not hold are removed."""
    for path in _event_files(folder):
        length = position.get(str(path.relative_to(folder)))
        # A run's folder may come from others: no file outside it is touched through a link.
        if not isinstance(length, int) or length < 0 or path.is_symlink():
            path.unlink()
        elif path.stat().st_size > length:
            os.truncate(path, length)


def _event_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("events.out.tfevents.*"))
