"""What a learning agent tells while it learns, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from refrag_rl.agents.selector import Selector


class Monitor(Protocol):
    """Receives an agent's figures. Every count is in training rewards: selections scored so far.

    Attributes:
        reference: The best heuristic (on validation windows), which the agent scores on some of its
            own training windows to report its lead; None: no such report.
    """

    reference: Selector | None

    def record(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take the figures of one update; names as in ``group/name``."""
        ...

    def advance(self, done: int, total: int, scalars: Mapping[str, float]) -> None:
        """Take the progress: rewards done, of how many, and what to show beside it.

        Called before the first ``record`` of a training that begins, it tells of a warm start.

        Raises:
            StoppedError: The warm start is to stop; nothing of it is kept.
        """
        ...

    def should_evaluate(self, done: int) -> bool:
        """Return whether a held-out evaluation is due."""
        ...

    def evaluate(self, selector: Selector, done: int) -> None:
        """Evaluate the agent as it is now."""
        ...

    def restore(self, policy: nn.Module, optimizer: Optimizer) -> Mapping[str, Any]:
        """Put what ``save`` kept of an interrupted training into policy and optimizer.

        Returns:
            The progress that ``save`` was given; empty where the training begins.

        Raises:
            UserError: What was kept is damaged, or of another policy.
        """
        ...

    def should_save(self, done: int) -> bool:
        """Return whether the state of the training is to be kept."""
        ...

    def save(self, policy: nn.Module, optimizer: Optimizer, progress: Mapping[str, Any]) -> None:
        """Keep the state, so that the training can go on from here.

        Args:
            policy: What is trained.
            optimizer: Its optimizer.
            progress: How far the training is, as JSON can hold it; ``done`` is its rewards.
        """
        ...


class NullMonitor:
    """Discards everything."""

    reference: Selector | None = None

    def record(self, step: int, scalars: Mapping[str, float]) -> None:
        """Do nothing."""

    def advance(self, done: int, total: int, scalars: Mapping[str, float]) -> None:
        """Do nothing."""

    def should_evaluate(self, done: int) -> bool:
        """Return false: an evaluation is never due."""
        return False

    def evaluate(self, selector: Selector, done: int) -> None:
        """Do nothing."""

    def restore(self, policy: nn.Module, optimizer: Optimizer) -> Mapping[str, Any]:
        """Return nothing: every training begins."""
        return {}

    def should_save(self, done: int) -> bool:
        """Return false: nothing is ever kept."""
        return False

    def save(self, policy: nn.Module, optimizer: Optimizer, progress: Mapping[str, Any]) -> None:
        """Do nothing."""
