"""What the reader shows of windows: texts, what each selector expands, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.evaluation.interfaces import Column, ScoredProblem, Selector
from refrag_rl.observation import inputs_of
from refrag_rl.page.plain import Decode, Piece, plain, split_tokens
from refrag_rl.page.tints import Kind, tint_of


@runtime_checkable
class TokenScoredProblem(ScoredProblem, Protocol):
    """A problem that scores outputs token by token."""

    def token_log_likelihood(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> list[NDArray[np.float32]]:
        """Return the log-likelihood of each output token, ``B`` arrays of (o,), nats."""
        ...


class ChunkData(TypedDict):
    """A chunk that holds text."""

    text: str
    passage: int
    planted: bool


class SetData(TypedDict):
    """A set of expanded chunks.

    Attributes:
        expanded: Indices of the chunks.
        log_likelihood: Of each piece of the output, nats.
    """

    expanded: list[int]
    log_likelihood: list[float]


class ChoiceData(TypedDict):
    """What a selector does in a window at a budget.

    Attributes:
        set: Index into the window's sets.
        tint: Of each chunk, 0 to 1.
    """

    set: int
    tint: list[float]


class WindowData(TypedDict):
    """A window; ``choices`` are by selector, then by budget; set 0 is nothing expanded.

    Attributes:
        passage_scores: Retrieval score of each passage.
        pieces: Text and number of tokens of each piece of the output.
    """

    key: str
    document: str
    domain: str
    prompt: str
    prompt_position: str
    passage_scores: list[float]
    chunks: list[ChunkData]
    pieces: list[tuple[str, int]]
    sets: list[SetData]
    choices: list[list[ChoiceData]]


class SelectorData(TypedDict):
    """A selector, and what the tints of its chunks are."""

    name: str
    tint: Kind


class ReaderData(TypedDict):
    """All that the reader shows; texts are as ``plain`` returns them."""

    selectors: list[SelectorData]
    budgets: list[str]
    windows: list[WindowData]


Picks = Callable[[Selector, int], NDArray[np.bool_]]
"""(selector, position of the budget) -> what it expands in the windows that are read, (n, L)."""


@dataclass(frozen=True)
class _Choice:
    """What a selector does at a budget: sets and tints of all windows, (n, L)."""

    expanded: NDArray[np.bool_]
    kind: Kind
    tint: NDArray[np.float64]


def budget_name(column: Column, num_chunks: int) -> str:
    """Return what a budget is called on a page."""
    return f"rate {column.compression_rate:.3g}: {column.chunks} of {num_chunks} chunks"


def spread(total: int, count: int) -> NDArray[np.int64]:
    """Return at most ``count`` of the indices 0 to ``total - 1``, evenly spread, (n,)."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(np.int64)


def read_windows(
    problem: TokenScoredProblem,
    indices: NDArray[np.int64],
    selectors: Sequence[Selector],
    columns: Sequence[Column],
    picks: Picks,
    decode: Decode,
    *,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> ReaderData:
    """Return what the reader shows.

    Args:
        problem: Holds the windows and scores their outputs.
        indices: (n,) windows to read, at least one.
        selectors: To be read, at least one.
        columns: Budgets, at least one.
        picks: What the selectors expand.
        decode: Of the decoder's tokenizer.
        seed: Of the draws that a policy's probabilities are estimated from.
        progress: Called after each window.
    """
    rng = np.random.default_rng(seed)
    choices = [
        [_choice(problem, indices, selector, column, picks(selector, position), rng)
         for position, column in enumerate(columns)]
        for selector in selectors
    ]  # fmt: skip
    windows = []
    for row, index in enumerate(indices):
        windows.append(_window(problem, int(index), row, choices, decode))
        progress()
    size = problem.windows.num_chunks
    return ReaderData(
        selectors=[
            SelectorData(name=plain(selector.name), tint=of_selector[0].kind)
            for selector, of_selector in zip(selectors, choices, strict=True)
        ],
        budgets=[budget_name(column, size) for column in columns],
        windows=windows,
    )


def _choice(
    problem: TokenScoredProblem,
    indices: NDArray[np.int64],
    selector: Selector,
    column: Column,
    expanded: NDArray[np.bool_],
    rng: np.random.Generator,
) -> _Choice:
    budgets = column.chunks_of(problem.chunk_masks(indices).sum(axis=1))
    tint = tint_of(
        selector, problem.observe(indices, budgets, inputs_of(selector)), budgets, expanded, rng
    )
    return _Choice(expanded, *tint)


def _window(
    problem: TokenScoredProblem,
    index: int,
    row: int,
    choices: Sequence[Sequence[_Choice]],
    decode: Decode,
) -> WindowData:
    window = problem.windows[index]
    held = np.flatnonzero(window.chunk_mask)
    # Equal sets are scored once; the first is the one in which nothing is expanded.
    sets: dict[bytes, NDArray[np.bool_]] = {}
    nothing = np.zeros(window.num_chunks, dtype=np.bool_)
    for expanded in (nothing, *(c.expanded[row] for of_one in choices for c in of_one)):
        sets.setdefault(expanded.tobytes(), expanded)
    places = {key: place for place, key in enumerate(sets)}
    scored = problem.token_log_likelihood(np.full(len(sets), index), np.stack([*sets.values()]))
    pieces = split_tokens(window.output_ids.tolist(), decode)
    starts = np.unique(window.passage[held], return_index=True)[1]
    return WindowData(
        key=plain(window.key),
        document=plain(window.document_id),
        domain=plain(window.domain),
        prompt=plain(_text(window.prompt_text, window.prompt_ids, decode)),
        prompt_position=window.prompt_position,
        passage_scores=[round(float(window.passage_scores[start]), 3) for start in starts],
        chunks=[_chunk(window, int(chunk), decode) for chunk in held],
        pieces=[(piece.text, piece.tokens) for piece in pieces],
        sets=[
            SetData(
                expanded=np.flatnonzero(expanded).tolist(),
                log_likelihood=_of_pieces(tokens, pieces),
            )
            for expanded, tokens in zip(sets.values(), scored, strict=True)
        ],
        choices=[
            [
                ChoiceData(
                    set=places[choice.expanded[row].tobytes()],
                    tint=[round(float(value), 3) for value in choice.tint[row, held]],
                )
                for choice in of_selector
            ]
            for of_selector in choices
        ],
    )


def _chunk(window: Window, chunk: int, decode: Decode) -> ChunkData:
    return ChunkData(
        text=plain(_text(window.chunk_texts[chunk], window.context_ids[chunk], decode)),
        passage=int(window.passage[chunk]),
        planted=bool(window.planted[chunk]),
    )


def _text(text: str, token_ids: NDArray[np.int64], decode: Decode) -> str:
    """Return the text that the tokens were made from, or theirs where a window holds none."""
    return text or decode(token_ids.tolist())


def _of_pieces(log_likelihood: NDArray[np.float32], pieces: Sequence[Piece]) -> list[float]:
    """Return the sum of each piece's tokens (o,), nats."""
    ends = np.cumsum([piece.tokens for piece in pieces])
    sums = np.diff(np.cumsum(log_likelihood, dtype=np.float64)[ends - 1], prepend=0.0)
    return [round(float(value), 4) for value in sums]
