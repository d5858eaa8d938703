"""The errors that a command reports to its user without a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(ValueError):
    """A mistake in what the user gave: an option, a file, a folder.

    Its message is one or two lines: what was given, what is allowed, what to do. Commands print it
    and exit with code 2.
    """


class NotFiniteError(FloatingPointError):
    """A reward, a gradient, a weight or a logit is NaN or infinite.

    Commands print the message and exit with code 1.

    Args:
        message: What is, and where.
        windows: Keys of the windows that it comes from, where they are known.
    """

    def __init__(self, message: str, windows: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.windows = list(windows)


class FullDiskError(Exception):
    """There is no room left on the disk; commands print the message and exit with code 1."""


class StoppedError(BaseException):
    """A signal asked the run to end; the exit code is 128 and the signal's number.

    No ``Exception``, like ``KeyboardInterrupt``: nothing on the way may take it for an error that
    can be handled.

    Args:
        signal: Its number.
        message: For the user; may be empty.
    """

    def __init__(self, signal: int, message: str = "") -> None:
        super().__init__(message)
        self.signal = signal


def first_line(error: BaseException, most: int = 300) -> str:
    """Return the first line of an error's text, or its type where it has none.

    Args:
        error: Of a library: its text may have any number of lines, of any length.
        most: Characters that are kept.
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:most]
