"""Drawing places in a corpus: what the three kinds of windows share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.tokenized import TokenizedCorpus, TokenizedDocument
from refrag_rl.corpora.windows import PromptPosition, Window
from refrag_rl.errors import UserError

LONGEST = 2**40
"""Tokens of a part of a window, at most; sums of them are whole numbers that NumPy holds."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` to ``stop`` (exclusive) of a document."""

    document: TokenizedDocument
    start: int
    stop: int

    def ids(self) -> NDArray[np.int64]:
        """Return the token ids, (stop - start,)."""
        return self.document.token_ids[self.start : self.stop].astype(np.int64)

    def text(self) -> str:
        """Return the characters the tokens were made from."""
        return self.document.text_of(self.start, self.stop)


class SpanSampler:
    """Draws spans of a fixed length uniformly over the corpus.

    Args:
        corpus: Where to draw.
        length: Tokens of a span.

    Raises:
        UserError: No document is that long.
    """

    def __init__(self, corpus: TokenizedCorpus, length: int) -> None:
        places = np.maximum(corpus.lengths - length + 1, 0)
        if not places.sum():
            longest = max(corpus.lengths.tolist(), default=0)
            raise UserError(
                f"windows: no document has the {length} tokens that a window needs "
                f"({len(corpus)} documents, the longest of {longest} tokens). "
                "Give longer documents or lower windows.context_length or windows.output_length."
            )
        self._corpus = corpus
        self._length = length
        self._ends = np.cumsum(places)

    def draw(self, rng: np.random.Generator) -> Span:
        """Draw one span; every place of the corpus is equally likely."""
        place = int(rng.integers(self._ends[-1]))
        index = int(np.searchsorted(self._ends, place, side="right"))
        start = place - (int(self._ends[index - 1]) if index else 0)
        return Span(self._corpus[index], start, start + self._length)


def check_geometry(
    *,
    chunk_size: int,
    context_length: int,
    prompt_length: int,
    output_length: int,
    prompt_position: str,
    passage_length: int | None = None,
) -> None:
    """Check the lengths of a window, in tokens.

    Raises:
        UserError: A length is out of range, or not a multiple of what it must be a multiple of.
    """
    lengths = {"context_length": context_length, "prompt_length": prompt_length}
    lengths |= {"output_length": output_length}
    if passage_length is not None:
        lengths["passage_length"] = passage_length
    for name, value in lengths.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"windows.{name}={value!r}: give a whole number (tokens).")
        if value > LONGEST:
            raise UserError(f"windows.{name}={value}: give at most {LONGEST} (tokens).")
    if context_length < chunk_size or context_length % chunk_size:
        raise UserError(
            f"windows.context_length={context_length}: it must be a multiple of the chunk size "
            f"{chunk_size} (tokens)."
        )
    if prompt_length < 0:
        raise UserError(f"windows.prompt_length={prompt_length}: it must be 0 or more (tokens).")
    if output_length < 1:
        raise UserError(f"windows.output_length={output_length}: it must be 1 or more (tokens).")
    if prompt_position not in get_args(PromptPosition):
        raise UserError(
            f"windows.prompt_position={prompt_position}: choose one of "
            f"{', '.join(get_args(PromptPosition))}."
        )
    if passage_length is None:
        return
    if passage_length < chunk_size or passage_length % chunk_size:
        raise UserError(
            f"windows.passage_length={passage_length}: it must be a multiple of the chunk size "
            f"{chunk_size} (tokens)."
        )
    if context_length % passage_length:
        raise UserError(
            f"windows.context_length={context_length}: it must be a multiple of "
            f"windows.passage_length={passage_length} (tokens)."
        )


def assemble(
    *,
    key: str,
    passages: Sequence[Span],
    prompt: Span,
    output: Span,
    chunk_size: int,
    num_chunks: int,
    prompt_position: PromptPosition,
    passage_scores: Sequence[float] | None = None,
    copied: Span | None = None,
    with_texts: bool = True,
) -> Window:
    """Put a window together from its parts.

    Args:
        key: ``Window.key``, but for the place of the prompt, which is added to it.
        passages: Spans of the context in order, each a multiple of ``chunk_size`` long.
        prompt: The prompt, possibly empty.
        output: The output; the window takes its document and domain.
        chunk_size: ``k``.
        num_chunks: ``L``; chunks that the passages do not fill are padding.
        prompt_position: Where the prompt stands.
        passage_scores: One a passage.
        copied: The part of a passage that the output repeats: its chunks are ``planted``.
        with_texts: Fill the texts in (they cost time and only some encoders and people read them).
    """
    context_ids = np.zeros((num_chunks, chunk_size), np.int64)
    passage_of_chunk = np.full(num_chunks, -1, np.int64)
    scores = np.zeros(num_chunks, np.float32)
    planted = np.zeros(num_chunks, np.bool_)
    texts = [""] * num_chunks
    chunk = 0
    for number, passage in enumerate(passages):
        count = (passage.stop - passage.start) // chunk_size
        context_ids[chunk : chunk + count] = passage.ids().reshape(count, chunk_size)
        passage_of_chunk[chunk : chunk + count] = number
        if passage_scores is not None:
            scores[chunk : chunk + count] = passage_scores[number]
        for start in range(passage.start, passage.stop, chunk_size):
            stop = start + chunk_size
            if with_texts:
                texts[chunk] = passage.document.text_of(start, stop)
            if copied is not None and copied.document == passage.document:
                planted[chunk] = start < copied.stop and copied.start < stop
            chunk += 1
    return Window(
        key=key if prompt_position == "after" else f"{key}/{prompt_position}",
        context_ids=context_ids,
        chunk_mask=passage_of_chunk >= 0,
        prompt_ids=prompt.ids(),
        output_ids=output.ids(),
        document_id=output.document.id,
        domain=output.document.domain,
        prompt_position=prompt_position,
        chunk_texts=tuple(texts),
        prompt_text=prompt.text() if with_texts else "",
        output_text=output.text() if with_texts else "",
        passage=passage_of_chunk,
        passage_scores=scores,
        planted=planted,
    )
