"""PPO's rollout buffer: each episode's context once, not a copy of it for every step.

1. The buffer of sb3-contrib holds the whole observation of every step. Here a context (256 chunk
   embeddings of 1024 numbers are 1 MiB) stays the same for all of an episode's steps; 64 of them in
   each of 64 environments would be 4 GiB in place of 64 MiB.
2. So the buffer keeps the context of an episode when it begins, and of every other step only which
   context it stands in. All else, the numbers and their order included, is the library's.
3. A sample has the contexts that its steps stand in, each once (``policies.sharing.CONTEXT``), so
   that nothing downstream has a copy for each step either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.maskable.buffers import (
    MaskableDictRolloutBuffer,
    MaskableDictRolloutBufferSamples,
)
from stable_baselines3.common.vec_env import VecNormalize

from refrag_rl.policies.sharing import CONTEXT, CONTEXT_KEYS


class EpisodeRolloutBuffer(MaskableDictRolloutBuffer):
    """A ``MaskableDictRolloutBuffer`` that holds what stays the same once an episode.

    Args:
        buffer_size: Steps of each environment.
        observation_space: Of the environment, chunks unflattened.
        action_space: ``Discrete(L)``.
        device: Where samples go.
        gae_lambda: As in the library's.
        gamma: As in the library's.
        n_envs: Environments.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
    ) -> None:
        changing = {
            name: space for name, space in observation_space.items() if name not in CONTEXT_KEYS
        }
        # At most one context a step.
        changing[CONTEXT] = spaces.Box(0, buffer_size * n_envs, (1,), np.int64)
        super().__init__(
            buffer_size,
            spaces.Dict(changing),
            action_space,
            device,
            gae_lambda=gae_lambda,
            gamma=gamma,
            n_envs=n_envs,
        )

    def reset(self) -> None:
        """Forget all steps."""
        super().reset()
        self._contexts: list[dict[str, NDArray[Any]]] = []
        self._context_of = np.zeros(self.n_envs, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that the buffer holds."""
        of_steps = [*vars(self).values(), *self.observations.values()]
        of_contexts = [array for context in self._contexts for array in context.values()]
        arrays = [*of_steps, *of_contexts]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    def add(  # type: ignore[override]
        self,
        obs: dict[str, NDArray[Any]],
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: torch.Tensor,
        log_prob: torch.Tensor,
        action_masks: NDArray[Any] | None = None,
    ) -> None:
        """Add a step of each environment; as the library's."""
        begins = np.ones(self.n_envs, bool) if self.pos == 0 else episode_start.astype(bool)
        for row in np.flatnonzero(begins):
            self._context_of[row] = len(self._contexts)
            # Copies: a row of a batch would keep the whole batch in memory.
            self._contexts.append({name: obs[name][row].copy() for name in CONTEXT_KEYS})
        super().add(
            {**obs, CONTEXT: self._context_of[:, None]},
            action,
            reward,
            episode_start,
            value,
            log_prob,
            action_masks=action_masks,
        )

    def _get_samples(  # type: ignore[override]
        self, batch_inds: NDArray[np.int64], env: VecNormalize | None = None
    ) -> MaskableDictRolloutBufferSamples:
        """Return some steps, and the contexts that they stand in."""
        samples = super()._get_samples(batch_inds, env)
        held, context = np.unique(
            self.observations[CONTEXT][batch_inds].ravel(), return_inverse=True
        )
        contexts = [self._contexts[index] for index in held]
        observations = samples.observations | {
            name: torch.from_numpy(np.stack([arrays[name] for arrays in contexts])).to(self.device)
            for name in CONTEXT_KEYS
        }
        observations[CONTEXT] = self.to_torch(context[:, None])
        return samples._replace(observations=observations)
