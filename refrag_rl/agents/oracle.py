"""The greedy oracle: expands what lowers the true output's log-perplexity most, one after another.

It sees the output, so it is a bound and never a competitor, and no ``Selector``: it is given the
windows of a problem where a selector is given observations. Greedy choice is not optimal in
general (two chunks may be worth something only together), but for additive worth it is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.selector import Problem


def greedy_oracle(
    problem: Problem, indices: NDArray[np.int64], budgets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return the chunks that the greedy oracle expands, (B, L) bool.

    Each round scores every chunk that is left, of all windows, in one call of the reward model:
    about ``budget * L`` sets a window in all.

    Args:
        problem: Scores the sets.
        indices: (B,) windows.
        budgets: (B,) chunks; all of them are expanded where a window has fewer.
    """
    held = problem.observe(indices, budgets)["chunk_mask"].astype(bool)
    expanded = np.zeros_like(held)
    left = np.minimum(budgets, held.sum(1))
    while (going := np.flatnonzero(expanded.sum(1) < left)).size:
        rows, chunks = np.nonzero(held[going] & ~expanded[going])
        candidates = expanded[going[rows]]
        candidates[np.arange(len(rows)), chunks] = True
        losses = np.full((len(going), held.shape[1]), np.inf)
        losses[rows, chunks] = problem.log_perplexity(indices[going[rows]], candidates)
        expanded[going, losses.argmin(1)] = True
    return expanded
