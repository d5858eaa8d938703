"""Commands in forked children: torch is imported once, and each child is a process to kill.

The parent imports and never computes: it has no threads that a fork would lose. It is a process of
its own (``python -m tests.survival.<name>``), apart from pytest's, where other tests have computed.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

Hook = Callable[[], object]


def fork_command(arguments: Sequence[str], log: Path, before: Hook | None = None) -> int:
    """Start ``python -m refrag_rl.<arguments>`` in a child and return its process id.

    Args:
        arguments: The command's name and its arguments.
        log: Takes what it prints.
        before: Called in the child first.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _run(arguments, log, before)
    return child


def _run(arguments: Sequence[str], log: Path, before: Hook | None) -> NoReturn:
    code: object = 70
    try:
        # Whatever this process was started by, signals do here what they do in a terminal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = [f"refrag_rl.{arguments[0]}", *arguments[1:]]
        from importlib import import_module

        from refrag_rl.commands import run_command

        if before is not None:
            before()
        run_command(getattr(import_module(f"refrag_rl.{arguments[0]}"), arguments[0]), arguments[0])
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def wait(child: int) -> int:
    """Return the exit code of a child, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(arguments: Sequence[str], log: Path, before: Hook | None = None) -> int:
    """Run a command in a child to its end and return its exit code."""
    return wait(fork_command(arguments, log, before))


def import_everything() -> None:
    """Import what the commands import, so that no child has to."""

    import refrag_rl.envs.sb3
    import refrag_rl.pretraining.run
    import refrag_rl.resuming
    import refrag_rl.train
    import refrag_rl.training  # noqa: F401

    # What is there now stays; collecting it in each child would copy its memory.
    gc.freeze()
