"""What single chunks gain beside sets, measured: examples for ``refrag_rl.agents.regression``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from refrag_rl.agents.selector import Problem
from refrag_rl.observation import Observation
from refrag_rl.policies.pointer import PointerPolicy, as_tensors
from refrag_rl.policies.selections import sample_all

WINDOWS_PER_UPDATE = 16
CHUNKS_PER_WINDOW = 7
ON_POLICY = 0.5
"""What a warm start uses, and the defaults of the agent ``regression``."""


class Gains(NamedTuple):
    """Measured gains of single chunks.

    Attributes:
        indices: (W,) windows.
        budgets: (W,) chunks.
        bases: (W, L) bool, the sets beside which they were measured.
        rows: (N,) place in ``indices`` of the window that each gain is of.
        chunks: (N,) the chunk that it is of.
        gains: (N,) nats per token.
        scored: Sets that were scored.
    """

    indices: NDArray[np.int64]
    budgets: NDArray[np.int64]
    bases: NDArray[np.bool_]
    rows: NDArray[np.int64]
    chunks: NDArray[np.int64]
    gains: NDArray[np.float64]
    scored: int


def join_gains(parts: Sequence[Gains]) -> Gains:
    """Return gains of several windows as one; what was scored for them is not counted again.

    Args:
        parts: Each of one window, all windows of as many chunks.
    """
    return Gains(
        indices=np.concatenate([each.indices for each in parts]),
        budgets=np.concatenate([each.budgets for each in parts]),
        bases=np.concatenate([each.bases for each in parts]),
        rows=np.repeat(np.arange(len(parts)), [len(each.chunks) for each in parts]),
        chunks=np.concatenate([each.chunks for each in parts]),
        gains=np.concatenate([each.gains for each in parts]),
        scored=0,
    )


def measure_gains(
    policy: PointerPolicy,
    problem: Problem,
    windows: int,
    chunks_per_window: int,
    on_policy: float,
    rng: np.random.Generator,
) -> Gains:
    """Draw windows, sets and chunks, and measure what the chunks gain, in one call.

    Args:
        policy: Draws some of the sets and chunks.
        problem: Windows, and what scores them.
        windows: ``W``.
        chunks_per_window: Chunks beside each set, at most: there may be fewer left.
        on_policy: Share of windows whose set is the first picks drawn from the policy, and the
            chunks beside it the next ones. In the others all are drawn uniformly.
        rng: The only source of randomness.
    """
    indices = problem.sample_indices(windows, rng)
    budgets = problem.sample_budgets(indices, rng)
    observation = problem.observe(indices, budgets)
    held = observation["chunk_mask"].astype(bool)
    drawn = _draw_orders(policy, observation, budgets, rng) if on_policy > 0 else None
    bases = np.zeros_like(held)
    rows, chunks = [], []
    for row in range(len(indices)):
        if drawn is not None and rng.random() < on_policy:
            shuffled = drawn[row, : held[row].sum()]
        else:
            shuffled = rng.permutation(np.flatnonzero(held[row]))
        size = rng.integers(min(budgets[row], len(shuffled)))
        bases[row, shuffled[:size]] = True
        beside = shuffled[size : size + chunks_per_window]
        rows += [row] * len(beside)
        chunks += beside.tolist()
    of_gain, chunk = np.array(rows), np.array(chunks)
    added = bases[of_gain]
    added[np.arange(len(chunk)), chunk] = True
    sets = np.concatenate([bases, added])
    scores = problem.log_perplexity(np.concatenate([indices, indices[of_gain]]), sets)
    levels, after = np.split(scores.astype(np.float64), [len(indices)])
    return Gains(indices, budgets, bases, of_gain, chunk, levels[of_gain] - after, len(sets))


@torch.no_grad()
def _draw_orders(
    policy: PointerPolicy,
    observation: Observation,
    budgets: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return all chunks of each window, ordered by a draw from the policy, (W, T)."""
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    drawn = sample_all(
        policy, as_tensors(observation, device), torch.from_numpy(budgets).to(device), generator
    )
    orders: NDArray[np.int64] = drawn.cpu().numpy()
    return orders
