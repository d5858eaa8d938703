"""The expansion problem: windows, a frozen REFRAG that scores them, a budget and a reward.

The three views of the environment and the agents that select all chunks in one shot share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.corpora.windows import Window, WindowCheck, WindowSource
from refrag_rl.envs.budget import Budget, BudgetSpec
from refrag_rl.envs.finite import require_finite
from refrag_rl.envs.options import BaselineName, RewardName, check_choice
from refrag_rl.envs.parts import ObservedParts
from refrag_rl.envs.reward_model import RewardModel
from refrag_rl.errors import UserError
from refrag_rl.lru_cache import Entries, LruCache
from refrag_rl.observation import (
    CHUNK_FEATURES,
    EmbeddingSource,
    Inputs,
    Observation,
    inputs_of,
)

LAST_SCORED = 1024
"""Windows that a problem remembers to have scored."""

BASELINE_HEURISTICS = tuple(name for name in HEURISTICS if name != "random")
"""Heuristics that may be a baseline: those that draw nothing."""


class ExpansionProblem:
    """Which chunks of a window to expand, within a budget, so that its output becomes likely.

    Copying it (also by ``copy.deepcopy``, which Gymnasium does with an environment's arguments)
    gives the object itself: it holds a model and caches that nothing gains from having twice.

    Args:
        windows: The windows.
        reward_model: Scores them.
        budget: Chunks to expand, in a form that ``Budget.parse`` reads.
        reward: ``neg_log_perplexity`` (the paper's) or ``neg_perplexity``, of the output tokens.
        reward_baseline: What is subtracted from the reward: ``compressed``, the reward of the same
            window with nothing expanded, or the name of a heuristic (any but ``random``), the
            reward of what it expands within the same budget. Either is a constant for each window
            and budget, so no optimum moves, and the rewards of windows of different difficulty
            become comparable; with a heuristic, the gain over it is what is optimised.
            ``best_heuristic`` is the best on that window of ``baseline_heuristics``: chosen by its
            reward there, so no selector, but a constant of the window and budget like the others.
            Or ``none``.
        inputs: What observations hold where the caller does not say it; decides the width of the
            environment's.
        baseline_heuristics: See ``reward_baseline``; empty: all but ``random``.
        cache_windows: How many windows keep their observation in memory.

    Attributes:
        inputs: As given.
        last_scored: Keys of the windows scored last, the newest last; for messages about an update
            that went wrong. May be emptied.

    Raises:
        NotFiniteError: Of the methods that score or observe: a value is NaN or infinite.
        UserError: There are no windows, or an option has an unknown or impossible value.
    """

    def __init__(
        self,
        windows: WindowSource,
        reward_model: RewardModel,
        budget: BudgetSpec = "4x",
        reward: RewardName = "neg_log_perplexity",
        reward_baseline: BaselineName = "none",
        *,
        inputs: Inputs | None = None,
        baseline_heuristics: Sequence[str] = (),
        cache_windows: int = 2048,
    ) -> None:
        if not len(windows):
            raise UserError(
                "There are no windows to select in.\nGive a corpus with longer documents."
            )
        self.windows = windows
        self.reward_model = reward_model
        self.num_chunks = windows.num_chunks
        self.chunk_size = windows.chunk_size
        self.inputs = Inputs() if inputs is None else inputs
        self._baseline_heuristics = _check_heuristics(baseline_heuristics)
        self._window_cache: LruCache[Window] = LruCache(cache_windows)
        self._checked = WindowCheck()
        self._parts = ObservedParts(reward_model, self._windows, cache_windows)
        # (baseline, window, budget) -> log-perplexity; the budget of "compressed" is 0.
        self._baselines: dict[tuple[str, int, int], np.float32] = {}
        self.last_scored: deque[str] = deque(maxlen=LAST_SCORED)
        self._set_options(budget, reward, reward_baseline)

    def _set_options(
        self, budget: BudgetSpec, reward: RewardName, reward_baseline: BaselineName
    ) -> None:
        check_choice("reward", reward, RewardName)
        check_choice("reward_baseline", reward_baseline, BaselineName)
        self.budget = self.parse_budget(budget)
        self.reward = reward
        self.reward_baseline = reward_baseline

    def variant(
        self,
        *,
        budget: BudgetSpec | None = None,
        reward: RewardName | None = None,
        reward_baseline: BaselineName | None = None,
        inputs: Inputs | None = None,
    ) -> ExpansionProblem:
        """Return the same problem under other options; model and caches are shared.

        Args:
            budget: As in the constructor; ``None`` keeps the present one. So do the others.
            reward: As in the constructor.
            reward_baseline: As in the constructor.
            inputs: As in the constructor.

        Raises:
            UserError: An option has an unknown or impossible value.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.inputs = self.inputs if inputs is None else inputs
        other._set_options(
            self.budget.spec if budget is None else budget,
            self.reward if reward is None else reward,
            self.reward_baseline if reward_baseline is None else reward_baseline,
        )
        return other

    @property
    def embedding_size(self) -> int:
        """``d``, width of the chunk embeddings that observations hold."""
        if self._source(self.inputs) == "projector":
            return self.reward_model.projected_size
        return self.reward_model.embedding_size

    @property
    def refrag(self) -> str | None:
        """Fingerprint of the frozen model's weights; ``None``: it has none."""
        fingerprint: str | None = getattr(self.reward_model, "fingerprint", None)
        return fingerprint

    def clear(self) -> None:
        """Forget all that the reward model said; its own caches stay as they are."""
        self._parts.clear()
        self._baselines.clear()

    def caches(self) -> dict[str, Entries]:
        """Return what ``clear`` forgets, by name; see ``ScoreCaches``."""
        return {**self._parts.caches(), "baselines": (self._baselines, np.float32)}

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self.windows)

    def __copy__(self) -> ExpansionProblem:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ExpansionProblem:
        return self

    def parse_budget(self, spec: BudgetSpec) -> Budget:
        """Read a budget for this problem's windows.

        Raises:
            UserError: It is none, or out of range.
        """
        return Budget.parse(spec, chunk_size=self.chunk_size, num_chunks=self.num_chunks)

    def window(self, index: int) -> Window:
        """Return window ``index``.

        Raises:
            UserError: There is no such window.
        """
        return self._windows(self._check([index]))[0]

    def chunk_masks(self, indices: ArrayLike) -> NDArray[np.bool_]:
        """Return which chunks of the windows hold text, (B, L) bool."""
        return np.stack([window.chunk_mask for window in self._windows(self._check(indices))])

    def observe(
        self,
        indices: ArrayLike,
        budgets: ArrayLike | None = None,
        inputs: Inputs | None = None,
    ) -> Observation:
        """Return a batch of observations in which nothing is expanded yet.

        Args:
            indices: (B,) windows.
            budgets: (B,) chunks to expand, shown as ``budget_left``; zeros if not given.
            inputs: What it shall hold; ``None``: the problem's. Columns of other features are NaN.

        Raises:
            UserError: There is no such window.
        """
        checked = self._check(indices)
        inputs = self.inputs if inputs is None else inputs
        source = self._source(inputs)
        chunk_mask = self.chunk_masks(checked)
        chunk_embeddings = self._parts.of(f"{source}_chunks", checked)
        prompt_embedding = self._parts.of(f"{source}_prompt", checked)
        features = np.full((*chunk_mask.shape, len(CHUNK_FEATURES)), np.nan, dtype=np.float32)
        for name in inputs.features:
            features[..., CHUNK_FEATURES.index(name)] = self._parts.of(name, checked)
        if budgets is None:
            budgets = np.zeros(len(checked))
        return Observation(
            chunk_embeddings=chunk_embeddings,
            prompt_embedding=prompt_embedding,
            features=features,
            chunk_mask=chunk_mask.astype(np.int8),
            expanded=np.zeros(chunk_mask.shape, dtype=np.int8),
            action_mask=chunk_mask.astype(np.int8),
            budget_left=np.array(budgets, dtype=np.float32).reshape(-1, 1),
        )

    def sample_indices(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` windows drawn uniformly, with repetition, (n,)."""
        return rng.integers(len(self), size=n)

    def sample_budgets(self, indices: ArrayLike, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a budget for each window, (B,), in chunks; drawn where the budget is a range."""
        return self.budget.chunks(self.chunk_masks(indices).sum(axis=-1), rng)

    def log_perplexity(
        self, indices: ArrayLike, expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the log-perplexity of the outputs, (B,), nats per token, in one call of the model.

        Args:
            indices: (B,) windows.
            expanded: (B, L) bool, chunks left as tokens; none of them padding.

        Raises:
            ValueError: A padding chunk is expanded, or the shapes do not fit.
            UserError: There is no such window.
        """
        windows, expanded = self._check_sets(indices, expanded)
        self.last_scored.extend(window.key for window in windows)
        scores = self.reward_model.log_perplexity(windows, expanded)
        require_finite("the log-perplexity", scores, windows)
        return scores

    def token_log_likelihood(
        self, indices: ArrayLike, expanded: NDArray[np.bool_]
    ) -> list[NDArray[np.float32]]:
        """Return the log-likelihood of each output token, ``B`` arrays of (o,), nats.

        Arguments and errors as ``log_perplexity``; for the bounds that see the output.
        """
        windows, expanded = self._check_sets(indices, expanded)
        found = self.reward_model.token_log_likelihood(windows, expanded)
        for window, tokens in zip(windows, found, strict=True):
            require_finite("a token's log-likelihood", tokens[None], [window])
        return found

    def compressed_log_perplexity(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Return the log-perplexity of the outputs with nothing expanded, (B,), nats per token."""
        nothing = np.zeros((0, self.num_chunks), dtype=bool)
        return self.log_perplexity_and_baseline([], nothing, indices, "compressed")[1]

    def log_perplexity_and_baseline(
        self,
        indices: ArrayLike,
        expanded: NDArray[np.bool_],
        baseline_indices: ArrayLike,
        baseline: BaselineName,
        budgets: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return log-perplexities of sets and of a baseline, in one call of the model.

        Args:
            indices: (B,) windows.
            expanded: (B, L) bool, chunks left as tokens; none of them padding.
            baseline_indices: (C,) windows to score with what the baseline expands; each is scored
                once for a budget and kept.
            baseline: ``compressed``, a heuristic, or ``best_heuristic``.
            budgets: (C,) chunks that a heuristic expands; not read for ``compressed``.

        Returns:
            Log-perplexities (B,) and (C,), nats per token. The model is not called where every
            answer is known.

        Raises:
            ValueError: A heuristic without budgets.
        """
        known, others = self._check(indices), self._check(baseline_indices)
        if baseline == "compressed":
            budgets = np.zeros(len(others), dtype=np.int64)
        if budgets is None:
            raise ValueError(f"the baseline {baseline} needs budgets")
        names = self._baseline_heuristics if baseline == "best_heuristic" else (baseline,)
        keys: list[tuple[str, int, int]] = [
            (name, index, int(budget))
            for name in names
            for index, budget in zip(others, np.asarray(budgets), strict=True)
        ]
        missing = sorted(set(keys) - self._baselines.keys())
        answers = np.zeros(0, dtype=np.float32)
        if known or missing:
            sets = np.concatenate([expanded, self._baseline_sets(missing)])
            answers = self.log_perplexity(known + [index for _, index, _ in missing], sets)
        self._baselines.update(zip(missing, answers[len(known) :], strict=True))
        scored = np.array([self._baselines[key] for key in keys], dtype=np.float32)
        # The lowest log-perplexity is the highest reward, whichever reward it is.
        return answers[: len(known)], scored.reshape(len(names), len(others)).min(axis=0)

    def _baseline_sets(self, keys: list[tuple[str, int, int]]) -> NDArray[np.bool_]:
        """Return what baselines expand, (C, L) bool."""
        sets = np.zeros((len(keys), self.num_chunks), dtype=bool)
        for name in {name for name, _, _ in keys} - {"compressed"}:
            heuristic = HEURISTICS[name]()
            rows = [row for row, key in enumerate(keys) if key[0] == name]
            budgets = np.array([keys[row][2] for row in rows], dtype=np.int64)
            indices = [keys[row][1] for row in rows]
            observation = self.observe(indices, budgets, inputs_of(heuristic))
            # None of the baselines draws anything.
            sets[rows] = heuristic.select(observation, budgets, np.random.default_rng(0))
        return sets

    def reward_of(self, log_perplexity: ArrayLike) -> NDArray[np.float64]:
        """Return the rewards of log-perplexities, before any baseline; same shape."""
        values = np.asarray(log_perplexity, dtype=np.float64)
        return -values if self.reward == "neg_log_perplexity" else -np.exp(values)

    def rewards(
        self, indices: ArrayLike, expanded: NDArray[np.bool_], budgets: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return the rewards of sets of expanded chunks, (B,), in one call of the model.

        Args:
            indices: (B,) windows.
            expanded: (B, L) bool, chunks left as tokens; none of them padding.
            budgets: (B,) chunks, for the baseline; as many as are expanded if not given.

        Raises:
            ValueError: A padding chunk is expanded, or the shapes do not fit.
            UserError: There is no such window.
        """
        return self.log_perplexity_and_rewards(indices, expanded, budgets)[1]

    def log_perplexity_and_rewards(
        self, indices: ArrayLike, expanded: NDArray[np.bool_], budgets: ArrayLike | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return what ``log_perplexity`` and ``rewards`` do, in one call; arguments as there."""
        if self.reward_baseline == "none":
            scored = self.log_perplexity(indices, expanded)
            return scored, self.reward_of(scored)
        if budgets is None:
            budgets = np.asarray(expanded).sum(axis=-1)
        scored, baseline = self.log_perplexity_and_baseline(
            indices, expanded, indices, self.reward_baseline, budgets
        )
        return scored, self.reward_of(scored) - self.reward_of(baseline)

    def _check(self, indices: ArrayLike) -> list[int]:
        """Return the indices as a list of ints, or raise ``UserError``."""
        asked = np.asarray(indices)
        if asked.size and not np.issubdtype(asked.dtype, np.integer):
            raise UserError(f"A window is given by its index, not by {indices!r}.")
        wrong = [int(index) for index in asked.reshape(-1) if not 0 <= index < len(self)]
        if wrong:
            raise UserError(
                f"There is no window {wrong[0]}: the problem has {len(self)}.\n"
                f"Give an index from 0 to {len(self) - 1}."
            )
        return [int(index) for index in asked.reshape(-1)]

    def _check_sets(
        self, indices: ArrayLike, expanded: NDArray[np.bool_]
    ) -> tuple[list[Window], NDArray[np.bool_]]:
        """Return the windows and their sets, or raise as ``log_perplexity`` says."""
        windows = self._windows(self._check(indices))
        expanded = np.asarray(expanded, dtype=bool)
        if expanded.shape != (len(windows), self.num_chunks):
            raise ValueError(
                f"expanded has shape {expanded.shape}, not {(len(windows), self.num_chunks)}."
            )
        held = np.array([window.chunk_mask for window in windows], dtype=bool)
        if np.any(expanded & ~held.reshape(expanded.shape)):
            raise ValueError("A padding chunk cannot be expanded.")
        return windows, expanded

    def _windows(self, indices: list[int]) -> list[Window]:
        return self._window_cache.collect(
            indices, indices, lambda missing: [self._checked(self.windows[i]) for i in missing]
        )

    def _source(self, inputs: Inputs) -> EmbeddingSource:
        """Return where chunk embeddings come from: the problem says it where the inputs do not."""
        return inputs.chunk_embeddings or self.inputs.chunk_embeddings or "encoder"


def _check_heuristics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the heuristics that ``best_heuristic`` is the best of."""
    for name in names:
        if name not in BASELINE_HEURISTICS:
            raise UserError(
                f"baseline_heuristics: {name!r} cannot be one of them; "
                f"choose from {', '.join(BASELINE_HEURISTICS)}"
            )
    return tuple(dict.fromkeys(names)) or BASELINE_HEURISTICS
