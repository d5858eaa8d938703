"""One HTML file that needs no other: style, script and data are inside it.

1. Everything that comes from documents or users is escaped in the page, or stands in a block of
   JSON that the script reads and writes by ``textContent``.
2. A content security policy allows the page's own script, by its hash, and nothing else: no other
   script, no connection, no file.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from string import Template

from refrag_rl.atomic import write_text
from refrag_rl.page.plain import plain
from refrag_rl.page.reading import ReaderData


def escape(text: object) -> str:
    """Return a value as text that stands for itself in HTML, also inside quotes."""
    return html.escape(plain(str(text)))


def json_block(data: object) -> str:
    r"""Return data as JSON that may stand inside a ``<script>``: ``<`` is written ``\u003c``.

    Raises:
        ValueError: The data holds NaN or infinity, which JSON cannot hold.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def section(title: str, *parts: str) -> str:
    """Return a section of a page.

    Args:
        title: Its heading, text.
        *parts: What stands below, HTML.
    """
    name = escape(title).replace(" ", "-").lower()
    heading = f'<h2 id="{name}">{escape(title)}</h2>'
    return "\n".join([f'<section aria-labelledby="{name}">', heading, *parts, "</section>"])


def reader_section(data: ReaderData) -> str:
    """Return the reader, with its script and data."""
    return Template(_file("reader.html")).substitute(
        data=json_block(data), script=_file("reader.js")
    )


def write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    """Write a page whole or not at all.

    Args:
        path: In a folder that exists.
        title: Text.
        sections: HTML.

    Raises:
        OSError: As when a file is written, such as for a full disk.
    """
    digest = base64.b64encode(hashlib.sha256(_file("reader.js").encode()).digest()).decode()
    page = Template(_file("page.html")).substitute(
        title=escape(title),
        style=_file("page.css"),
        script_hash=f"sha256-{digest}",
        sections="\n".join(sections),
    )
    write_text(path, page)


@cache
def _file(name: str) -> str:
    return resources.files("refrag_rl.page").joinpath(name).read_text(encoding="utf-8")
