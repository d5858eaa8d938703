"""A batch of episodes: what the three views of the environment share.

It draws windows and budgets, applies the rules (``dynamics``), scores the episodes, and builds
observations and infos. The views only translate between it and their interface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from refrag_rl.envs import dynamics
from refrag_rl.envs.layout import flattened
from refrag_rl.envs.options import RenderMode, RewardTiming, check_choice
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.envs.rendering import render_window
from refrag_rl.errors import UserError
from refrag_rl.observation import Observation

_RESET_OPTIONS = ("window", "budget")


class StepOutcome(NamedTuple):
    """What a step gave.

    Attributes:
        rewards: (B,) float64, zeros where an episode was not active.
        terminated: (B,) bool, the episodes that ended with this step.
    """

    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]


class EpisodeBatch:
    """``B`` episodes of one problem, each with its own window and budget.

    Args:
        problem: The problem.
        num_envs: ``B``.
        reward_timing: ``terminal``: one reward, at the last step. ``per_step``: at each step what
            it gained; the gains sum to the terminal reward less the reward of the window with
            nothing expanded (the terminal reward itself where ``reward_baseline="compressed"``).
        strict: Whether a forbidden action raises.
        flat: Whether observations have the flat layout.
        render_mode: ``ansi`` or ``None``; checked here, used by the views.

    Raises:
        UserError: An option has an unknown value, or the problem's baseline is a heuristic's reward
            and ``per_step`` would not read it.
    """

    def __init__(
        self,
        problem: ExpansionProblem,
        num_envs: int,
        *,
        reward_timing: RewardTiming,
        strict: bool,
        flat: bool,
        render_mode: RenderMode | None,
    ) -> None:
        check_choice("reward_timing", reward_timing, RewardTiming)
        if render_mode is not None:
            check_choice("render_mode", render_mode, RenderMode)
        if reward_timing == "per_step" and problem.reward_baseline not in ("none", "compressed"):
            raise UserError(
                f"reward_timing=per_step gives gains over nothing expanded, not over "
                f"reward_baseline={problem.reward_baseline}.\n"
                "Give reward_timing=terminal, or reward_baseline=compressed."
            )
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer):
            raise UserError(f"num_envs={num_envs!r} is no number of episodes.\nGive 1 or more.")
        if num_envs < 1:
            raise UserError(f"num_envs={num_envs} holds no episode.\nGive 1 or more.")
        for name, flag in (("strict", strict), ("flat", flat)):
            if not isinstance(flag, bool | np.bool_):
                raise UserError(f"{name}={flag!r} is neither.\nGive True or False.")
        self.problem = problem
        self.num_envs = int(num_envs)
        self.reward_timing = reward_timing
        self.strict = strict
        self.flat = flat
        self.indices = np.zeros(num_envs, dtype=np.int64)
        self._state: dynamics.EpisodeState | None = None
        self._initial: Observation
        self._forbidden = np.zeros(num_envs, dtype=bool)
        self._stepped = np.zeros(num_envs, dtype=bool)
        # Of what is expanded now; NaN where it has not been scored.
        self._log_perplexity = np.full(num_envs, np.nan, dtype=np.float32)

    @property
    def state(self) -> dynamics.EpisodeState:
        """Where the episodes stand.

        Raises:
            gymnasium.error.ResetNeeded: They have not been reset yet.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("Call reset() before anything else.")
        return self._state

    def reset(
        self,
        rows: Sequence[int],
        generators: Sequence[np.random.Generator],
        options: Sequence[Mapping[str, Any] | None],
    ) -> None:
        """Start new episodes.

        Args:
            rows: The episodes to replace; all of them the first time.
            generators: One for each row: draws its window, then its budget.
            options: One for each row: ``window`` (an index) and ``budget`` (any form of a budget)
                pin what would be drawn.

        Raises:
            UserError: An option is unknown, or there is no such window or budget.
        """
        drawn = [
            self._draw(generator, option or {})
            for generator, option in zip(generators, options, strict=True)
        ]
        indices = np.array([index for index, _ in drawn], dtype=np.int64)
        budgets = np.array([budget for _, budget in drawn], dtype=np.int64)
        observed = self.problem.observe(indices)
        # Features that were not asked for: a space has no room for NaN.
        np.nan_to_num(observed["features"], copy=False)
        fresh = dynamics.start(observed["chunk_mask"].astype(bool), budgets)
        where = np.asarray(rows, dtype=np.int64)
        if self._state is None:
            self._state = fresh
            self._initial = observed
        else:
            self._state = dynamics.replace_rows(self._state, where, fresh)
            for key in Observation.__annotations__:
                self._initial[key][where] = observed[key]  # type: ignore[literal-required]
        self.indices[where] = indices
        self._forbidden[where] = self._stepped[where] = False
        self._log_perplexity[where] = np.nan

    def _draw(self, generator: np.random.Generator, options: Mapping[str, Any]) -> tuple[int, int]:
        """Return window and budget of a new episode."""
        unknown = [name for name in options if name not in _RESET_OPTIONS]
        if unknown:
            raise UserError(
                f"Unknown option of reset: {unknown[0]!r}.\nKnown: {', '.join(_RESET_OPTIONS)}."
            )
        index = options.get("window")
        if index is None:
            index = self.problem.sample_indices(1, generator)[0]
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise UserError(
                f"Option window={index!r} of reset is no index.\n"
                f"Give a whole number below {len(self.problem)} for each episode."
            )
        budget = self.problem.budget
        if options.get("budget") is not None:
            budget = self.problem.parse_budget(options["budget"])
        index = int(index)
        num_valid = self.problem.chunk_masks([index]).sum(axis=-1)
        return index, int(budget.chunks(num_valid, generator)[0])

    def step(self, actions: ArrayLike, active: NDArray[np.bool_] | None = None) -> StepOutcome:
        """Pick one chunk in each active episode and score what has to be scored in one call.

        Args:
            actions: (B,) chunks to expand.
            active: (B,) bool, the episodes that take a step; all of them if not given.

        Raises:
            ValueError: An action is no chunk's index, or forbidden and ``strict`` is set; no
                episode has taken the step then.
            gymnasium.error.ResetNeeded: An active episode is over.
        """
        state = self.state
        active = np.ones(self.num_envs, dtype=bool) if active is None else active
        chosen = self._check_actions(actions, active)
        if np.any(dynamics.finished(state) & active):
            raise gymnasium.error.ResetNeeded("This episode is over: call reset().")
        after, forbidden = dynamics.step(state, chosen, active)
        if self.strict and forbidden.any():
            row = int(np.flatnonzero(forbidden)[0])
            allowed = np.flatnonzero(dynamics.action_mask(state)[row]).tolist()
            raise ValueError(
                f"Action {chosen[row]} is forbidden in environment {row}; allowed: {allowed}."
            )
        self._state, self._forbidden, self._stepped = after, forbidden, active.copy()
        terminated = dynamics.finished(after) & active
        if self.reward_timing == "terminal":
            return StepOutcome(self._score_ended(terminated), terminated)
        return StepOutcome(self._score_gains(active, forbidden), terminated)

    def _check_actions(self, actions: ArrayLike, active: NDArray[np.bool_]) -> NDArray[np.int64]:
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_envs,) or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(
                f"Actions are {self.num_envs} whole numbers; given: {chosen.dtype} {chosen.shape}."
            )
        outside = active & ((chosen < 0) | (chosen >= self.problem.num_chunks))
        if outside.any():
            raise ValueError(
                f"Action {chosen[outside][0]} is no chunk: "
                f"chunks are numbered 0 to {self.problem.num_chunks - 1}."
            )
        return chosen.astype(np.int64)

    def _score_ended(self, terminated: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the rewards of a step under ``reward_timing="terminal"``, (B,)."""
        rewards = np.zeros(self.num_envs)
        if terminated.any():
            state = self.state
            self._log_perplexity[terminated], rewards[terminated] = (
                self.problem.log_perplexity_and_rewards(
                    self.indices[terminated], state.expanded[terminated], state.budget[terminated]
                )
            )
        return rewards

    def _score_gains(
        self, active: NDArray[np.bool_], forbidden: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the rewards of a step under ``reward_timing="per_step"``, (B,)."""
        problem = self.problem
        changed = active & ~forbidden
        first = active & np.isnan(self._log_perplexity)
        scored, compressed = problem.log_perplexity_and_baseline(
            self.indices[changed], self.state.expanded[changed], self.indices[first], "compressed"
        )
        self._log_perplexity[first] = compressed
        before = self._log_perplexity[changed]
        self._log_perplexity[changed] = scored
        rewards = np.zeros(self.num_envs)
        rewards[changed] = problem.reward_of(scored) - problem.reward_of(before)
        return rewards

    def observation(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        """Return the observations of some episodes, of all if not given, a new batch each call."""
        state = self.state
        where = np.arange(self.num_envs) if rows is None else np.asarray(rows, dtype=np.int64)
        batch = Observation(
            chunk_embeddings=self._initial["chunk_embeddings"][where],
            prompt_embedding=self._initial["prompt_embedding"][where],
            features=self._initial["features"][where],
            chunk_mask=self._initial["chunk_mask"][where],
            expanded=state.expanded[where].astype(np.int8),
            action_mask=dynamics.action_mask(state)[where].astype(np.int8),
            budget_left=dynamics.budget_left(state)[where].astype(np.float32)[:, None],
        )
        arrays = cast(dict[str, NDArray[Any]], batch)
        return flattened(arrays) if self.flat else arrays

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the chunks that may be expanded, (B, L) bool."""
        return dynamics.action_mask(self.state)

    def infos(self) -> list[dict[str, Any]]:
        """Return the infos of all episodes as they stand, new objects at every call."""
        state, problem = self.state, self.problem
        masks = dynamics.action_mask(state).astype(np.int8)
        finished = dynamics.finished(state)
        rates = dynamics.expanded_compression_rate(state, problem.chunk_size)
        infos: list[dict[str, Any]] = []
        for row, index in enumerate(self.indices):
            info: dict[str, Any] = {
                "action_mask": masks[row].copy(),
                "window": int(index),
                "window_key": problem.window(int(index)).key,
                "budget": int(state.budget[row]),
            }
            if self._stepped[row]:
                info["forbidden_action"] = bool(self._forbidden[row])
            if finished[row]:
                log_perplexity = float(self._log_perplexity[row])
                info |= {
                    "log_perplexity": log_perplexity,
                    "perplexity": float(np.exp(log_perplexity)),
                    "compression_rate": float(rates[row]),
                    "expanded": state.expanded[row].copy(),
                    "forbidden_actions": int(state.forbidden[row]),
                }
            infos.append(info)
        return infos

    def render(self, row: int) -> str:
        """Return one episode as text."""
        state = self.state
        window = self.problem.window(int(self.indices[row]))
        return render_window(window, state.expanded[row], int(state.budget[row]))
