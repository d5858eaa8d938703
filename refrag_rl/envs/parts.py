"""What observations are made of: each part is computed once a window, if someone reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.envs.features import similarity, window_feature
from refrag_rl.envs.finite import require_finite
from refrag_rl.envs.reward_model import RewardModel
from refrag_rl.lru_cache import Entries, LruCache
from refrag_rl.observation import CHUNK_FEATURES

_OF_THE_MODEL: dict[str, tuple[str, str]] = {
    "encoder_chunks": ("chunk_embeddings", "a chunk's embedding"),
    "encoder_prompt": ("prompt_embeddings", "the prompt's embedding"),
    "projector_chunks": ("projected_chunk_embeddings", "a chunk's projected embedding"),
    "projector_prompt": ("projected_prompt_embeddings", "the prompt's projected embedding"),
    "log_perplexity": ("chunk_log_perplexity", "a chunk's log-perplexity"),
    "reconstruction_loss": ("chunk_reconstruction_loss", "a chunk's reconstruction loss"),
}
"""Parts of an observation that the model is asked for: its method, and what to call them."""

PARTS = tuple(dict.fromkeys((*_OF_THE_MODEL, *CHUNK_FEATURES)))
"""Names of all parts."""


class ObservedParts:
    """The parts of windows' observations, kept once they are computed.

    Args:
        reward_model: Gives the embeddings, and what its decoder says of chunks.
        windows_of: Gives windows by their indices.
        cache_windows: How many windows keep their parts in memory.
    """

    def __init__(
        self,
        reward_model: RewardModel,
        windows_of: Callable[[list[int]], Sequence[Window]],
        cache_windows: int,
    ) -> None:
        self._reward_model = reward_model
        self._windows_of = windows_of
        self._kept: dict[str, LruCache[NDArray[np.float32]]] = {
            name: LruCache(cache_windows) for name in PARTS
        }

    def of(self, name: str, indices: list[int]) -> NDArray[np.float32]:
        """Return one of ``PARTS`` of windows, (B, ...).

        Raises:
            NotFiniteError: A value is NaN or infinite.
        """
        cache = self._kept[name]
        return np.stack(cache.collect(indices, indices, partial(self._compute, name)))

    def clear(self) -> None:
        """Forget all that was computed."""
        for cache in self._kept.values():
            cache.clear()

    def caches(self) -> dict[str, Entries]:
        """Return what ``clear`` forgets, by name; see ``ScoreCaches``."""
        return {f"observed_{name}": (self._kept[name].entries, np.asarray) for name in PARTS}

    def _compute(self, name: str, indices: list[int]) -> list[NDArray[np.float32]]:
        """Compute one of ``PARTS`` for windows not cached yet."""
        windows = self._windows_of(indices)
        if name in _OF_THE_MODEL:
            method, what = _OF_THE_MODEL[name]
            values = getattr(self._reward_model, method)(windows)
            require_finite(what, values, windows)
            # Copies: a row of a batch would keep the whole batch in memory.
            return [row.astype(np.float32) for row in values]
        if name == "similarity":
            embeddings = zip(
                self.of("encoder_chunks", indices),
                self.of("encoder_prompt", indices),
                strict=True,
            )
            columns = [
                similarity(window, *pair) for window, pair in zip(windows, embeddings, strict=True)
            ]
        else:
            columns = [window_feature(name, window) for window in windows]
        return [
            np.where(window.chunk_mask, column, 0.0).astype(np.float32)
            for window, column in zip(windows, columns, strict=True)
        ]
