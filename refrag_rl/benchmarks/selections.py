"""Random selections of chunks, all different within a window."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refrag_rl.errors import UserError


def random_groups(
    chunk_masks: NDArray[np.bool_], budgets: NDArray[np.int64], group_size: int, seed: int
) -> NDArray[np.bool_]:
    """Draw different sets of chunks for each window, so that no score can be used twice.

    Args:
        chunk_masks: (N, L) bool, true for chunks that hold text.
        budgets: (N,) int64, chunks to expand.
        group_size: ``G``, sets of each window.
        seed: Of the draw.

    Returns:
        (N, G, L) bool.

    Raises:
        UserError: A window has fewer sets than ``group_size``.
    """
    rng = np.random.default_rng(seed)
    groups = np.zeros((len(chunk_masks), group_size, chunk_masks.shape[1]), dtype=np.bool_)
    for group, mask, budget in zip(groups, chunk_masks, budgets.tolist(), strict=True):
        chunks = np.flatnonzero(mask)
        if (sets := math.comb(len(chunks), budget)) < group_size:
            raise UserError(
                f"group_size={group_size}: a window of {len(chunks)} chunks has {sets} selections "
                f"of {budget}. Give a smaller group_size, or rates between 1 and the chunk size."
            )
        drawn: set[tuple[int, ...]] = set()
        while len(drawn) < group_size:
            picked = tuple(sorted(rng.permutation(chunks)[:budget].tolist()))
            if picked not in drawn:
                group[len(drawn), list(picked)] = True
                drawn.add(picked)
    return groups
