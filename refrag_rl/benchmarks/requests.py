"""A request as a server is given it: random tokens, in the host's memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from refrag_rl.corpora.windows import Window
from refrag_rl.modeling import RefragForCausalLM

SPECIAL_TOKENS = 2
"""Tokens that an encoder with a tokenizer of its own sets around a chunk's ``k``."""

PASSAGE_TOKENS = 64
"""Length of a retrieved passage, as in ``windows=retrieved``; a larger chunk is a passage."""


@dataclass(frozen=True)
class Request:
    """What a server is given, in the host's memory.

    Attributes:
        context_ids: (s,) int64.
        prompt_ids: (q,) int64.
        encoder_ids: (L, k + 2) int64, the chunks in the encoder's vocabulary; none (0, 2) for the
            full context.
        prompt_encoder_ids: (ceil(q / k), k + 2) int64, the prompt's pieces in the encoder's
            vocabulary, each as long as a chunk; none for the full context.
        passage_scores: (s,) float32, retrieval score of each token's passage.
    """

    context_ids: Tensor
    prompt_ids: Tensor
    encoder_ids: Tensor
    prompt_encoder_ids: Tensor
    passage_scores: Tensor

    @classmethod
    def draw(
        cls,
        model: RefragForCausalLM,
        *,
        length: int,
        prompt_length: int,
        chunk_size: int | None,
        seed: int,
    ) -> Request:
        """Draw a request of random tokens; the same seed gives the same context and prompt."""
        generator = torch.Generator().manual_seed(seed)

        def tokens(part: PreTrainedModel, *shape: int) -> Tensor:
            return torch.randint(part.config.vocab_size, shape, generator=generator)

        context, prompt = tokens(model.decoder, length), tokens(model.decoder, prompt_length)
        scores = torch.rand(-(-length // PASSAGE_TOKENS), generator=generator)
        size = 0 if chunk_size is None else chunk_size
        chunks, pieces = (length // size, -(-prompt_length // size)) if size else (0, 0)
        return cls(
            context,
            prompt,
            tokens(model.encoder, chunks, size + SPECIAL_TOKENS),
            tokens(model.encoder, pieces, size + SPECIAL_TOKENS),
            scores.repeat_interleave(PASSAGE_TOKENS)[:length],
        )

    def window(self, chunk_size: int) -> Window:
        """Return the request as chunk features are computed of it; there is no output.

        Args:
            chunk_size: ``k``, a divisor of ``s``.
        """
        context_ids = self.context_ids.numpy().reshape(-1, chunk_size)
        chunks = len(context_ids)
        return Window(
            key="request",
            context_ids=context_ids,
            chunk_mask=np.ones(chunks, dtype=np.bool_),
            prompt_ids=self.prompt_ids.numpy(),
            output_ids=np.zeros(0, dtype=np.int64),
            document_id="request",
            domain="random",
            prompt_position="after",
            chunk_texts=("",) * chunks,
            prompt_text="",
            output_text="",
            passage=np.arange(chunks) // max(1, PASSAGE_TOKENS // chunk_size),
            passage_scores=self.passage_scores.numpy()[::chunk_size],
            planted=np.zeros(chunks, dtype=np.bool_),
        )
