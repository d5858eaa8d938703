"""The monitor of a training: TensorBoard, progress, and the comparisons in its course."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from refrag_rl.agents.selector import Selector
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.progress import ProgressReport


class TrainingMonitor:
    """Writes an agent's figures to TensorBoard, shows progress, compares it as it learns.

    TensorBoard's groups: ``reward/`` and ``policy/`` from the agent,
    ``comparison/<domain>/<rate>/<selector>`` (nats per token) with
    ``comparison/<domain>/<rate>/delta_to_best_heuristic``, and ``time/``. The horizontal axis is
    training rewards: selections scored so far.

    Args:
        folder: Where TensorBoard's events go.
        comparator: Validation windows and heuristics.
        progress: Shows how far the training is.
        eval_every: Training rewards between two comparisons; 0: none.

    Attributes:
        reference: The heuristic of the lowest mean log-perplexity on the validation windows; None
            before ``compare_heuristics``.
    """

    def __init__(
        self, folder: Path, comparator: Comparator, progress: ProgressReport, eval_every: int
    ) -> None:
        self.reference: Selector | None = None
        self._writer = SummaryWriter(str(folder))
        self._comparator = comparator
        self._progress = progress
        self._eval_every = eval_every
        self._evaluated_at = 0
        self._started = time.perf_counter()
        self._evaluation_seconds = 0.0

    def __enter__(self) -> TrainingMonitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    def compare_heuristics(self) -> None:
        """Score the heuristics on the validation windows; the best becomes the reference."""
        rows = self._comparator.compare()
        self._write_comparison(rows, 0)
        best = best_selector(rows)
        self.reference = next(
            (heuristic for heuristic in self._comparator.heuristics if heuristic.name == best), None
        )

    def record(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the figures of one update."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        training = time.perf_counter() - self._started - self._evaluation_seconds
        self._writer.add_scalar("time/training_seconds", training, step)
        self._writer.add_scalar("time/rewards_per_second", step / max(training, 1e-9), step)

    def advance(self, done: int, total: int, scalars: Mapping[str, float]) -> None:
        """Show the progress."""
        self._progress.advance(done, total, scalars)

    def should_evaluate(self, done: int) -> bool:
        """Return whether ``eval_every`` rewards have passed since the last comparison."""
        return self._eval_every > 0 and done - self._evaluated_at >= self._eval_every

    def evaluate(self, selector: Selector, done: int) -> None:
        """Compare the agent as it is now with the heuristics on the validation windows."""
        started = time.perf_counter()
        self._evaluated_at = done
        rows = self._comparator.compare([selector])
        self._write_comparison(rows, done, selector.name)
        self._evaluation_seconds += time.perf_counter() - started
        self._writer.add_scalar("time/evaluation_seconds", self._evaluation_seconds, done)
        self._writer.flush()

    def _write_comparison(self, rows: Sequence[Row], step: int, learned: str = "") -> None:
        for row in rows:
            if row["selector"] in REFERENCES:
                continue
            group = f"comparison/{row['domain']}/{row['compression_rate']:.3g}"
            self._writer.add_scalar(f"{group}/{row['selector']}", row["log_perplexity"], step)
            delta = row["delta_to_best_heuristic"]
            if row["selector"] == learned and delta is not None:
                self._writer.add_scalar(f"{group}/delta_to_best_heuristic", delta, step)


def best_selector(rows: Sequence[Row]) -> str | None:
    """Return the selector of the lowest mean log-perplexity over its rows; None without rows."""
    levels: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["selector"] not in REFERENCES:
            levels[row["selector"]].append(row["log_perplexity"])
    return min(levels, key=lambda name: float(np.mean(levels[name])), default=None)
