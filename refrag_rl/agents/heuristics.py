"""Selectors without learning: the rules that a policy has to beat.

Each sees only the observation. Rules that need a prompt say what they do without one; among chunks
of equal score the earlier one is taken, in every rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.arguments import one_of
from refrag_rl.errors import UserError
from refrag_rl.observation import Inputs, Observation, feature

Scores = NDArray[np.floating]


def count_picks(observation: Observation, budget: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many chunks each row expands: ``min(budget, chunks that hold text)``, (B,)."""
    return np.minimum(budget, observation["chunk_mask"].astype(np.int64).sum(-1))


def expand_highest(
    scores: Scores, observation: Observation, budget: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return the chunks of highest score, (B, L) bool, the earlier chunk where scores tie.

    Args:
        scores: (B, L).
        observation: Says which chunks hold text.
        budget: (B,) chunks.

    Raises:
        UserError: A score of a chunk that holds text is NaN.
    """
    held = observation["chunk_mask"].astype(bool)
    if np.isnan(scores[held]).any():
        raise UserError(
            "a selector's scores are NaN: features that are not named in its inputs are; name them "
            "there (Inputs)"
        )
    falling = np.where(held, -scores, np.inf)
    order = np.argsort(falling, axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[-1])[None, :], axis=-1)
    return rank < count_picks(observation, budget)[:, None]


class Heuristic(ABC):
    """A rule that gives each chunk a score and expands the highest.

    Attributes:
        inputs: What it reads of a window.
    """

    name: str
    inputs: Inputs = Inputs(())

    @abstractmethod
    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the score of each chunk, (B, L); padding chunks may have any."""

    def select(
        self, observation: Observation, budget: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the chunks to expand, (B, L) bool; see ``Selector.select``."""
        return expand_highest(self.scores(observation, rng), observation, budget)


class Random(Heuristic):
    """Every set of the budget's size equally likely (a baseline of the paper)."""

    name = "random"

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return uniform random numbers."""
        return rng.random(observation["chunk_mask"].shape)

    def inclusion_probabilities(
        self,
        observation: Observation,
        budget: NDArray[np.int64],
        rng: np.random.Generator,
        samples: int,
    ) -> NDArray[np.float64]:
        """Return the same for all chunks of a row, (B, L); exact, so that nothing is drawn."""
        held = observation["chunk_mask"].astype(np.float64)
        return held * (count_picks(observation, budget) / held.sum(-1))[:, None]


class PerplexityDescending(Heuristic):
    """Expand the chunks of high perplexity, compress the others (a baseline of the paper)."""

    name = "perplexity_desc"
    inputs = Inputs(("log_perplexity",))

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the chunks' log-perplexity, nats per token."""
        return feature(observation, "log_perplexity")


class PerplexityAscending(Heuristic):
    """Expand the chunks of low perplexity, compress the others (a baseline of the paper)."""

    name = "perplexity_asc"
    inputs = Inputs(("log_perplexity",))

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the chunks' negative log-perplexity, nats per token."""
        return -feature(observation, "log_perplexity")


class Recency(Heuristic):
    """Expand the last chunks."""

    name = "recency"

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the chunks' places."""
        shape = observation["chunk_mask"].shape
        return np.broadcast_to(np.arange(shape[-1], dtype=np.float64), shape)


class Lead(Heuristic):
    """Expand the first chunks."""

    name = "lead"

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the same score for all: ties go to the earlier chunk."""
        return np.zeros(observation["chunk_mask"].shape)


class Similarity(Heuristic):
    """Expand the chunks whose embedding is nearest the prompt's by cosine.

    Without a prompt, nearest the last chunk's; the observation's feature is made so.
    """

    name = "similarity"
    inputs = Inputs(("similarity",))

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the cosines."""
        return feature(observation, "similarity")


class Lexical(Heuristic):
    """Expand the chunks of highest BM25 score for the prompt.

    Without a prompt all scores are 0 and the first chunks are taken, as by ``Lead``.
    """

    name = "lexical"
    inputs = Inputs(("lexical",))

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the BM25 scores."""
        return feature(observation, "lexical")


class PassageRank(Heuristic):
    """Expand the passages in order of their retrieval score, each from its first chunk on.

    What a retrieval pipeline does that keeps its best passages and cuts the rest. A context of one
    passage, or passages of equal rank: as by ``Lead``.
    """

    name = "passage_rank"
    inputs = Inputs(("passage_rank",))

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the negative ranks of the chunks' passages."""
        return -feature(observation, "passage_rank")


class Successor(Heuristic):
    """Expand from the best match with the prompt onwards, to the end of its passage; then the next.

    What is about to be copied stands after the match, not in it. When a passage ends (or the next
    chunk is taken already), the best match among the chunks left begins anew, until the budget is
    met. Without a prompt nothing matches and the first chunks are taken, as by ``Lead``.

    Args:
        match: What a match is: ``lexical``, the BM25 score of the chunk for the prompt, or
            ``suffix_match``, the share of the prompt's last tokens that ends in the chunk.

    Raises:
        UserError: ``match`` is neither.
    """

    name = "successor"

    def __init__(self, match: str = "lexical") -> None:
        self.match = one_of("match", match, ("lexical", "suffix_match"))
        self.inputs = Inputs((self.match, "passage_start"))

    def scores(self, observation: Observation, rng: np.random.Generator) -> Scores:
        """Return the negative step at which each chunk would be taken were there no budget."""
        match = feature(observation, self.match)
        mask = observation["chunk_mask"].astype(bool)
        rows, num_chunks = np.arange(len(mask)), mask.shape[-1]
        starts = feature(observation, "passage_start") > 0
        # A border after the last chunk, where nothing can be continued.
        goes_on = np.pad(mask & ~starts, ((0, 0), (0, 1)))
        left = np.pad(mask, ((0, 0), (0, 1)))
        step_taken = np.full(mask.shape, num_chunks, dtype=np.float64)
        previous = np.full(len(mask), num_chunks - 1)
        for step in range(num_chunks):
            following = previous + 1
            best = np.where(left[:, :-1], match, -np.inf).argmax(-1)
            chosen = np.where(goes_on[rows, following] & left[rows, following], following, best)
            taking = left[:, :-1].any(-1)
            step_taken[rows[taking], chosen[taking]] = step
            left[rows[taking], chosen[taking]] = False
            previous = np.where(taking, chosen, num_chunks - 1)
        return -step_taken


HEURISTICS: dict[str, type[Heuristic]] = {
    heuristic.name: heuristic
    for heuristic in (
        Random,
        PerplexityDescending,
        PerplexityAscending,
        Recency,
        Lead,
        Similarity,
        Lexical,
        PassageRank,
        Successor,
    )
}
"""Name -> class, in the order of the tables."""
