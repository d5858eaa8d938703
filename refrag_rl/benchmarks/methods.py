"""The ways to read a context that ``benchmark latency`` compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refrag_rl.envs.budget import Budget


@dataclass(frozen=True)
class Method:
    """One way to read a context.

    Attributes:
        chunk_size: ``k``; ``None``: the full context, as tokens.
        is_cached: Whether the chunk embeddings were computed beforehand.
        policy_rate: Effective compression rate that a policy expands to; ``None``: no policy,
            nothing is expanded.
    """

    chunk_size: int | None = None
    is_cached: bool = False
    policy_rate: float | None = None

    @property
    def label(self) -> str:
        """Its name in the table and the figure."""
        if self.chunk_size is None:
            return "full context"
        rate = "" if self.policy_rate is None else f" {self.policy_rate:g}x"
        return f"k={self.chunk_size}{rate}{' cached' if self.is_cached else ''}"

    def budget(self, length: int) -> int:
        """Return ``T'``, the chunks that the policy expands in a context of that many tokens.

        Raises:
            UserError: The rate is out of range.
        """
        if self.chunk_size is None or self.policy_rate is None:
            return 0
        chunks = length // self.chunk_size
        budget = Budget.parse(f"{self.policy_rate}x", chunk_size=self.chunk_size, num_chunks=chunks)
        return int(budget.chunks(np.array([chunks]), np.random.default_rng(0))[0])

    def context_positions(self, length: int) -> int:
        """Return the positions that the decoder reads for a context of that many tokens."""
        if self.chunk_size is None:
            return length
        expanded = self.budget(length)
        return length // self.chunk_size - expanded + expanded * self.chunk_size


def list_methods(chunk_sizes: Sequence[int], policy_rates: Sequence[float]) -> list[Method]:
    """Return the full context, then every chunk size: cached and not, without policy and with.

    A rate is left out where the chunk size is no larger than it.
    """
    methods = [Method()]
    for size in chunk_sizes:
        for rate in (None, *(rate for rate in policy_rates if rate < size)):
            methods += [Method(size, True, rate), Method(size, False, rate)]
    return methods
