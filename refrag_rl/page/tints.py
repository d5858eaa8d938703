"""What a selector thinks of each chunk of a window, as far as it tells.

1. A trained policy: the probability that the chunk is among those expanded within the budget, when
   the policy draws its selection (the policy's own selections are the most probable ones). It is
   estimated from ``SAMPLES`` draws, so its standard error is at most 0.03.
2. A heuristic: its score, scaled to 0 to 1 within the window. ``random`` has probabilities.
3. Other selectors tell nothing but their selection.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refrag_rl.evaluation.interfaces import Selector
from refrag_rl.observation import Observation

SAMPLES = 256
"""Selections that a policy draws for an estimate of its probabilities."""

Kind = Literal["probability", "score", "selection"]


@runtime_checkable
class Probabilistic(Protocol):
    """A selector that draws its selections, or can."""

    def inclusion_probabilities(
        self,
        observation: Observation,
        budget: NDArray[np.int64],
        rng: np.random.Generator,
        samples: int,
    ) -> NDArray[np.float64]:
        """Return the probability of each chunk to be among the expanded ones, (B, L)."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """A selector that expands the chunks of highest score."""

    def scores(self, observation: Observation, rng: np.random.Generator) -> NDArray[np.floating]:
        """Return the score of each chunk, (B, L)."""
        ...


class Tint(NamedTuple):
    """How strongly each chunk is tinted, and by what.

    Attributes:
        kind: What the values are.
        values: (B, L), 0 to 1; 0 in padding chunks.
    """

    kind: Kind
    values: NDArray[np.float64]


def tint_of(
    selector: Selector,
    observation: Observation,
    budget: NDArray[np.int64],
    expanded: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Tint:
    """Return what a selector thinks of the chunks of a batch of windows.

    Args:
        selector: Any.
        observation: Of ``B`` windows.
        budget: (B,) chunks.
        expanded: (B, L) bool, what it selects there.
        rng: For draws of a policy.
    """
    held = observation["chunk_mask"].astype(bool)
    if isinstance(selector, Probabilistic):
        values = selector.inclusion_probabilities(observation, budget, rng, SAMPLES)
        return Tint("probability", np.where(held, values, 0.0))
    if isinstance(selector, Scoring):
        return Tint("score", _scaled(selector.scores(observation, rng), held))
    return Tint("selection", (expanded & held).astype(np.float64))


def _scaled(scores: NDArray[np.floating], held: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return scores (B, L) from 0, the row's lowest, to 1, its highest; 0 where all are equal."""
    scores = np.asarray(scores, dtype=np.float64)
    low = np.where(held, scores, np.inf).min(axis=-1, keepdims=True)
    high = np.where(held, scores, -np.inf).max(axis=-1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    return np.where(held, (scores - low) / span, 0.0)
