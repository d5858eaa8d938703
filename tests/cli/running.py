"""What a command leaves when it is run in the test's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """What a command left: exit code, and what it printed."""

    code: object
    out: str
    err: str


InProcess = Callable[..., Outcome]
