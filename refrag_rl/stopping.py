"""Ctrl-C and SIGTERM: at once, or after the step under way.

Signals come to the whole process, so what was received is kept here and not in an object.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from refrag_rl.errors import StoppedError

_NOTE = "\nstopping after this step"
_NOTE_ALONE = "; Ctrl-C again stops at once, at the last checkpoint"

_received: int | None = None
_stopped = False
"""Whether a step was the last because of a signal: the process is about to end."""


def received() -> int | None:
    """Return the signal that asked this process to stop after its step; ``None``: none did."""
    return _received


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Let SIGTERM raise ``StoppedError``, as SIGINT raises ``KeyboardInterrupt``.

    After a step that was the last because of a signal, SIGTERM changes nothing: a launcher of
    several processes sends it to the others when the first of them has ended.
    """
    global _stopped
    _stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        if not _stopped:
            raise StoppedError(number, "terminated")

    with _handlers({signal.SIGTERM: stop}):
        yield


@contextmanager
def stopping_after_the_step() -> Iterator[None]:
    """Keep the first SIGINT or SIGTERM for ``received``; a second Ctrl-C stops at once.

    A second SIGTERM does not, and in one of several processes a second Ctrl-C does not either:
    their launcher passes on the signal that they all have received from the terminal already, and
    one that stopped at once would leave the others waiting for it.

    Raises:
        KeyboardInterrupt: At the second Ctrl-C of a process that runs alone.
        StoppedError: At the end, if a signal came and nothing has stopped for it.
    """
    global _received, _stopped
    # As torch's and accelerate's launchers set it.
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    note = f"{_NOTE}{_NOTE_ALONE if alone else ''}\n".encode()

    def stop(number: int, frame: FrameType | None) -> None:
        global _received
        if _received is not None:
            if number == signal.SIGINT and alone:
                raise KeyboardInterrupt
            return
        _received = number
        # Not print: it may have been in the midst of a print.
        os.write(2, note)

    _received = None
    try:
        with _handlers({signal.SIGINT: stop, signal.SIGTERM: stop}):
            yield
        if _received is not None:
            raise StoppedError(_received)
    except StoppedError:
        _stopped = True
        raise
    finally:
        _received = None


@contextmanager
def _handlers(new: dict[signal.Signals, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    # Only the main thread may set handlers; elsewhere they are its affair.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old: dict[signal.Signals, Any] = {}
    try:
        for number, handler in new.items():
            if signal.getsignal(number) == signal.SIG_IGN:
                # As shells start what runs in the background: the signal is not meant for it.
                continue
            old[number] = signal.signal(number, handler)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
