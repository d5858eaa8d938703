"""Contiguous windows: the paper's next-paragraph prediction."""

from __future__ import annotations

import numpy as np

from refrag_rl.corpora.sampling import Span, SpanSampler, assemble, check_geometry
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import PromptPosition, Window


class ContiguousWindows:
    """Context, prompt and output are consecutive tokens of one document.

    With ``prompt_length=0`` this is the paper's own setting, in which expanding the last chunks is
    almost unbeatable.

    Args:
        corpus: Documents of one split.
        chunk_size: ``k``, decoder tokens.
        context_length: ``s``, tokens; a multiple of ``k``.
        prompt_length: ``q``, tokens.
        output_length: ``o``, tokens.
        prompt_position: ``after`` the context or ``before`` it.
        count: Number of windows.
        seed: Window ``i`` is a function of the corpus, the lengths, ``seed`` and ``i``.
        with_texts: Fill in the texts of chunks, prompt and output.

    Raises:
        UserError: A length is out of range, or no document is long enough.
    """

    kind = "contiguous"

    def __init__(
        self,
        corpus: TokenizedCorpus,
        *,
        chunk_size: int,
        context_length: int = 512,
        prompt_length: int = 0,
        output_length: int = 128,
        prompt_position: PromptPosition = "after",
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
        )
        self.chunk_size = chunk_size
        self.num_chunks = context_length // chunk_size
        self._context_length = context_length
        self._prompt_length = prompt_length
        self._prompt_position: PromptPosition = prompt_position
        self._sampler = SpanSampler(corpus, context_length + prompt_length + output_length)
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
        span = self._sampler.draw(np.random.default_rng([self._seed, index]))
        document = span.document
        prompt_start = span.start + self._context_length
        output_start = prompt_start + self._prompt_length
        return assemble(
            key=f"contiguous/{document.id}/{span.start}-{prompt_start}-{output_start}-{span.stop}",
            passages=[Span(document, span.start, prompt_start)],
            prompt=Span(document, prompt_start, output_start),
            output=Span(document, output_start, span.stop),
            chunk_size=self.chunk_size,
            num_chunks=self.num_chunks,
            prompt_position=self._prompt_position,
            with_texts=self._with_texts,
        )
