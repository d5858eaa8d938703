"""A trained policy as a selector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.errors import UserError
from refrag_rl.observation import Inputs, Observation, feature
from refrag_rl.policies.plackett_luce import expanded_from
from refrag_rl.policies.pointer import PointerPolicy, TensorObservation, as_tensors
from refrag_rl.policies.selections import greedy, sample
from refrag_rl.policies.storage import (
    StoredPolicy,
    check_embedding_size,
    load_policy,
    save_policy,
)

ROWS_AT_ONCE = 256
"""Contexts that go through the network together: bounds the memory of a large evaluation."""


class PolicySelector:
    """Expands the chunks of highest logit: the most probable selection of a policy, pick by pick.

    Args:
        policy: The network, on the device where it shall run.
        agent: Name of the agent that trained it.
        name: What to call it in tables; None: the agent's name.
        training: How it was trained, JSON values.
        refrag: Fingerprint of the model it was trained on; None: unknown.
    """

    def __init__(
        self,
        policy: PointerPolicy,
        agent: str,
        name: str | None = None,
        training: Mapping[str, Any] | None = None,
        refrag: str | None = None,
    ) -> None:
        self.policy = policy
        self.agent = agent
        self.name = agent if name is None else name
        self.training = dict(training or {})
        self.refrag = refrag

    @property
    def inputs(self) -> Inputs:
        """What the policy reads of a window."""
        return self.policy.config.inputs

    def require_model(self, embedding_size: int, refrag: str | None) -> None:
        """Check that a frozen model is the one that the policy was trained on.

        Args:
            embedding_size: Width of the chunk embeddings that the model gives it.
            refrag: The model's fingerprint; None, of a model or of a policy: not checked.

        Raises:
            UserError: It is another.
        """
        check_embedding_size(self.policy.config, embedding_size, self.name)
        if None not in (self.refrag, refrag) and self.refrag != refrag:
            raise UserError(
                f"policy {self.name} was trained on another REFRAG (weights {self.refrag}, "
                f"these are {refrag}); use it with that one, or train one for this REFRAG"
            )

    def logits(self, observation: Observation, budget: NDArray[np.int64]) -> Tensor:
        """Return the policy's logits before the first pick, (B, L), on the CPU, without gradient.

        Raises:
            UserError: The policy was trained for another embedding width.
        """
        return self._in_pieces(self.policy, observation, budget)

    def select(
        self, observation: Observation, budget: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the chunks to expand, (B, L) bool; see ``Selector.select``. ``rng`` is not used.

        Raises:
            UserError: The policy was trained for another embedding width.
        """

        def expand(rows: TensorObservation, budgets: Tensor) -> Tensor:
            return expanded_from(greedy(self.policy, rows, budgets), rows["chunk_mask"].shape[-1])

        expanded: NDArray[np.bool_] = self._in_pieces(expand, observation, budget).numpy()
        return expanded

    def inclusion_probabilities(
        self,
        observation: Observation,
        budget: NDArray[np.int64],
        rng: np.random.Generator,
        samples: int,
    ) -> NDArray[np.float64]:
        """Return how likely each chunk is expanded when the selection is drawn, (B, L).

        Args:
            observation: Of ``B`` windows.
            budget: (B,) chunks.
            rng: Of the draws.
            samples: Selections that are drawn; the estimate is the share of them with the chunk.

        Raises:
            UserError: The policy was trained for another embedding width.
        """
        device = next(self.policy.parameters()).device
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))

        def shares(rows: TensorObservation, budgets: Tensor) -> Tensor:
            order = sample(self.policy, rows, budgets, generator, samples)
            expanded = expanded_from(order, rows["chunk_mask"].shape[-1])
            return expanded.view(len(budgets), samples, -1).double().mean(1)

        rows_at_once = max(1, ROWS_AT_ONCE // samples)
        drawn: NDArray[np.float64] = self._in_pieces(
            shares, observation, budget, rows_at_once
        ).numpy()
        return drawn

    def _in_pieces(
        self,
        function: Callable[[TensorObservation, Tensor], Tensor],
        observation: Observation,
        budget: NDArray[np.int64],
        rows_at_once: int = ROWS_AT_ONCE,
    ) -> Tensor:
        """Return what a function of observation and budgets gives, (B, L), piece by piece."""
        given = observation["chunk_embeddings"].shape[-1]
        check_embedding_size(self.policy.config, given, self.name)
        for name in self.inputs.features:
            feature(observation, name)
        device = next(self.policy.parameters()).device
        tensors = as_tensors(observation)
        budgets = torch.from_numpy(np.asarray(budget, dtype=np.int64))
        pieces = []
        with torch.no_grad():
            for start in range(0, len(budgets), rows_at_once):
                rows = slice(start, start + rows_at_once)
                piece = {name: tensor[rows].to(device) for name, tensor in tensors.items()}
                pieces.append(function(piece, budgets[rows].to(device)).cpu())
        return torch.cat(pieces)

    def save(self, directory: str | Path) -> None:
        """Write ``policy.json`` and ``policy.safetensors`` to a folder."""
        save_policy(StoredPolicy(self.policy, self.agent, self.training, self.refrag), directory)

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
        return cls(stored.policy, stored.agent, name, stored.training, stored.refrag)
