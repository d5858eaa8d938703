"""The observation space, and its two layouts.

``Observation`` holds two arrays with a row for each chunk. Stable-Baselines3 wants every array of
an observation to be one-dimensional (its checker warns about others), so the environment shows them
flat unless told otherwise; ``as_chunks`` gives them back their rows, whichever way they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from refrag_rl.observation import CHUNK_FEATURES

PER_CHUNK = ("chunk_embeddings", "features")
"""The keys of an observation that hold a vector for each chunk."""

# Finite: Gymnasium's checker takes an infinite bound for a forgotten one.
_LARGEST = float(np.finfo(np.float32).max)


def observation_space(num_chunks: int, embedding_size: int, *, flat: bool) -> spaces.Dict:
    """Return the space of ``Observation``.

    Args:
        num_chunks: ``L``.
        embedding_size: ``d``.
        flat: Whether the arrays with a row for each chunk are ``(L * d,)`` and ``(L * f,)``.
    """

    def real(*shape: int) -> spaces.Box:
        return spaces.Box(-_LARGEST, _LARGEST, shape, np.float32)

    def mask() -> spaces.Box:
        return spaces.Box(0, 1, (num_chunks,), np.int8)

    def per_chunk(width: int) -> spaces.Box:
        return real(num_chunks * width) if flat else real(num_chunks, width)

    return spaces.Dict(
        {
            "chunk_embeddings": per_chunk(embedding_size),
            "prompt_embedding": real(embedding_size),
            "features": per_chunk(len(CHUNK_FEATURES)),
            "chunk_mask": mask(),
            "expanded": mask(),
            "action_mask": mask(),
            "budget_left": spaces.Box(0, num_chunks, (1,), np.float32),
        }
    )


def flattened(observation: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return a batch of observations in the flat layout; memory is shared with the argument.

    Args:
        observation: A batch with a row for each chunk: (B, L, d) and (B, L, f).
    """
    return {
        key: array.reshape(len(array), -1) if key in PER_CHUNK else array
        for key, array in observation.items()
    }


def as_chunks(observation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an observation with a row for each chunk, from either layout.

    Args:
        observation: One or a batch, of NumPy arrays or of torch tensors, as any view of the
            environment returns it.

    Returns:
        The same keys; ``chunk_embeddings`` (..., L, d) and ``features`` (..., L, f). Memory is
        shared with the argument.
    """
    mask_shape = observation["action_mask"].shape
    rows = dict(observation)
    for key in PER_CHUNK:
        array = rows[key]
        # An array with a row for each chunk has one dimension more than the mask.
        if array.ndim == len(mask_shape):
            rows[key] = array.reshape(*mask_shape, array.shape[-1] // mask_shape[-1])
    return rows
