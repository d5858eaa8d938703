"""The monitor of a measured training: its curve, its reference, what is left out of its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.benchmarks.model_clock import ModelSeconds
from refrag_rl.benchmarks.timing_monitor import Point, TimingMonitor
from refrag_rl.comparison import build_columns
from refrag_rl.errors import UserError
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import Row, Selector
from tests.toy_problem import CHUNK_SIZE, NUM_CHUNKS, toy_problem


class Ticks:
    """Stands for every clock: moves only when told to."""

    now = 0.0

    def read(self) -> ModelSeconds:
        return ModelSeconds(self.now / 2, self.now / 4)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    ticks = Ticks()
    monkeypatch.setattr(time, "perf_counter", lambda: ticks.now)
    return ticks


class SlowComparator(Comparator):
    """Takes 100 seconds for each comparison."""

    ticks: Ticks

    def compare(
        self,
        selectors: Sequence[Selector] = (),
        progress: Callable[[str], None] = lambda what: None,
    ) -> list[Row]:
        self.ticks.now += 100
        return super().compare(selectors, progress)

    def _reference(self, name: str, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        # A toy reward model has no decoder to read them with.
        return np.zeros(len(indices), dtype=np.float32)


def monitor(ticks: Ticks, rate: float = 2, compared: Sequence[float] = (3, 2)) -> TimingMonitor:
    comparator = SlowComparator(
        toy_problem(),
        None,  # type: ignore[arg-type]
        [HEURISTICS["recency"](), HEURISTICS["lead"]()],
        build_columns(compared, [], chunk_size=CHUNK_SIZE, num_chunks=NUM_CHUNKS),
        resamples=10,
    )
    comparator.ticks = ticks
    return TimingMonitor(comparator, rate, 10, ticks)  # type: ignore[arg-type]


def test_evaluations_are_not_in_the_time(ticks: Ticks) -> None:
    timing = monitor(ticks)
    for done in (6, 12, 18, 24):
        ticks.now += 8
        timing.record(done, {})
        if timing.should_evaluate(done):
            timing.evaluate(HEURISTICS["similarity"](), done)
    assert [(point.rewards, point.seconds) for point in timing.curve] == [(12, 16), (24, 32)]
    assert timing.seconds == 32
    assert timing.model_seconds == (16, 8)
    assert timing.rewards == 24


def test_the_best_heuristic_is_the_reference_at_the_rate_asked_for(ticks: Ticks) -> None:
    timing = monitor(ticks)
    levels = {
        row["selector"]: row["log_perplexity"]
        for row in timing._comparator.compare()
        if row["compression_rate"] == 2
    }
    assert timing.reference is not None
    assert timing.reference_level == min(levels["recency"], levels["lead"])
    assert levels[timing.reference.name] == timing.reference_level


def test_a_rate_of_many_digits_is_the_one_that_is_compared_at(ticks: Ticks) -> None:
    timing = monitor(ticks, 2.6666667, [2.6666667])
    timing.evaluate(HEURISTICS["similarity"](), 10)
    assert np.isfinite([timing.reference_level, timing.curve[0].log_perplexity]).all()


def test_a_rate_that_is_not_compared_at_is_refused(ticks: Ticks) -> None:
    with pytest.raises(UserError, match="compared at 3, 2"):
        monitor(ticks, 2.5)


def test_the_target_is_reached_at_the_first_point_below_it(ticks: Ticks) -> None:
    timing = monitor(ticks)
    timing.curve = [Point(10, 1.0, 3.5), Point(20, 2.0, 3.0), Point(30, 3.0, 2.9)]
    assert timing.first_at(3.0) == timing.curve[1]
    assert timing.first_at(2.0) is None
