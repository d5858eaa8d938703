"""Documents are strangers' text: pages and terminal show it, and never interpret it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from refrag_rl.page.html import escape, json_block, reader_section, section, write_page
from refrag_rl.page.plain import plain, split_tokens
from refrag_rl.page.reading import ReaderData, spread
from refrag_rl.page.terminal import reading
from tests.page_data import HOSTILE, SHOWN, reader_data


class Parsed(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        addresses = ("src", "href", "action", "xlink:href")
        self.addresses += [value or "" for name, value in attrs if name in addresses]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def data() -> ReaderData:
    return reader_data()


def test_a_hostile_text_is_text_in_a_page(tmp_path: Path, data: ReaderData) -> None:
    path = tmp_path / "page.html"
    write_page(path, HOSTILE, [section("Part", f"<p>{escape(HOSTILE)}</p>"), reader_section(data)])
    page = path.read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "<script>alert" not in page
    parsed = Parsed(page)
    # The data and the reader's own script; none that a document brought.
    assert parsed.tags.count("script") == 2
    assert parsed.tags.count("img") == 0
    # Title, heading and paragraph.
    assert parsed.text.count(SHOWN) == 3
    block = re.search(r'id="reader-data">(.*?)</script>', page, re.DOTALL)
    assert block
    assert json.loads(block[1]) == json.loads(json.dumps(data))


def test_a_page_refers_to_nothing_outside(tmp_path: Path, data: ReaderData) -> None:
    write_page(tmp_path / "page.html", "title", [reader_section(data)])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert all(address.startswith(("data:", "#")) for address in Parsed(page).addresses)
    assert "@import" not in page
    assert "url(" not in page


def test_a_hostile_text_is_text_on_a_terminal(data: ReaderData) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    for shown in reading(data):
        console.print(shown)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert SHOWN in printed
    assert "\x1b" not in printed
    colored = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="truecolor")
    for shown in reading(data):
        colored.print(shown)
    assert isinstance(colored.file, io.StringIO)
    # Sequences are rich's own, which set colours and lines; the document's is spelled out.
    sequences = re.findall(r"\x1b\[([^a-zA-Z]*)([a-zA-Z])", colored.file.getvalue())
    assert {letter for _, letter in sequences} == {"m"}
    assert all(codes != "31" for codes, _ in sequences)


def test_plain_keeps_line_breaks_and_spells_out_the_rest() -> None:
    assert plain("a\tb\nc") == "a    b\nc"
    assert plain("\x1b[31m \x07 \u202e \ud800") == "\\x1b[31m \\x07 \\u202e \\ud800"
    plain("\ud800").encode("utf-8")


def test_json_in_a_script_has_no_end_tag_and_no_nan() -> None:
    block = json_block({"text": "</script><!-- & -->"})
    assert not set("<>&") & set(block)
    assert json.loads(block) == {"text": "</script><!-- & -->"}
    with pytest.raises(ValueError, match="JSON"):
        json_block([float("nan")])


def test_characters_of_several_tokens_are_one_piece() -> None:
    def decode(token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode("utf-8", errors="replace")

    text = "a\u6771b\U0001f375"
    pieces = split_tokens(list(text.encode()), decode)
    assert [(piece.text, piece.tokens) for piece in pieces] == [
        ("a", 1),
        ("\u6771", 3),
        ("b", 1),
        ("\U0001f375", 4),
    ]
    # An end in the middle of a character: no token is lost.
    cut = split_tokens(list(text.encode())[:-1], decode)
    assert sum(piece.tokens for piece in cut) == len(text.encode()) - 1


@pytest.mark.parametrize(("total", "count"), [(100, 20), (5, 20), (1, 1), (7, 3)])
def test_windows_of_the_reader_are_spread(total: int, count: int) -> None:
    indices = spread(total, count)
    assert len(indices) == min(total, count)
    assert len(np.unique(indices)) == len(indices)
    assert indices[0] == 0
    if count > 1:
        assert indices[-1] == total - 1
