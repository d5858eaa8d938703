"""The rules of selective expansion, for a batch of episodes, as pure functions.

1. An episode is ``T'`` steps, ``T'`` being its budget; a step picks one chunk.
2. Picking a chunk that holds text and is not expanded yet expands it.
3. Picking any other chunk is forbidden: it spends the step, expands nothing, and is reported.

The reward is none of the rules: it depends on the set of expanded chunks alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refrag_rl.envs.budget import compression_rate


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """Where ``B`` episodes stand.

    Attributes:
        chunk_mask: (B, L) bool, chunks that hold text.
        expanded: (B, L) bool, chunks expanded so far.
        budget: (B,) int64, ``T'``: steps of the episode, in chunks.
        steps: (B,) int64, steps taken.
        forbidden: (B,) int64, how many of them were forbidden.
    """

    chunk_mask: NDArray[np.bool_]
    expanded: NDArray[np.bool_]
    budget: NDArray[np.int64]
    steps: NDArray[np.int64]
    forbidden: NDArray[np.int64]


def start(chunk_mask: NDArray[np.bool_], budget: NDArray[np.int64]) -> EpisodeState:
    """Return episodes in which nothing is expanded.

    Args:
        chunk_mask: (B, L) bool, chunks that hold text.
        budget: (B,) steps of each episode, in chunks.

    Raises:
        ValueError: A budget is below 1 or above the number of chunks that hold text.
    """
    num_valid = chunk_mask.sum(axis=-1)
    if np.any(budget < 1) or np.any(budget > num_valid):
        raise ValueError(
            f"Budgets {budget.tolist()} do not fit windows of {num_valid.tolist()} chunks."
        )
    return EpisodeState(
        chunk_mask=chunk_mask.copy(),
        expanded=np.zeros_like(chunk_mask),
        budget=np.asarray(budget, dtype=np.int64).copy(),
        steps=np.zeros(len(chunk_mask), dtype=np.int64),
        forbidden=np.zeros(len(chunk_mask), dtype=np.int64),
    )


def action_mask(state: EpisodeState) -> NDArray[np.bool_]:
    """Return the chunks that may be picked, (B, L) bool: text, and not expanded yet."""
    return state.chunk_mask & ~state.expanded


def budget_left(state: EpisodeState) -> NDArray[np.int64]:
    """Return the steps that are left, (B,), in chunks."""
    return state.budget - state.steps


def finished(state: EpisodeState) -> NDArray[np.bool_]:
    """Return which episodes have spent their budget, (B,) bool."""
    return state.steps >= state.budget


def expanded_compression_rate(state: EpisodeState, chunk_size: int) -> NDArray[np.float64]:
    """Return the effective compression rate of what is expanded, (B,), padding left out.

    Args:
        state: The episodes.
        chunk_size: ``k``, in tokens.
    """
    return compression_rate(state.expanded.sum(-1) / state.chunk_mask.sum(-1), chunk_size)


def step(
    state: EpisodeState, actions: NDArray[np.int64], active: NDArray[np.bool_]
) -> tuple[EpisodeState, NDArray[np.bool_]]:
    """Pick one chunk in each active episode.

    Args:
        state: The episodes; not changed.
        actions: (B,) chunk to expand, 0 to ``L - 1``; not read where an episode is not active.
        active: (B,) bool, the episodes that take a step. None of them may be finished.

    Returns:
        The episodes after the step, and which of the actions were forbidden, (B,) bool.
    """
    rows = np.flatnonzero(active)
    allowed = action_mask(state)[rows, actions[rows]]
    expanded = state.expanded.copy()
    expanded[rows[allowed], actions[rows[allowed]]] = True
    forbidden = np.zeros_like(active)
    forbidden[rows[~allowed]] = True
    after = EpisodeState(
        chunk_mask=state.chunk_mask,
        expanded=expanded,
        budget=state.budget,
        steps=state.steps + active,
        forbidden=state.forbidden + forbidden,
    )
    return after, forbidden


def replace_rows(state: EpisodeState, rows: NDArray[np.int64], other: EpisodeState) -> EpisodeState:
    """Return the episodes with some of them replaced.

    Args:
        state: (B, ...) the episodes; not changed.
        rows: (n,) which to replace.
        other: (n, ...) what to put there.
    """
    replaced = {}
    for name in EpisodeState.__slots__:
        values = getattr(state, name).copy()
        values[rows] = getattr(other, name)
        replaced[name] = values
    return EpisodeState(**replaced)
