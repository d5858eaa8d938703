"""What a run that ends early says: its last checkpoint, and how to go on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from refrag_rl.errors import FullDiskError, NotFiniteError, StoppedError
from refrag_rl.full_disk import is_full_disk
from refrag_rl.run_folder import shown


@contextmanager
def saying_how_to_go_on(command: str, last_checkpoint: Callable[[], Path | None]) -> Iterator[None]:
    """Name the last checkpoint, and the command that goes on, in what ends a run early.

    Args:
        command: Goes on with the run.
        last_checkpoint: Returns the file, or ``None`` where there is none yet.

    Raises:
        FullDiskError: In place of the errors that each library has for it.
        NotFiniteError: With the checkpoint in its message.
        StoppedError: With both in its message, also in place of ``KeyboardInterrupt``.
    """

    def last() -> str:
        path = last_checkpoint()
        return "there is no checkpoint yet" if path is None else f"last checkpoint: {shown(path)}"

    try:
        yield
    except (KeyboardInterrupt, StoppedError) as error:
        number = error.signal if isinstance(error, StoppedError) else signal.SIGINT
        name = signal.Signals(number).name
        message = f"stopped by {name}; {last()}\ngo on with: {command}"
        raise StoppedError(number, message) from None
    except NotFiniteError as error:
        raise NotFiniteError(f"{error}\n{last()}", error.windows) from error
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise FullDiskError(
            f"the disk is full ({error})\n{last()}\nmake room, then go on with: {command}"
        ) from error
