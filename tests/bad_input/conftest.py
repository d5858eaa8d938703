"""The fixtures of the commands' tests, for commands that are given bad input."""

from tests.cli.conftest import in_process, tiny

__all__ = ["in_process", "tiny"]
