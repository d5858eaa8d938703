"""How large a file may be that is read whole: a stranger's could be of any size, or have no end."""

from __future__ import annotations

import stat
from pathlib import Path

from refrag_rl.errors import UserError


def require_at_most(path: Path, most: int) -> None:
    """Check a file before it is read.

    Args:
        path: Of the file.
        most: Bytes that no file of its kind exceeds.

    Raises:
        OSError: It is missing, or cannot be looked at.
        UserError: It is larger, or no regular file: reading a named pipe or a device may never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is no regular file; give what was written there")
    if status.st_size > most:
        raise UserError(
            f"{path} has {status.st_size} bytes, and no file of its kind is larger than {most}; "
            "give what was written there"
        )
