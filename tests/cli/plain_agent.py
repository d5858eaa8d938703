"""An agent from nothing, as somebody else may write it: no torch, no checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.monitor import Monitor
from refrag_rl.agents.selector import VectorView
from refrag_rl.observation import Observation


class PlainAgent:
    """Learns how many sets it was shown, and expands the first chunks."""

    name = "plain"

    def __init__(self, total_rewards: int) -> None:
        self._total = total_rewards
        self._seen = 0

    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Score the first chunks of single windows."""
        problem = env.problem
        rng = np.random.default_rng(0)
        for step in range(1, self._total + 1):
            indices = problem.sample_indices(1, rng)
            observation = problem.observe(indices)
            chosen = self.select(observation, np.array([1]), rng)
            _, rewards = problem.log_perplexity_and_rewards(indices, chosen)
            self._seen = step
            monitor.record(step, {"reward/mean": float(rewards.mean())})
            monitor.advance(step, self._total, {})

    def select(
        self, observation: Observation, budget: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the first chunks."""
        return np.arange(observation["chunk_mask"].shape[1]) < budget[:, None]

    def save(self, directory: str | Path) -> None:
        """Write what was learned."""
        Path(directory).mkdir(parents=True)
        (Path(directory) / "plain.json").write_text(json.dumps({"seen": self._seen}))

    def load(self, directory: str | Path) -> None:
        """Read it."""
        state: Mapping[str, Any] = json.loads((Path(directory) / "plain.json").read_text())
        self._seen = state["seen"]
