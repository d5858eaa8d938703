"""The oracle: the chunks that lower the true output's log-perplexity most.

It sees the output, so it is a bound and never a competitor, and no ``Selector``: it is given the
windows of a problem where a selector is given observations.

1. Search: greedy by true marginal gain (each round scores every chunk that is left, of all windows,
   in one call of the reward model: about ``budget * L`` sets a window), then the best swap of an
   expanded chunk for another, again and again until none helps (``budget * (L - budget)`` sets a
   round). For additive worth greedy is exact; a pair of chunks that is worth something only
   together may be missed by both. ``exhaustive`` is the reference for small cases.
2. The raw bound also fits the noise of one particular output. Its split-half correction chooses on
   one half of the output's tokens and scores on the other, in both directions, so that each token
   is scored once, under a set that was chosen without it.
3. The halves are the tokens of even and of odd place. Two halves in one piece would be different
   tasks: where the output goes on from a passage, its second half wants other chunks than its
   first. Neighbouring tokens share some of their noise (the parts of a word), so the corrected
   bound is still somewhat too good; and each choice has seen half of the output only, which makes
   it somewhat too bad.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from refrag_rl.errors import UserError
from refrag_rl.policies.plackett_luce import NO_PICK, expanded_from

ALL, EVEN, ODD = 0, 1, 2
"""Output tokens: all, those of even and of odd places; the columns of ``HalvedScores``."""

MAX_EXHAUSTIVE = 20_000
"""Sets a window that ``exhaustive`` is willing to score."""

Losses = Callable[[NDArray[np.int64], NDArray[np.bool_]], NDArray[np.floating]]
"""(windows (N,), expanded (N, L) bool) -> (N,) nats per token, lower is better."""


class TokenScoredProblem(Protocol):
    """What the oracle asks of ``refrag_rl.envs.problem.ExpansionProblem``."""

    def chunk_masks(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (B, L), true for the chunks that hold text."""
        ...

    def token_log_likelihood(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> list[NDArray[np.float32]]:
        """Return the log-likelihood of each output token, ``B`` arrays of (o,), nats."""
        ...


def greedy_order(
    indices: NDArray[np.int64],
    held: NDArray[np.bool_],
    budgets: NDArray[np.int64],
    losses: Losses,
) -> NDArray[np.int64]:
    """Return the chunks in the order in which the greedy search picks them.

    Args:
        indices: (B,) windows.
        held: (B, L), true for the chunks that hold text.
        budgets: (B,) chunks; all of them are picked where a window has fewer.
        losses: Scores sets; called once a round.

    Returns:
        (B, T), ``NO_PICK`` after a row's last pick.
    """
    picks = np.minimum(budgets, held.sum(1))
    order = np.full((len(held), int(picks.max(initial=0))), NO_PICK, dtype=np.int64)
    expanded = np.zeros_like(held)
    for step in range(order.shape[1]):
        going = np.flatnonzero(step < picks)
        rows, chunks = np.nonzero(held[going] & ~expanded[going])
        candidates = expanded[going[rows]]
        candidates[np.arange(len(rows)), chunks] = True
        scores = np.full((len(going), held.shape[1]), np.inf)
        scores[rows, chunks] = losses(indices[going[rows]], candidates)
        order[going, step] = scores.argmin(1)
        expanded[going, order[going, step]] = True
    return order


def improve_by_swaps(
    indices: NDArray[np.int64],
    held: NDArray[np.bool_],
    expanded: NDArray[np.bool_],
    losses: Losses,
    rounds: int,
) -> NDArray[np.bool_]:
    """Return sets that no swap of one chunk for another improves, or those after ``rounds``.

    Args:
        indices: (B,) windows.
        held: (B, L), true for the chunks that hold text.
        expanded: (B, L) bool, where to start; each round takes each window's best swap.
        losses: Scores sets; equal sets must get equal scores. Called once a round.
        rounds: At most so many.
    """
    expanded = expanded.copy()
    current = np.asarray(losses(indices, expanded), dtype=np.float64) if rounds else np.zeros(0)
    going = np.arange(len(indices))
    for _ in range(rounds):
        swaps = [
            (row, out, into)
            for row in going
            for out in np.flatnonzero(expanded[row])
            for into in np.flatnonzero(held[row] & ~expanded[row])
        ]
        if not swaps:
            break
        rows, outs, intos = np.array(swaps).T
        candidates = expanded[rows]
        candidates[np.arange(len(rows)), outs] = False
        candidates[np.arange(len(rows)), intos] = True
        scores = np.asarray(losses(indices[rows], candidates), dtype=np.float64)
        improved = []
        for row in np.unique(rows):
            of_row = np.flatnonzero(rows == row)
            best = of_row[scores[of_row].argmin()]
            if scores[best] < current[row]:
                expanded[row], current[row] = candidates[best], scores[best]
                improved.append(row)
        going = np.array(improved, dtype=np.int64)
    return expanded


def exhaustive(
    indices: NDArray[np.int64],
    held: NDArray[np.bool_],
    budgets: NDArray[np.int64],
    losses: Losses,
) -> NDArray[np.bool_]:
    """Return the best of all sets of the budget's size, (B, L) bool.

    Arguments as ``greedy_order``.

    Raises:
        ValueError: A window has more than ``MAX_EXHAUSTIVE`` sets.
    """
    best = np.zeros_like(held)
    for row, budget in enumerate(np.minimum(budgets, held.sum(1))):
        chunks = np.flatnonzero(held[row])
        count = comb(len(chunks), int(budget))
        if count > MAX_EXHAUSTIVE:
            raise ValueError(f"{count} sets of {budget} of {len(chunks)} chunks are too many")
        sets = np.zeros((count, held.shape[1]), dtype=bool)
        for place, chosen in enumerate(combinations(chunks, int(budget))):
            sets[place, list(chosen)] = True
        best[row] = sets[losses(np.full(count, indices[row]), sets).argmin()]
    return best


class HalvedScores:
    """Log-perplexities of sets on all output tokens and on each half of them, each read once.

    Args:
        problem: Reads the sets.
    """

    def __init__(self, problem: TokenScoredProblem) -> None:
        self._problem = problem
        self._known: dict[tuple[int, bytes], tuple[float, float, float]] = {}
        self._tokens: dict[int, int] = {}

    def losses(self, part: int) -> Losses:
        """Return what scores sets on ``ALL``, ``EVEN`` or ``ODD`` tokens."""
        return lambda indices, expanded: self.scores(indices, expanded)[:, part]

    def scores(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return (N, 3) nats per token: of all, even and odd tokens.

        Args:
            indices: (N,) windows.
            expanded: (N, L) bool.

        Raises:
            UserError: An output has fewer than 2 tokens.
        """
        packed = np.packbits(expanded, axis=-1)
        keys = [(int(i), row.tobytes()) for i, row in zip(indices, packed, strict=True)]
        missing = {key: place for place, key in enumerate(keys) if key not in self._known}
        if missing:
            places = np.array(list(missing.values()))
            tokens = self._problem.token_log_likelihood(indices[places], expanded[places])
            for key, found in zip(missing, tokens, strict=True):
                if len(found) < 2:
                    raise UserError(
                        "the oracle halves outputs: give windows.output_length=2 or more"
                    )
                nats = -found.astype(np.float64)
                self._known[key] = (nats.mean(), nats[::2].mean(), nats[1::2].mean())
                self._tokens[key[0]] = len(found)
        return np.array([self._known[key] for key in keys]).reshape(-1, 3)

    def cross_fitted(
        self,
        indices: NDArray[np.int64],
        chosen_on_even: NDArray[np.bool_],
        chosen_on_odd: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Return the mean over each output's tokens, each under the set chosen on the other half.

        Args:
            indices: (N,) windows.
            chosen_on_even: (N, L) bool, sets that the odd tokens are scored under.
            chosen_on_odd: (N, L) bool, sets that the even tokens are scored under.

        Returns:
            (N,) nats per token.
        """
        even = self.scores(indices, chosen_on_odd)[:, EVEN]
        odd = self.scores(indices, chosen_on_even)[:, ODD]
        tokens = np.array([self._tokens[int(index)] for index in indices])
        # Of an odd number of tokens one more stands in an even place.
        return (even * ((tokens + 1) // 2) + odd * (tokens // 2)) / tokens


class Oracle:
    """Bounds of a problem's log-perplexity: the oracle's, raw and with its split-half correction.

    Args:
        problem: Windows, and what scores their sets token by token.
        swap_rounds: Rounds of swaps after the greedy search, at most; 0: greedy only.

    Raises:
        UserError: ``swap_rounds`` is no whole number from 0 up.
    """

    names = ("oracle", "oracle_split_half")

    def __init__(self, problem: TokenScoredProblem, swap_rounds: int = 20) -> None:
        if isinstance(swap_rounds, bool) or not isinstance(swap_rounds, int) or swap_rounds < 0:
            raise UserError(f"oracle={swap_rounds!r}: give rounds of swaps, a whole number from 0")
        self.problem = problem
        self.swap_rounds = swap_rounds

    def choose(
        self, indices: NDArray[np.int64], budgets: NDArray[np.int64], losses: Losses
    ) -> NDArray[np.bool_]:
        """Return the best sets that the search finds by ``losses``, (B, L) bool.

        Args:
            indices: (B,) windows.
            budgets: (B,) chunks; all of them are expanded where a window has fewer.
            losses: Scores sets.
        """
        held = self.problem.chunk_masks(indices)
        order = greedy_order(indices, held, budgets, losses)
        expanded = expanded_from(torch.from_numpy(order), held.shape[1]).numpy()
        return improve_by_swaps(indices, held, expanded, losses, self.swap_rounds)

    def log_perplexity(
        self, indices: NDArray[np.int64], budgets: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the bounds by name, (B,) nats per token each.

        Args:
            indices: (B,) windows, each once.
            budgets: (B,) chunks.

        Raises:
            UserError: An output has fewer than 2 tokens.
        """
        halves = HalvedScores(self.problem)
        chosen = [self.choose(indices, budgets, halves.losses(part)) for part in (ALL, EVEN, ODD)]
        bounds = (
            halves.scores(indices, chosen[ALL])[:, ALL],
            halves.cross_fitted(indices, *chosen[1:]),
        )
        return dict(zip(self.names, bounds, strict=True))
