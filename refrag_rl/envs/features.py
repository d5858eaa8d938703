"""The chunk features of an observation: the columns of ``refrag_rl.observation.CHUNK_FEATURES``.

All of them are computed from the prompt and the context; the output tokens are never read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window

BM25_K1 = 1.5


def window_feature(name: str, window: Window) -> NDArray[np.float64]:
    """Return a feature that is computed from the window alone, (L,).

    Args:
        name: One of ``OF_THE_WINDOW``.
        window: The window; its output tokens are not read.
    """
    return OF_THE_WINDOW[name](window)


def position(window: Window) -> NDArray[np.float64]:
    """Return the place of each chunk from 0 to 1, (L,)."""
    return np.arange(window.num_chunks) / max(window.num_chunks - 1, 1)


def similarity(
    window: Window,
    chunk_embeddings: NDArray[np.float32],
    prompt_embedding: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the cosine of each chunk's embedding and the prompt's, (L,).

    Where there is no prompt, the last chunk stands for it. A vector of zeros has similarity 0.
    """
    chunks = chunk_embeddings.astype(np.float64)
    if window.prompt_ids.size:
        query = prompt_embedding.astype(np.float64)
    else:
        query = chunks[np.flatnonzero(window.chunk_mask)[-1]]
    norms = np.linalg.norm(chunks, axis=-1) * np.linalg.norm(query)
    cosine = np.divide(chunks @ query, norms, out=np.zeros(len(chunks)), where=norms > 0)
    return np.clip(cosine, -1.0, 1.0)


def bm25(window: Window) -> NDArray[np.float64]:
    """Return the BM25 score of each chunk for the prompt's tokens, (L,).

    The documents are the chunks of this window, the terms are token ids, and a token that the
    prompt repeats counts each time. The inverse document frequency is Lucene's,
    ``log(1 + (N - n + 0.5) / (n + 0.5))``, which is never negative. All documents have ``k``
    tokens, so BM25's length normalisation (its parameter ``b``) is 1 and does not appear.
    """
    scores = np.zeros(window.num_chunks)
    if not window.prompt_ids.size:
        return scores
    terms, weights = np.unique(window.prompt_ids, return_counts=True)
    chunks = window.context_ids[window.chunk_mask]
    frequency = (chunks[:, :, None] == terms).sum(axis=1)
    document_frequency = (frequency > 0).sum(axis=0)
    idf = np.log1p((len(chunks) - document_frequency + 0.5) / (document_frequency + 0.5))
    scores[window.chunk_mask] = (frequency / (frequency + BM25_K1)) @ (idf * weights)
    return scores


def suffix_match(window: Window) -> NDArray[np.float64]:
    """Return how much of the prompt's end the context repeats, ending in each chunk, (L,).

    A match of ``m`` tokens is the prompt's last ``m`` tokens in one piece, within one passage; it
    may reach back over earlier chunks of the passage. The longest one that ends in a chunk counts,
    over the length of the prompt.
    """
    scores = np.zeros(window.num_chunks)
    prompt = window.prompt_ids
    if not prompt.size:
        return scores
    tokens = window.context_tokens()
    passage = np.repeat(window.passage[window.chunk_mask], window.chunk_size)
    longest = np.zeros(len(tokens), dtype=np.int64)
    # ``ends`` are the positions at which a match of ``length`` tokens ends; each turn asks which of
    # them go on one token further back.
    ends = np.arange(len(tokens))
    for length in range(1, len(prompt) + 1):
        start = ends - (length - 1)
        ends, start = ends[start >= 0], start[start >= 0]
        goes_on = (tokens[start] == prompt[-length]) & (passage[start] == passage[ends])
        ends = ends[goes_on]
        if not ends.size:
            break
        longest[ends] = length
    scores[window.chunk_mask] = longest.reshape(-1, window.chunk_size).max(axis=1) / len(prompt)
    return scores


def passage_rank(window: Window) -> NDArray[np.float64]:
    """Return the rank of each chunk's passage over the number of passages, (L,).

    The passage with the highest retrieval score has rank 0; equal scores keep the order of the
    context.
    """
    ranks = np.zeros(window.num_chunks)
    names, first = np.unique(window.passage[window.chunk_mask], return_index=True)
    scores = window.passage_scores[window.chunk_mask][first]
    best_first = np.lexsort((first, -scores))
    for rank, name in enumerate(names[best_first]):
        ranks[window.passage == name] = rank / len(names)
    return ranks


def passage_start(window: Window) -> NDArray[np.float64]:
    """Return 1 for the first chunk of each passage, else 0, (L,)."""
    return np.diff(window.passage, prepend=-1).astype(bool).astype(np.float64)


OF_THE_WINDOW: dict[str, Callable[[Window], NDArray[np.float64]]] = {
    "position": position,
    "lexical": bm25,
    "suffix_match": suffix_match,
    "passage_rank": passage_rank,
    "passage_start": passage_start,
}
"""The features that no model is asked for."""
