"""Recall windows: planted look-ups in real text."""

from __future__ import annotations

import numpy as np

from refrag_rl.corpora.sampling import Span, SpanSampler, assemble, check_geometry
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import PromptPosition, Window
from refrag_rl.errors import UserError

_TRIES = 50


class RecallWindows:
    """The output repeats a span of one passage; the prompt is what stands before that span.

    The context is passages of real text, drawn at random from one domain, in random order. One of
    them is the source: the prompt is ``q`` consecutive tokens of it and the output the ``o`` tokens
    that follow there. The chunks of the source that hold the output are ``Window.planted``.

    Args:
        corpus: Documents of one split.
        chunk_size: ``k``, decoder tokens.
        context_length: ``s``, tokens; a multiple of ``passage_length``.
        passage_length: Tokens of a passage; a multiple of ``k``, and at least ``q + o``.
        prompt_length: ``q``, tokens, at least 1.
        output_length: ``o``, tokens.
        prompt_position: ``after`` the context or ``before`` it.
        count: Number of windows.
        seed: Window ``i`` is a function of the corpus, the lengths, ``seed`` and ``i``.
        with_texts: Fill in the texts of chunks, prompt and output.

    Raises:
        UserError: A length is out of range, or no document is long enough.
    """

    kind = "recall"

    def __init__(
        self,
        corpus: TokenizedCorpus,
        *,
        chunk_size: int,
        context_length: int = 512,
        passage_length: int = 64,
        prompt_length: int = 16,
        output_length: int = 32,
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
            passage_length=passage_length,
        )
        if prompt_length < 1 or prompt_length + output_length > passage_length:
            raise UserError(
                f"windows: recall needs a prompt, and prompt and output "
                f"({prompt_length} + {output_length} tokens) within one passage of "
                f"{passage_length}. Lower windows.output_length or raise windows.passage_length."
            )
        self.chunk_size = chunk_size
        self.num_chunks = context_length // chunk_size
        self._passages = context_length // passage_length
        self._prompt_length = prompt_length
        self._output_length = output_length
        self._prompt_position: PromptPosition = prompt_position
        self._source = SpanSampler(corpus, passage_length)
        self._distractors = {
            domain: SpanSampler(part, passage_length)
            for domain in corpus.domains
            if ((part := corpus.of_domain(domain)).lengths >= passage_length).any()
        }
        self._freedom = passage_length - prompt_length - output_length
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
        source = self._source.draw(rng)
        prompt_start = source.start + int(rng.integers(self._freedom + 1))
        output_start = prompt_start + self._prompt_length
        output = Span(source.document, output_start, output_start + self._output_length)
        sampler = self._distractors[source.document.domain]
        passages = [self._draw_apart(sampler, source, rng) for _ in range(self._passages - 1)]
        passages.insert(int(rng.integers(self._passages)), source)
        return assemble(
            key=f"recall/{self._seed}/{index}/{source.document.id}/{prompt_start}"
            f"-{output.start}-{output.stop}/{self.num_chunks}x{self.chunk_size}/{self._passages}",
            passages=passages,
            prompt=Span(source.document, prompt_start, output_start),
            output=output,
            chunk_size=self.chunk_size,
            num_chunks=self.num_chunks,
            prompt_position=self._prompt_position,
            copied=output,
            with_texts=self._with_texts,
        )

    @staticmethod
    def _draw_apart(sampler: SpanSampler, source: Span, rng: np.random.Generator) -> Span:
        """Draw a passage that shares no token with the source, so that the output stands once.

        Where the corpus is too small for that, the output may stand twice; then both places are
        ``planted``.
        """
        for _ in range(_TRIES):
            passage = sampler.draw(rng)
            if (
                passage.document != source.document
                or passage.stop <= source.start
                or source.stop <= passage.start
            ):
                break
        return passage
