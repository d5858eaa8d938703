"""A trained policy as a selector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refrag_rl.observation import Observation
from refrag_rl.policies.plackett_luce import expanded_from, greedy
from refrag_rl.policies.pointer import PointerPolicy, as_tensors
from refrag_rl.policies.storage import (
    StoredPolicy,
    check_embedding_size,
    load_policy,
    save_policy,
)

ROWS_AT_ONCE = 256
"""Contexts that go through the network together: bounds the memory of a large evaluation."""


class PolicySelector:
    """Expands the chunks of highest logit: the most probable selection of a policy.

    Args:
        policy: The network, on the device where it shall run.
        agent: Name of the agent that trained it.
        name: What to call it in tables; None: the agent's name.
        training: How it was trained, JSON values.
    """

    def __init__(
        self,
        policy: PointerPolicy,
        agent: str,
        name: str | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        self.policy = policy
        self.agent = agent
        self.name = agent if name is None else name
        self.training = dict(training or {})

    def logits(self, observation: Observation, budget: NDArray[np.int64]) -> torch.Tensor:
        """Return the policy's logits, (B, L), on the CPU, without gradient.

        Raises:
            UserError: The policy was trained for another embedding width.
        """
        given = observation["chunk_embeddings"].shape[-1]
        check_embedding_size(self.policy.config.embedding_size, given, self.name)
        device = next(self.policy.parameters()).device
        tensors = as_tensors(observation, device)
        budgets = torch.from_numpy(np.asarray(budget, dtype=np.int64)).to(device)
        pieces = []
        with torch.no_grad():
            for start in range(0, len(budgets), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                piece = {name: tensor[rows] for name, tensor in tensors.items()}
                pieces.append(self.policy(piece, budgets[rows]).cpu())
        return torch.cat(pieces)

    def select(
        self, observation: Observation, budget: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the chunks to expand, (B, L) bool; see ``Selector.select``. ``rng`` is not used.

        Raises:
            UserError: The policy was trained for another embedding width.
        """
        logits = self.logits(observation, budget)
        order = greedy(logits, torch.from_numpy(np.asarray(budget, dtype=np.int64)))
        return expanded_from(order, logits.shape[-1]).numpy()

    def save(self, directory: str | Path) -> None:
        """Write ``policy.json`` and ``policy.safetensors`` to a folder."""
        save_policy(StoredPolicy(self.policy, self.agent, self.training), directory)

    @classmethod
    def load(
        cls, directory: str | Path, embedding_size: int | None = None, name: str | None = None
    ) -> PolicySelector:
        """Read a policy from a folder.

        Args:
            directory: What ``save`` wrote to.
            embedding_size: Width of the embeddings that it shall read; None: checked when it
                selects.
            name: What to call it in tables; None: the agent's name.

        Raises:
            UserError: The folder holds no policy, a damaged one, or one for another width.
        """
        stored = load_policy(directory, embedding_size)
        return cls(stored.policy, stored.agent, name, stored.training)
