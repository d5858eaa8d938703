"""The monitor of a measured training: its rewards, its time, its level on validation windows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from refrag_rl.agents.monitor import NullMonitor
from refrag_rl.agents.selector import Selector
from refrag_rl.benchmarks.model_clock import ModelClock, ModelSeconds
from refrag_rl.errors import UserError
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.evaluation.rows import ALL_DOMAINS

_CLOSE = 1e-5
"""Relative; budgets are written with six digits."""


class Point(NamedTuple):
    """An evaluation in the course of a training.

    Attributes:
        rewards: Training rewards so far.
        seconds: Of training so far, evaluations left out.
        log_perplexity: On the validation windows, nats per token.
    """

    rewards: int
    seconds: float
    log_perplexity: float


class TimingMonitor(NullMonitor):
    """Times a training and evaluates it now and then; what evaluations take is in no figure.

    As in ``refrag_rl.train`` the best heuristic is the agent's reference. The time begins when the
    heuristics have been scored.

    Args:
        comparator: Validation windows and heuristics.
        rate: Effective compression rate that levels are taken at: one of the comparator's, to five
            digits.
        eval_every: Training rewards between two evaluations.
        clock: Watches the reward model.

    Attributes:
        reference: The heuristic of the lowest log-perplexity.
        reference_level: Its log-perplexity, nats per token.
        rewards: Training rewards so far.
        curve: One point an evaluation.

    Raises:
        UserError: The comparator does not compare at that rate.
    """

    def __init__(
        self, comparator: Comparator, rate: float, eval_every: int, clock: ModelClock
    ) -> None:
        self._comparator = comparator
        rates = [column.compression_rate for column in comparator.columns]
        near = [own for own in rates if math.isclose(own, rate, rel_tol=_CLOSE)]
        if not near:
            given = ", ".join(f"{own:g}" for own in rates)
            raise UserError(
                f"rate={rate:g}: the agents are compared at {given}; give one of these, or no "
                "evaluation.rates in overrides"
            )
        self._rate = near[0]
        self._eval_every = eval_every
        self._clock = clock
        levels = self._levels(comparator.compare())
        by_name = {heuristic.name: heuristic for heuristic in comparator.heuristics}
        best = min(by_name, key=lambda name: levels[name])
        self.reference: Selector | None = by_name[best]
        self.reference_level = levels[best]
        self.rewards = 0
        self.curve: list[Point] = []
        self._evaluated_at = 0
        self._started = time.perf_counter()
        self._model_before = clock.read()

    @property
    def seconds(self) -> float:
        """Training time so far."""
        return time.perf_counter() - self._started

    @property
    def model_seconds(self) -> ModelSeconds:
        """Training time spent in the model so far."""
        return self._clock.read() - self._model_before

    def record(self, step: int, scalars: Mapping[str, float]) -> None:
        """Count the rewards of an update."""
        self.rewards = step

    def should_evaluate(self, done: int) -> bool:
        """Return whether ``eval_every`` rewards have passed since the last evaluation."""
        return done - self._evaluated_at >= self._eval_every

    def evaluate(self, selector: Selector, done: int) -> None:
        """Add a point to the curve."""
        seconds, model_seconds = self.seconds, self.model_seconds
        self._evaluated_at = done
        level = self._levels(self._comparator.compare([selector]))[selector.name]
        self.curve.append(Point(done, seconds, level))
        # Both clocks go on from where they stood before the evaluation.
        self._started = time.perf_counter() - seconds
        self._model_before = self._clock.read() - model_seconds

    def first_at(self, level: float) -> Point | None:
        """Return the first point of the curve at or below a log-perplexity."""
        return next((point for point in self.curve if point.log_perplexity <= level), None)

    def _levels(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return each selector's log-perplexity over all windows, nats per token."""
        shown = [row for row in rows if row["selector"] not in REFERENCES]
        if any(row["domain"] == ALL_DOMAINS for row in shown):
            shown = [row for row in shown if row["domain"] == ALL_DOMAINS]
        return {
            row["selector"]: row["log_perplexity"]
            for row in shown
            if row["compression_rate"] == self._rate
        }
