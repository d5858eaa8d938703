"""The reader on a terminal; it can be read without colours, too."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from refrag_rl.envs.rendering import COMPRESSED, EXPANDED
from refrag_rl.page.reading import ChoiceData, ReaderData, WindowData

_FULL_GAIN = 2.0
"""Nats at which a token has its full colour."""

_LARGEST = 5
"""Tokens that are named below the next paragraph."""


def reading(data: ReaderData) -> Iterator[RenderableType]:
    """Yield what a terminal shows of each window, selector and budget, from top to bottom."""
    for window in data["windows"]:
        for selector, of_selector in zip(data["selectors"], window["choices"], strict=True):
            for budget, choice in zip(data["budgets"], of_selector, strict=True):
                title = f"{selector['name']}, {budget}"
                yield _context(window, choice, title, selector["tint"])
                yield from _next_paragraph(window, choice)


def _context(window: WindowData, choice: ChoiceData, title: str, tint: str) -> Table:
    expanded = set(window["sets"][choice["set"]]["expanded"])
    # Text, not str: a document's brackets are shown, never read as markup.
    table = Table(title=Text(title), title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for column in ("", "chunk", tint):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("text", overflow="fold")
    for index, (chunk, strength) in enumerate(zip(window["chunks"], choice["tint"], strict=True)):
        style = Style(underline=index in expanded) + _ground(strength, (130, 80, 223))
        table.add_row(
            Text(EXPANDED if index in expanded else COMPRESSED),
            str(index),
            f"{strength:.2f}",
            Text(chunk["text"].replace("\n", "\u21b5"), style=style),
        )
    return table


def _next_paragraph(window: WindowData, choice: ChoiceData) -> Iterator[Text]:
    with_chunks = window["sets"][choice["set"]]["log_likelihood"]
    without = window["sets"][0]["log_likelihood"]
    gains = [a - b for a, b in zip(with_chunks, without, strict=True)]
    if window["prompt"]:
        yield Text(f"\nprompt ({window['prompt_position']} the context)", style="dim")
        yield Text(window["prompt"])
    yield Text("\nnext paragraph (blue: likelier with the expanded chunks; orange: less)", "dim")
    text = Text()
    for (piece, _), gain in zip(window["pieces"], gains, strict=True):
        color = (9, 105, 218) if gain >= 0 else (217, 115, 13)
        text.append(piece, _ground(min(1.0, abs(gain) / _FULL_GAIN), color))
    yield text
    tokens = sum(count for _, count in window["pieces"])
    levels = [-sum(values) / tokens for values in (with_chunks, without)]
    yield Text(
        f"\nlog-perplexity {levels[0]:.4f} nats per token, {levels[1]:.4f} with nothing expanded, "
        f"difference {levels[0] - levels[1]:+.4f}"
    )
    order = sorted(range(len(gains)), key=lambda index: gains[index])
    for name, places in (("gained", order[::-1]), ("lost", order)):
        largest = [place for place in places[:_LARGEST] if (gains[place] > 0) == (name == "gained")]
        told = (f"{window['pieces'][place][0]!r} {gains[place]:+.2f}" for place in largest)
        yield Text(f"{name} most: {', '.join(told) or 'no token'}")
    yield Text()


def _ground(strength: float, color: tuple[int, int, int]) -> Style:
    """Return a style whose background is a colour, the darker the weaker; none for 0."""
    if strength < 0.05:
        return Style()
    red, green, blue = (int(part * (0.25 + 0.75 * strength)) for part in color)
    return Style(color="white", bgcolor=f"rgb({red},{green},{blue})")
