"""BM25 retrieval of passages by their tokens."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.sampling import Span
from refrag_rl.corpora.tokenized import TokenizedCorpus


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let imports of a package fail, as if it was not installed, if it was not imported before."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


# bm25s starts JAX where it is installed, which takes three quarters of a GPU's memory at once; what
# it is for, choosing the best documents, is done by NumPy here.
with _hidden("jax"):
    import bm25s

_STOP_SHARE = 0.1

LARGEST = 16_000_000
"""Tokens that are searched, at most."""


@lru_cache(maxsize=1)
def passage_index(corpus: TokenizedCorpus, passage_length: int) -> PassageIndex:
    """Return the index of a corpus; asked again for the same one, it is not built again.

    Mixtures of windows read one corpus with several retrievers, one after the other.

    Args:
        corpus: Documents of one split; compared by identity.
        passage_length: Tokens of a passage.
    """
    return PassageIndex(corpus, passage_length)


class PassageIndex:
    """All passages of a corpus, found by BM25 (Lucene's variant, by ``bm25s``) over token ids.

    Each document is cut into consecutive passages of ``passage_length`` tokens; a shorter rest is
    left out. Tokens that stand in more than a tenth of the passages are stop words.

    The index lies in memory. Of a corpus of more than ``LARGEST`` tokens it holds the same random
    choice of documents each time; a warning says so.

    Args:
        corpus: Documents of one split.
        passage_length: Tokens of a passage.
    """

    def __init__(self, corpus: TokenizedCorpus, passage_length: int) -> None:
        self._corpus = corpus
        self._length = passage_length
        counts = _searched(corpus.lengths // passage_length, LARGEST // passage_length)
        self._ends = np.cumsum(counts)
        self._retriever: bm25s.BM25 | None = None
        self._known: dict[int, int] = {}
        if len(self):
            passages = np.empty((len(self), passage_length), np.int32)
            for index in np.flatnonzero(counts):
                stop, count = self._ends[index], counts[index]
                ids = corpus[index].token_ids[: count * passage_length]
                passages[stop - count : stop] = ids.reshape(count, passage_length)
            self._build(passages)

    def __len__(self) -> int:
        """Return the number of passages."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def passage(self, number: int) -> Span:
        """Return passage ``number``."""
        index = int(np.searchsorted(self._ends, number, side="right"))
        start = (number - (int(self._ends[index - 1]) if index else 0)) * self._length
        return Span(self._corpus[index], start, start + self._length)

    def search(self, query: NDArray[np.int64], count: int) -> list[tuple[Span, float]]:
        """Return the ``count`` best passages for a query, best first; ties by place in the corpus.

        Args:
            query: (n,) token ids.
            count: Passages asked for; fewer come back where the corpus has fewer.
        """
        if not len(self):
            return []
        terms = [self._known[token] for token in query.tolist() if token in self._known]
        if terms and self._retriever is not None:
            scores = self._retriever.get_scores_from_ids(terms)
        else:
            scores = np.zeros(len(self), np.float32)
        count = min(count, len(scores))
        threshold = np.partition(scores, -count)[-count]
        candidates = np.flatnonzero(scores >= threshold)
        best = candidates[np.argsort(-scores[candidates], kind="stable")[:count]]
        return [(self.passage(int(number)), float(scores[number])) for number in best]

    def _build(self, passages: NDArray[np.int32]) -> None:
        ordered = np.sort(passages, axis=1)
        first = np.ones(ordered.shape, np.bool_)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        frequency = np.bincount(ordered[first])
        limit = max(1, int(_STOP_SHARE * len(passages)))
        kept = np.flatnonzero((frequency > 0) & (frequency <= limit))
        self._known = {int(token): term for term, token in enumerate(kept)}
        if not self._known:
            return
        lookup = np.full(len(frequency), -1, np.int64)
        lookup[kept] = np.arange(len(kept))
        terms = lookup[passages]
        ids = [row[row >= 0].tolist() for row in terms]
        vocabulary = {str(term): term for term in range(len(kept))}
        # bm25s reports each index at level DEBUG, and sets its logger to that level itself.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        self._retriever = bm25s.BM25(method="lucene")
        self._retriever.index(
            bm25s.tokenization.Tokenized(ids=ids, vocab=vocabulary), show_progress=False
        )


def _searched(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return how many passages of each document are searched.

    Args:
        counts: (n,) passages of each document.
        limit: Of all documents together.
    """
    if counts.sum() <= limit:
        return counts
    order = np.random.default_rng(0).permutation(len(counts))
    before = np.cumsum(counts[order]) - counts[order]
    searched = np.zeros_like(counts)
    searched[order] = np.clip(limit - before, 0, counts[order])
    warnings.warn(
        f"retrieval searches {limit} of {counts.sum()} passages, those of documents chosen at "
        "random: an index of all would need too much memory",
        stacklevel=3,
    )
    return searched
