"""Retrieved windows: passages found for the prompt, as in retrieval-augmented generation."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from refrag_rl.corpora.retrieval import passage_index
from refrag_rl.corpora.sampling import Span, SpanSampler, assemble, check_geometry
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import PromptPosition, Window
from refrag_rl.errors import UserError

Retriever = Literal["strong", "weak"]
Order = Literal["shuffled", "ranked"]

POOL = 200
"""Candidates of the weak retriever, as in the paper's section 5."""


class RetrievedWindows:
    """The context is passages that BM25 finds for the prompt in the same split of the corpus.

    The prompt is the ``q`` tokens before the output. A passage that overlaps the prompt or the
    output is never taken; other passages of the same document may be.

    Args:
        corpus: Documents of one split.
        chunk_size: ``k``, decoder tokens.
        context_length: ``s``, tokens; a multiple of ``passage_length``.
        passage_length: Tokens of a passage; a multiple of ``k``.
        prompt_length: ``q``, tokens, at least 1: it is the query.
        output_length: ``o``, tokens.
        prompt_position: ``after`` the context or ``before`` it.
        retriever: ``strong`` takes the best passages, ``weak`` a random choice of the best ``pool``
            (the paper's section 5).
        pool: Candidates of the weak retriever.
        order: ``shuffled``, or ``ranked`` with the best passage first.
        count: Number of windows.
        seed: Window ``i`` is a function of the corpus, the lengths, ``seed`` and ``i``.
        with_texts: Fill in the texts of chunks, prompt and output.

    Raises:
        UserError: An option is out of range, or no document is long enough.
    """

    kind = "retrieved"

    def __init__(
        self,
        corpus: TokenizedCorpus,
        *,
        chunk_size: int,
        context_length: int = 512,
        passage_length: int = 64,
        prompt_length: int = 32,
        output_length: int = 128,
        prompt_position: PromptPosition = "after",
        retriever: Retriever = "strong",
        pool: int = POOL,
        order: Order = "shuffled",
        count: int = 1000,
        seed: int = 0,
        with_texts: bool = True,
    ) -> None:
        check_geometry(
            chunk_size=chunk_size,
            context_length=context_length,
            prompt_length=prompt_length,
            output_length=output_length,
            prompt_position=prompt_position,
            passage_length=passage_length,
        )
        if prompt_length < 1:
            raise UserError(
                "windows.prompt_length=0: retrieved windows need a prompt, it is the query. "
                "Give 1 or more (tokens)."
            )
        for name, value, allowed in (
            ("retriever", retriever, get_args(Retriever)),
            ("order", order, get_args(Order)),
        ):
            if value not in allowed:
                raise UserError(f"windows.{name}={value}: choose one of {', '.join(allowed)}.")
        self._passages = context_length // passage_length
        if not isinstance(pool, int) or pool < self._passages:
            raise UserError(
                f"windows.pool={pool}: give at least the {self._passages} passages of a context."
            )
        self.chunk_size = chunk_size
        self.num_chunks = context_length // chunk_size
        self._prompt_length = prompt_length
        self._prompt_position: PromptPosition = prompt_position
        self._retriever = retriever
        self._pool = pool
        self._order = order
        self._sampler = SpanSampler(corpus, prompt_length + output_length)
        self._index = passage_index(corpus, passage_length)
        self._overlapping = (prompt_length + output_length) // passage_length + 2
        self._count = count
        self._seed = seed
        self._with_texts = with_texts

    def __len__(self) -> int:
        """Return ``count``."""
        return self._count

    def __getitem__(self, index: int) -> Window:
        """Return window ``index``."""
        if not 0 <= index < self._count:
            raise IndexError(f"window {index}: there are {self._count}")
        rng = np.random.default_rng([self._seed, index])
        span = self._sampler.draw(rng)
        output_start = span.start + self._prompt_length
        prompt = Span(span.document, span.start, output_start)
        chosen = self._choose(prompt, span, rng)
        pool = "" if self._retriever == "strong" or self._pool == POOL else str(self._pool)
        return assemble(
            key=f"retrieved/{self._seed}/{index}/{span.document.id}/{span.start}-{output_start}"
            f"-{span.stop}/{self._retriever}{pool}-{self._order}"
            f"/{self.num_chunks}x{self.chunk_size}"
            f"/{self._passages}",
            passages=[passage for passage, _ in chosen],
            prompt=prompt,
            output=Span(span.document, output_start, span.stop),
            chunk_size=self.chunk_size,
            num_chunks=self.num_chunks,
            prompt_position=self._prompt_position,
            passage_scores=[score for _, score in chosen],
            with_texts=self._with_texts,
        )

    def _choose(
        self, prompt: Span, span: Span, rng: np.random.Generator
    ) -> list[tuple[Span, float]]:
        wanted = self._passages if self._retriever == "strong" else self._pool
        found = [
            (passage, score)
            for passage, score in self._index.search(prompt.ids(), wanted + self._overlapping)
            if passage.document != span.document
            or passage.stop <= span.start
            or passage.start >= span.stop
        ][:wanted]
        if self._retriever == "weak" and len(found) > self._passages:
            kept = np.sort(rng.choice(len(found), self._passages, replace=False))
            found = [found[number] for number in kept]
        if self._order == "shuffled":
            found = [found[number] for number in rng.permutation(len(found))]
        return found
