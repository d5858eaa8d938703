"""Ways for a child to be killed while it saves its state, one at each point of the writing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refrag_rl import checkpoint_files
from refrag_rl.event_files import ResumableWriter
from refrag_rl.training_state import Checkpoint


class KilledWhileSaving:
    """Kills its own process at the n-th point of what saving a training's state does on the disk.

    Before and after each fsync, rename and removal, and before, in the midst of and after the
    writing of the tensors.

    Args:
        point: From 0, over all saves of the process.
    """

    def __init__(self, point: int) -> None:
        self._left = point
        self._saving = False

    def __call__(self) -> None:
        position, save = ResumableWriter.position, Checkpoint.save

        def watched_position(writer: ResumableWriter) -> dict[str, int]:
            # The curves are written first.
            self._saving = True
            return position(writer)

        def watched_save(*args: Any) -> None:
            save(*args)
            self._saving = False

        ResumableWriter.position = watched_position  # type: ignore[method-assign]
        Checkpoint.save = watched_save  # type: ignore[method-assign]
        os.fsync = self._around(os.fsync)
        os.replace = self._around(os.replace)
        Path.unlink = self._around(Path.unlink)  # type: ignore[method-assign]
        checkpoint_files.save_file = self._around(self._half_then_whole(checkpoint_files.save_file))

    def _point(self) -> None:
        if self._saving:
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._point()
            value = function(*args, **kwargs)
            self._point()
            return value

        return watched

    def _half_then_whole(self, save_file: Callable[..., Any]) -> Callable[..., None]:
        def watched(tensors: Any, path: Path, metadata: Any) -> None:
            save_file(tensors, path, metadata)
            whole = path.read_bytes()
            os.truncate(path, len(whole) // 2)
            self._point()
            path.write_bytes(whole)

        return watched
