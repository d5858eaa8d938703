"""The protocols of everything that selects chunks, and of what it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.monitor import Monitor
from refrag_rl.observation import Inputs, Observation


@runtime_checkable
class Selector(Protocol):
    """Chooses which chunks to expand: a heuristic, an oracle or a trained agent.

    One that has an attribute ``inputs`` (``refrag_rl.observation.Inputs``) is given what that asks
    for; one that has none, the default features.

    Attributes:
        name: Stands in tables and figures.
    """

    name: str

    def select(
        self, observation: Observation, budget: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the chunks to expand, (B, L), exactly ``min(budget, chunks with text)`` a row.

        Args:
            observation: A batch, (B, ...); of an episode that has not begun.
            budget: (B,) chunks, at least 1.
            rng: The only source of randomness.
        """
        ...


class Problem(Protocol):
    """The selection problems to learn from: ``refrag_rl.envs.ExpansionProblem``.

    Attributes:
        num_chunks: ``L``, padding included.
    """

    num_chunks: int

    @property
    def embedding_size(self) -> int:
        """Width of the chunk embeddings."""
        ...

    @property
    def inputs(self) -> Inputs:
        """What ``observe`` returns where it is not told."""
        ...

    @property
    def refrag(self) -> str | None:
        """Fingerprint of the frozen model; ``None``: it has none."""
        ...

    def sample_indices(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw ``n`` windows, (n,)."""
        ...

    def sample_budgets(
        self, indices: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw the budget of each window, (B,) chunks, at most those that hold text."""
        ...

    def observe(
        self,
        indices: NDArray[np.int64],
        budgets: NDArray[np.int64] | None = None,
        inputs: Inputs | None = None,
    ) -> Observation:
        """Return the batched observation at the start of the windows' episodes."""
        ...

    def rewards(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the terminal rewards, (B,), in one call of the reward model."""
        ...

    def log_perplexity_and_rewards(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return what ``log_perplexity`` and ``rewards`` do, in one call of the reward model."""
        ...

    def log_perplexity(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the log-perplexities of the outputs, (B,), nats per token."""
        ...


class VectorView(Protocol):
    """The vector environment that ``learn`` is given: ``SelectiveExpansionVectorEnv``."""

    num_envs: int

    @property
    def problem(self) -> Any:
        """The ``Problem`` behind the environment."""
        ...


@runtime_checkable
class Agent(Selector, Protocol):
    """A selector that learns."""

    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Train on the environment's windows; tell the monitor how it goes.

        Args:
            env: The vector view of the environment.
            monitor: Receives figures, progress, and the agent itself for evaluation.
        """
        ...

    def save(self, directory: str | Path) -> None:
        """Write the policy to a folder: ``policy.json`` and ``policy.safetensors``.

        Raises:
            UserError: Nothing is trained yet.
        """
        ...

    def load(self, directory: str | Path) -> None:
        """Take over the policy of a folder.

        Raises:
            UserError: The folder holds no policy.
        """
        ...
