"""Text of strangers as it may be shown: on one line, and without what steers a terminal."""

from __future__ import annotations

_LONGEST_LINE = 1000
_MOST_LINES = 3


def printable(text: str) -> str:
    r"""Return a text on one line and without characters that steer a terminal.

    Documents are strangers' text: control characters, escape sequences, marks that reverse the
    direction of writing and lone surrogates are shown as escapes such as ``\x1b``.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def message(text: str) -> str:
    """Return an error message of at most three lines, which may quote anything.

    Args:
        text: Lines beyond the third one are put behind it.
    """
    lines = [printable(line) for line in text.split("\n")]
    kept = [*lines[: _MOST_LINES - 1], " ".join(lines[_MOST_LINES - 1 :])]
    cut = (f"{line[:_LONGEST_LINE]}..." if len(line) > _LONGEST_LINE else line for line in kept)
    return "\n".join(cut).rstrip("\n ")
