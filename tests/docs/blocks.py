"""The code blocks of a Markdown page."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", flags=re.DOTALL | re.MULTILINE)
_SHOWN_FILE = re.compile(r"\]\(([^)]+)\):\n\n$")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: The word behind the fence.
        code: What is inside, without the indentation of the fence.
        shown: The file that the line above says is shown; ``None``: the block is no file.
    """

    language: str
    code: str
    shown: Path | None


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in _FENCED.finditer(text):
        link = _SHOWN_FILE.search(text[: found.start()])
        shown = None if link is None else (page.parent / link[1]).resolve()
        blocks.append(Block(found[2], dedent(found[3]), shown))
    return blocks


def command_lines(code: str) -> list[str]:
    """Return the command lines of a shell block, continued lines joined, comments left out."""
    lines = [line.strip() for line in code.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
