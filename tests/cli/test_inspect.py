"""``refrag_rl.inspect`` on files as a user has them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import InProcess
from tests.conftest import paragraphs, save_tiny_checkpoint

HOSTILE = "<script>alert(1)</script> \x1b[31mred [bold]not bold[/bold] "
SIZES = ("windows.context_length=64", "windows.prompt_length=8", "windows.output_length=16")


@pytest.fixture
def arguments(tiny_checkpoint: Path) -> tuple[str, ...]:
    return (f"refrag.path={tiny_checkpoint}", *SIZES, "budget=2")


def test_a_model_of_small_chunks(in_process: InProcess, tmp_path: Path) -> None:
    """Budgets that it can have are enough, in a comparison too."""
    model = save_tiny_checkpoint(tmp_path / "model", chunk_size=3)
    sizes = ("windows.context_length=48", "windows.prompt_length=8", "windows.output_length=16")
    (tmp_path / "text.txt").write_text(paragraphs(1, 400), encoding="utf-8")
    given = (f"refrag.path={model}", *sizes)
    outcome = in_process("inspect", *given, "text=text.txt", "policy=[recency]", "budget=2")
    assert outcome.code == 0, outcome.err
    corpus = ("corpus=files", "corpus.path=text.txt", "corpus.split=all", "windows=contiguous")
    compared = ("selectors=[recency]", "rates=[2]", "count=2", "output=out", "report.windows=0")
    outcome = in_process("evaluate", *given, *corpus, *compared)
    assert outcome.code == 0, outcome.err


def reader_data(page: Path) -> dict[str, Any]:
    """Return what the reader of a page shows, from the page itself."""
    text = page.read_text(encoding="utf-8")
    block = re.search(r'id="reader-data">(.*?)</script>', text, re.DOTALL)
    assert block
    data: dict[str, Any] = json.loads(block[1])
    return data


def test_a_text_on_terminal_and_page(
    in_process: InProcess, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    text = paragraphs(1, 100) + HOSTILE + paragraphs(2, 8)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    given = ("policy=[recency,lexical]", "text=text.txt", "output=page.html")
    outcome = in_process("inspect", *arguments, *given)
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out
    assert "recency, rate" in outcome.out
    assert "lexical, rate" in outcome.out
    assert "log-perplexity" in outcome.out
    assert "page: page.html" in outcome.out

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "<script>alert" not in page
    data = reader_data(tmp_path / "page.html")
    assert [selector["name"] for selector in data["selectors"]] == ["recency", "lexical"]
    (window,) = data["windows"]
    shown = "".join(chunk["text"] for chunk in window["chunks"])
    shown += window["prompt"] + "".join(piece for piece, _ in window["pieces"])
    assert text.replace("\x1b", "\\x1b").endswith(shown)
    assert HOSTILE.replace("\x1b", "\\x1b") in shown
    # The last two of the eight chunks.
    recency = window["choices"][0][0]
    assert window["sets"][recency["set"]]["expanded"] == [6, 7]
    assert window["sets"][0]["expanded"] == []


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        (b"short", [], ["has", "tokens", "88 are needed"]),
        (b"short", ["seed=-1"], ["seed=-1"]),
        (None, [], ["no such file"]),
        (b"\xff\xfe\x00\x80 binary", [], ["UTF-8"]),
        (b"zero \0 byte " * 100, [], ["zero byte"]),
        (b"word " * 400, ["policy=recncy"], ["recncy"]),
        (b"word " * 400, ["budget=9"], ["9 chunks"]),
        (b"word " * 400, ["budget=[]"], ["budget"]),
        (b"word " * 400, ["output=text.txt"], [".html"]),
        (b"word " * 400, ["output=nowhere/page.html"], ["nowhere"]),
        (b"word " * 400, ["windows.context_length=60"], ["60", "multiple"]),
        (b"word " * 400, ["windows.output_length=0"], ["output_length=0"]),
    ],
)
def test_a_mistake_is_told(
    in_process: InProcess,
    arguments: tuple[str, ...],
    tmp_path: Path,
    content: bytes | None,
    given: list[str],
    said: list[str],
) -> None:
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    outcome = in_process("inspect", *arguments, "policy=recency", "text=text.txt", *given)
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    assert 1 <= len(outcome.err.strip().splitlines()) <= 3, outcome.err
    for words in said:
        assert words in outcome.err
    assert sorted(tmp_path.iterdir()) == before


def test_the_policy_of_the_package_tints_chunks_by_their_probability(
    in_process: InProcess, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(paragraphs(3, 900), encoding="utf-8")
    given = ("policy=policy:default", "text=text.txt", "budget=[2,6]", "output=page.html")
    outcome = in_process("inspect", *given)
    assert outcome.code == 0, outcome.err
    assert "policy:default, rate" in outcome.out
    data = reader_data(tmp_path / "page.html")
    (window,) = data["windows"]
    for choice, budget in zip(window["choices"][0], (2, 6), strict=True):
        assert len(window["sets"][choice["set"]]["expanded"]) == budget
        # A chunk is drawn or not: the probabilities of all of them sum to the budget.
        assert sum(choice["tint"]) == pytest.approx(budget, abs=0.1)
