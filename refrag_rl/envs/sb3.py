"""The environment as a Stable-Baselines3 ``VecEnv``, natively batched, with action masks.

Apart from the other views because it imports Stable-Baselines3, and with it torch.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from refrag_rl.envs.arguments import resolve_problem
from refrag_rl.envs.budget import BudgetSpec
from refrag_rl.envs.core import EpisodeBatch
from refrag_rl.envs.layout import observation_space
from refrag_rl.envs.options import BaselineName, RenderMode, RewardName, RewardTiming
from refrag_rl.envs.problem import ExpansionProblem


class SubEnvironment:
    """One episode of a ``SelectiveExpansionVecEnv``, for what the ``VecEnv`` asks of one.

    Attributes set from outside (``set_attr``) are kept here.

    Attributes:
        problem: The problem.
        render_mode: ``ansi`` or ``None``.
    """

    def __init__(self, episodes: EpisodeBatch, row: int, render_mode: RenderMode | None) -> None:
        self._episodes = episodes
        self._row = row
        self.problem = episodes.problem
        self.render_mode = render_mode

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the chunks that may be expanded, (L,) bool."""
        return self._episodes.action_masks()[self._row]

    def render(self) -> str | None:
        """Return the window as text (``render_mode="ansi"``), else ``None``."""
        return self._episodes.render(self._row) if self.render_mode == "ansi" else None


class SelectiveExpansionVecEnv(VecEnv):
    """``num_envs`` episodes of ``SelectiveExpansionEnv``, which documents the environment.

    All episodes that end with a step are scored in one call of the reward model. The step that ends
    an episode returns the first observation of the next. ``infos[i]`` is then the info of the one
    that ended, with its last observation as ``terminal_observation``; the info of the new one is in
    ``reset_infos[i]``. After ``seed(s)``, sub-environment ``i`` gives the episodes of a single
    environment seeded with ``s + i``. For mean episode rewards in the logs, wrap it in
    ``VecMonitor``.

    Args:
        problem: As in ``SelectiveExpansionEnv``; so are the arguments not listed here.
        num_envs: How many episodes.
        budget: See there.
        reward: See there.
        reward_baseline: See there.
        reward_timing: See there.
        strict: See there.
        flat: See there.
        render_mode: See there; ``env_method("render")`` returns the texts.
        composition: See there.

    Raises:
        UserError: An option has an unknown or impossible value.
    """

    def __init__(
        self,
        problem: ExpansionProblem | None = None,
        num_envs: int = 1,
        *,
        budget: BudgetSpec | None = None,
        reward: RewardName | None = None,
        reward_baseline: BaselineName | None = None,
        reward_timing: RewardTiming = "terminal",
        strict: bool = False,
        flat: bool = True,
        render_mode: RenderMode | None = None,
        **composition: Any,
    ) -> None:
        self.problem = resolve_problem(
            problem,
            budget=budget,
            reward=reward,
            reward_baseline=reward_baseline,
            composition=composition,
        )
        self._episodes = EpisodeBatch(
            self.problem,
            num_envs,
            reward_timing=reward_timing,
            strict=strict,
            flat=flat,
            render_mode=render_mode,
        )
        self.envs = [SubEnvironment(self._episodes, row, render_mode) for row in range(num_envs)]
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._actions = np.zeros(num_envs, dtype=np.int64)
        super().__init__(
            num_envs,
            observation_space(self.problem.num_chunks, self.problem.embedding_size, flat=flat),
            spaces.Discrete(self.problem.num_chunks),
        )

    def reset(self) -> VecEnvObs:
        """Start all episodes, with the seeds and options set for it by ``seed``, ``set_options``.

        Raises:
            UserError: An option is unknown, or there is no such window or budget.
        """
        for row, seed in enumerate(self._seeds):
            if seed is not None:
                self._generators[row] = seeding.np_random(seed)[0]
        self._restart(list(range(self.num_envs)), self._options)
        self._reset_seeds()
        self._reset_options()
        return self._observation()

    def _restart(self, rows: list[int], options: list[dict[str, Any]]) -> None:
        """Start new episodes in some rows and keep their infos in ``reset_infos``."""
        generators = [self._generators[row] for row in rows]
        self._episodes.reset(rows, generators, options)
        infos = self._episodes.infos()
        for row in rows:
            self.reset_infos[row] = infos[row]

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the actions of the next step, (num_envs,) chunk numbers."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Expand a chunk in each episode.

        Returns:
            Observations, rewards (num_envs,) float32, dones (num_envs,) bool, infos.

        Raises:
            ValueError: An action is no chunk's number, or forbidden and ``strict`` is set; no
                episode has taken the step then.
            gymnasium.error.ResetNeeded: ``reset`` was never called.
        """
        rewards, dones = self._episodes.step(self._actions)
        infos = self._episodes.infos()
        ended = np.flatnonzero(dones).tolist()
        if ended:
            last = self._episodes.observation(ended)
            for index, row in enumerate(ended):
                infos[row]["terminal_observation"] = {
                    key: value[index].copy() for key, value in last.items()
                }
            self._restart(ended, [{}] * len(ended))
        for info in infos:
            info["TimeLimit.truncated"] = False
        return self._observation(), rewards.astype(np.float32), dones, infos

    def _observation(self) -> dict[str, NDArray[Any]]:
        return self._episodes.observation()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each sub-environment."""
        return [getattr(self.envs[row], attr_name) for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of each sub-environment."""
        for row in self._get_indices(indices):
            setattr(self.envs[row], attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of each sub-environment: ``action_masks`` or ``render``."""
        return [
            getattr(self.envs[row], method_name)(*method_args, **method_kwargs)
            for row in self._get_indices(indices)
        ]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return ``False`` for each sub-environment: none of them can be wrapped."""
        return [False for _ in self._get_indices(indices)]
