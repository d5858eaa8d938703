"""What the frozen decoder says of a chunk alone: numbers that can be stored beside its embedding.

They depend on nothing but the chunk, so that they can be computed once for every passage that is
ever retrieved; computed in a request, they cost a decoder pass over the chunk's ``k`` tokens each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refrag_rl.modeling.sequences import MixedSequence, SequenceScorer


def chunk_log_perplexity(scorer: SequenceScorer, chunks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the log-perplexity of each chunk behind bos and nothing else, (N,), nats per token.

    Args:
        scorer: Of the frozen model.
        chunks: (N, k) decoder token ids.
    """
    return scorer.log_perplexity([_as_output(chunk, None) for chunk in chunks])


def reconstruction_loss(
    scorer: SequenceScorer, chunks: NDArray[np.int64], embeddings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the log-perplexity of each chunk behind bos and its own embedding, nats per token.

    Args:
        scorer: Of the frozen model.
        chunks: (N, k) decoder token ids.
        embeddings: (N, d_enc) chunk embeddings, before projection.

    Returns:
        (N,).
    """
    pairs = zip(chunks, embeddings, strict=True)
    return scorer.log_perplexity([_as_output(chunk, embedding) for chunk, embedding in pairs])


def _as_output(chunk: NDArray[np.int64], embedding: NDArray[np.float32] | None) -> MixedSequence:
    """Return a chunk (k,) as an output, behind its own embedding (d_enc,) or behind nothing."""
    given = np.ones(0 if embedding is None else 1, dtype=np.bool_)
    return MixedSequence(
        context_ids=np.tile(chunk, (len(given), 1)),
        chunk_mask=given,
        expanded=~given,
        prompt_ids=np.zeros(0, dtype=np.int64),
        output_ids=chunk,
        chunk_embeddings=None if embedding is None else embedding[None],
    )
