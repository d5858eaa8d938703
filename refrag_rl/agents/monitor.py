"""What a learning agent tells while it learns, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
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
        """Take the progress: rewards done, of how many, and what to show beside it."""
        ...

    def should_evaluate(self, done: int) -> bool:
        """Return whether a held-out evaluation is due."""
        ...

    def evaluate(self, selector: Selector, done: int) -> None:
        """Evaluate the agent as it is now."""
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
