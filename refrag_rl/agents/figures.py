"""Figures that a learning agent reports beside those of its own algorithm."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.selector import Problem, Selector
from refrag_rl.observation import inputs_of


def difference_to_reference(
    problem: Problem,
    reference: Selector | None,
    indices: NDArray[np.int64],
    budgets: NDArray[np.int64],
    rewards: NDArray[np.float64],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return the mean lead over the reference on the same windows with the same budgets.

    Args:
        problem: Scores the reference's selections.
        reference: The best heuristic; None gives {}.
        indices: (B,) windows; none gives {}.
        budgets: (B,) chunks.
        rewards: (B,) of the agent on them (of a group: its mean).
        rng: For the reference.

    Returns:
        ``reward/difference_to_best_heuristic``, in units of the reward; above 0: better than it.
    """
    if reference is None or not len(indices):
        return {}
    observation = problem.observe(indices, budgets, inputs_of(reference))
    expanded = reference.select(observation, budgets, rng)
    lead = rewards - problem.rewards(indices, expanded)
    return {"reward/difference_to_best_heuristic": float(lead.mean())}


class Stopwatch:
    """Seconds spent inside ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._started
