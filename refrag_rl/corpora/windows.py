"""The window: one selection problem, cut from a corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from refrag_rl.errors import UserError

PromptPosition = Literal["after", "before"]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A prompt, a context of ``L`` chunks of ``k`` decoder tokens, and the output that follows.

    The decoder reads context, prompt, output (``prompt_position="after"``), or prompt, context,
    output (``"before"``: the paper's RAG layout). The prompt is always tokens, never compressed.
    Padding chunks (where ``chunk_mask`` is false) stand after the others.

    Attributes:
        key: Names the window: equal keys mean equal windows, of one corpus and chunk size.
        context_ids: (L, k) int64, decoder token ids; zeros in padding chunks.
        chunk_mask: (L,) bool, true for the chunks that hold text.
        prompt_ids: (q,) int64, may be empty.
        output_ids: (o,) int64, the tokens whose log-perplexity is the reward.
        document_id: Document that the prompt and the output come from.
        domain: Its domain.
        prompt_position: Where the prompt stands.
        chunk_texts: (L,) text of each chunk, sliced from its document; ``""`` in padding chunks.
        prompt_text: Text of the prompt.
        output_text: Text of the output.
        passage: (L,) int64, index of the passage that a chunk belongs to, in the order of the
            context; -1 in padding chunks. A contiguous context is one passage.
        passage_scores: (L,) float32, retrieval score of the chunk's passage; zeros where nothing
            was retrieved.
        planted: (L,) bool, the chunks that the output continues from or copies (``recall``
            windows); all false for the other kinds.
    """

    key: str
    context_ids: NDArray[np.int64]
    chunk_mask: NDArray[np.bool_]
    prompt_ids: NDArray[np.int64]
    output_ids: NDArray[np.int64]
    document_id: str
    domain: str
    prompt_position: PromptPosition
    chunk_texts: tuple[str, ...]
    prompt_text: str
    output_text: str
    passage: NDArray[np.int64]
    passage_scores: NDArray[np.float32]
    planted: NDArray[np.bool_] = field(repr=False)

    @property
    def num_chunks(self) -> int:
        """``L``, padding chunks included."""
        return self.context_ids.shape[0]

    @property
    def chunk_size(self) -> int:
        """``k``, in decoder tokens."""
        return self.context_ids.shape[1]

    def positions(self, expanded: int) -> int:
        """Return the decoder positions of the window with so many chunks expanded, bos included."""
        text = len(self.prompt_ids) + len(self.output_ids)
        return 1 + text + self.num_chunks + expanded * (self.chunk_size - 1)

    def context_tokens(self) -> NDArray[np.int64]:
        """Return the tokens of the context in order, padding left out, (s,)."""
        return self.context_ids[self.chunk_mask].reshape(-1)


class WindowCheck:
    """Refuses windows that cannot be scored; one for all windows that are scored together."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}

    def __call__(self, window: Window) -> Window:
        """Return the window.

        Raises:
            UserError: No chunk of it holds text, or another window has its key.
        """
        if not window.chunk_mask.any():
            raise UserError(
                f"window {window.key} of domain {window.domain} has no chunk of text in its "
                "context: give longer\ndocuments of that domain, or more of them"
            )
        parts = (window.context_ids, window.prompt_ids, window.output_ids)
        tokens = hash(tuple(part.tobytes() for part in parts))
        if self._tokens.setdefault(window.key, tokens) != tokens:
            raise UserError(
                f"two windows have the key {window.key}, and scores are kept by key: give each "
                "window its own\n(documents with ids of their own, if keys are made of them)"
            )
        return window


class WindowSource(Protocol):
    """A fixed sequence of windows: the same index always gives the same window."""

    kind: str
    num_chunks: int
    chunk_size: int

    def __len__(self) -> int:
        """Return how many windows there are."""
        ...

    def __getitem__(self, index: int) -> Window:
        """Return window ``index``, ``0 <= index < len(self)``."""
        ...
