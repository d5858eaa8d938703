"""The environment as a ``gymnasium.vector.VectorEnv``: a batch of episodes, scored in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from refrag_rl.envs.arguments import resolve_problem
from refrag_rl.envs.budget import BudgetSpec
from refrag_rl.envs.core import EpisodeBatch
from refrag_rl.envs.layout import observation_space
from refrag_rl.envs.options import BaselineName, RenderMode, RewardName, RewardTiming
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.errors import UserError

_AUTORESET_MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)

_Batch = dict[str, NDArray[Any]]


class SelectiveExpansionVectorEnv(VectorEnv[_Batch, NDArray[np.int64], NDArray[Any]]):
    """``num_envs`` episodes of ``SelectiveExpansionEnv``, which documents the environment.

    All episodes that end with a step are scored in one call of the reward model. Sub-environment
    ``i`` of one seeded with ``s`` gives the episodes of a single environment seeded with ``s + i``.

    Args:
        problem: As in ``SelectiveExpansionEnv``; so are the arguments not listed here.
        num_envs: How many episodes.
        budget: See there.
        reward: See there.
        reward_baseline: See there.
        reward_timing: See there.
        strict: See there.
        flat: See there.
        render_mode: See there; ``render()`` returns a text for each sub-environment.
        autoreset_mode: What follows the end of an episode. ``NextStep`` (Gymnasium's default): the
            next step ignores the action and starts the next episode, with reward 0. ``SameStep``:
            the step that ends an episode returns the first observation of the next, and
            ``infos["final_obs"]`` and ``infos["final_info"]`` hold what ended.
        composition: See there.

    Raises:
        UserError: An option has an unknown or impossible value.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (the base class declares it so)
        "render_modes": ["ansi"],
        "render_fps": 1,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

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
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **composition: Any,
    ) -> None:
        names = [mode.value for mode in _AUTORESET_MODES]
        if autoreset_mode not in (*_AUTORESET_MODES, *names):
            raise UserError(
                f"Unknown autoreset_mode: {autoreset_mode!r}.\nChoose one of: {', '.join(names)}."
            )
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
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
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_action_space = spaces.Discrete(self.problem.num_chunks)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.single_observation_space = observation_space(
            self.problem.num_chunks, self.problem.embedding_size, flat=flat
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[_Batch, dict[str, Any]]:
        """Start all episodes.

        Args:
            seed: One for each sub-environment, or one number ``s`` for ``s, s + 1, ...``; ``None``
                goes on with the present generators.
            options: ``window`` and ``budget`` pin what would be drawn: one value for all, or a list
                of ``num_envs`` values for ``window``.

        Raises:
            UserError: An option is unknown, there is no such window or budget, or a list has not
                ``num_envs`` values.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        seeds = [None] * self.num_envs if seed is None else seed
        if isinstance(seeds, int):
            seeds = [seeds + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise UserError(f"{len(seeds)} seeds are given for {self.num_envs} environments.")
        for row, own in enumerate(seeds):
            if own is not None:
                self._generators[row] = seeding.np_random(own)[0]
        self._episodes.reset(range(self.num_envs), self._generators, self._options(options))
        self._ended[:] = False
        return self._observation(), self._batched(self._episodes.infos())

    def _options(self, options: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Return the options of each sub-environment."""
        each = [dict(options or {}) for _ in range(self.num_envs)]
        window = (options or {}).get("window")
        if window is not None and np.ndim(window):
            if np.shape(window) != (self.num_envs,):
                raise UserError(
                    f"{np.size(window)} windows are given for {self.num_envs} environments."
                )
            for own, index in zip(each, window, strict=True):
                own["window"] = index
        return each

    def step(
        self, actions: ArrayLike
    ) -> tuple[_Batch, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Expand a chunk in each episode.

        Args:
            actions: (num_envs,) chunk numbers, 0 to ``L - 1``.

        Raises:
            ValueError: An action is no chunk's number, or forbidden and ``strict`` is set; no
                episode has taken the step then.
            gymnasium.error.ResetNeeded: ``reset`` was never called.
        """
        rewards, ended = self._episodes.step(actions, ~self._ended)
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._final(ended)
            self._restart(ended)
        else:
            self._restart(self._ended)
            self._ended = ended.copy()
        infos = self._batched(self._episodes.infos(), infos)
        return self._observation(), rewards, ended, np.zeros_like(ended), infos

    def _restart(self, rows: NDArray[np.bool_]) -> None:
        if rows.any():
            which = np.flatnonzero(rows).tolist()
            generators = [self._generators[row] for row in which]
            self._episodes.reset(which, generators, [None] * len(which))

    def _final(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the last observations and infos of the episodes that have ended."""
        infos: dict[str, Any] = {}
        if ended.any():
            observation, final_infos = self._observation(), self._episodes.infos()
            for row in np.flatnonzero(ended).tolist():
                own = {key: value[row].copy() for key, value in observation.items()}
                final = {"final_obs": own, "final_info": final_infos[row]}
                infos = self._add_info(infos, final, row)
        return infos

    def _observation(self) -> _Batch:
        return self._episodes.observation()

    def _batched(
        self, infos: list[dict[str, Any]], batched: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return infos in Gymnasium's form: an array for a key, and under ``_key`` who has it."""
        batched = {} if batched is None else batched
        for row, info in enumerate(infos):
            batched = self._add_info(batched, info, row)
        return batched

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the chunks that may be expanded, (num_envs, L) bool."""
        return self._episodes.action_masks()

    def render(self) -> tuple[str, ...] | None:
        """Return each window as text (``render_mode="ansi"``), else ``None``."""
        if self.render_mode is None:
            return None
        return tuple(self._episodes.render(row) for row in range(self.num_envs))
