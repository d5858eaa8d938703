"""Data of a reader by hand: two windows, two selectors, two budgets, hostile texts."""

from __future__ import annotations

from refrag_rl.page.plain import plain
from refrag_rl.page.reading import ChoiceData, ChunkData, ReaderData, SetData, WindowData

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> \x1b[31m [bold]b[/bold] \ud800'
SHOWN = plain(HOSTILE)

EXPANDED = [[0], [0, 1], [4], [3, 4]]
"""Chunks that the first selector expands at the two budgets, then the second."""


def reader_data() -> ReaderData:
    """Return the data."""
    return ReaderData(
        selectors=[{"name": SHOWN, "tint": "probability"}, {"name": "recency", "tint": "score"}],
        budgets=["rate 4: 1 of 5 chunks", "rate 2: 2 of 5 chunks"],
        windows=[_window("first"), _window("second")],
    )


def _window(document: str) -> WindowData:
    texts = (SHOWN, "The river rises\nin the hills", " and runs", " to the sea,", " they say.")
    sets = [[], *EXPANDED]
    return WindowData(
        key=f"key/{document}",
        document=document,
        domain="[red]tales",
        prompt=f"What of {SHOWN}?",
        prompt_position="after",
        passage_scores=[0.5, 0.25],
        chunks=[
            ChunkData(text=text, passage=int(index > 2), planted=index == 1)
            for index, text in enumerate(texts)
        ],
        pieces=[("It ", 1), ("runs ", 1), (SHOWN, 2), (" on.", 1)],
        sets=[
            SetData(expanded=chunks, log_likelihood=[-3.0 + len(chunks), -2.0, -1.5, -4.0])
            for chunks in sets
        ],
        choices=[
            [
                ChoiceData(set=1, tint=[0.7, 0.2, 0.1, 0.0, 0.0]),
                ChoiceData(set=2, tint=[0.9, 0.7, 0.3, 0.1, 0.0]),
            ],
            [
                ChoiceData(set=3, tint=[0.0, 0.25, 0.5, 0.75, 1.0]),
                ChoiceData(set=4, tint=[0.0, 0.25, 0.5, 0.75, 1.0]),
            ],
        ],
    )
