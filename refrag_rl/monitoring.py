"""The monitor of a training: TensorBoard, progress, and the comparisons in its course."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from torch import nn
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from refrag_rl.agents.selector import Selector
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.progress import ProgressReport
from refrag_rl.training_state import Checkpoint


class TrainingMonitor:
    """Writes an agent's figures to TensorBoard, shows progress, compares it, keeps its state.

    TensorBoard's groups: what the agent reports (``reward/``, ``train/``),
    ``comparison/<domain>/<rate>/<selector>`` (nats per token) with
    ``comparison/<domain>/<rate>/delta_to_best_heuristic``, and ``time/``. The horizontal axis is
    training rewards: selections scored so far.

    Args:
        folder: Where TensorBoard's events go.
        comparator: Validation windows and heuristics.
        eval_every: Training rewards between two comparisons; 0: none.
        checkpoint: Where the state is kept. If there is one, the training goes on from it, and what
            TensorBoard's events hold of the time after it no longer counts.
        save_every: Training rewards between two saves; 0: never.
        forget: Empties the caches of scores, at each save and restore: a score's last digits depend
            on which ones were computed together, so nothing older may be in use after either.

    Attributes:
        reference: The heuristic of the lowest mean log-perplexity on the validation windows; None
            before ``compare_heuristics``.
        progress: Shows how far the training is; None: nothing does.
    """

    def __init__(
        self,
        folder: Path,
        comparator: Comparator,
        eval_every: int,
        *,
        checkpoint: Checkpoint,
        save_every: int,
        forget: Callable[[], None],
    ) -> None:
        self.reference: Selector | None = None
        self.progress: ProgressReport | None = None
        self._resumed = checkpoint.exists()
        purge_step = checkpoint.progress()["done"] + 1 if self._resumed else 0
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        self._comparator = comparator
        self._eval_every = eval_every
        self._evaluated_at = 0
        self._checkpoint = checkpoint
        self._save_every = save_every
        self._saved_at = 0
        self._forget = forget
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

    def compare_heuristics(self, progress: ProgressReport) -> None:
        """Score the heuristics on the validation windows; the best becomes the reference."""
        total = self._comparator.reports(0)
        rows = self._comparator.compare(progress=lambda _: progress.step(total))
        self._started = time.perf_counter()
        if not self._resumed:
            self._write_comparison(rows, 0)
        best = best_selector(rows)
        self.reference = next(
            (heuristic for heuristic in self._comparator.heuristics if heuristic.name == best), None
        )

    def record(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the figures of one update."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        training = self._training_seconds()
        self._writer.add_scalar("time/training_seconds", training, step)
        self._writer.add_scalar("time/rewards_per_second", step / max(training, 1e-9), step)

    def advance(self, done: int, total: int, scalars: Mapping[str, float]) -> None:
        """Show the progress with the mean reward; the progress measures the rate itself."""
        if self.progress is not None:
            shown = {"reward": scalars["mean"]} if "mean" in scalars else {}
            self.progress.advance(done, total, shown)

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

    def restore(self, policy: nn.Module, optimizer: Optimizer) -> Mapping[str, int]:
        """Go on from the checkpoint, if there is one; see ``Monitor.restore``."""
        if not self._resumed:
            return {}
        saved = self._checkpoint.load(policy, [optimizer])
        self._forget()
        self._saved_at, self._evaluated_at = saved["done"], saved["evaluated_at"]
        self._evaluation_seconds = saved["evaluation_seconds"]
        before = saved["training_seconds"] + saved["evaluation_seconds"]
        self._started = time.perf_counter() - before
        if self.progress is not None:
            self.progress.begin_at(self._saved_at)
        return saved

    def should_save(self, done: int) -> bool:
        """Return whether ``save_every`` rewards have passed since the last save."""
        return self._save_every > 0 and done - self._saved_at >= self._save_every

    def save(self, policy: nn.Module, optimizer: Optimizer, progress: Mapping[str, int]) -> None:
        """Write the checkpoint; see ``Monitor.save``."""
        self._saved_at = progress["done"]
        # A resumed run writes no point up to here again, so none may be lost.
        self._writer.flush()
        state = {
            **progress,
            "evaluated_at": self._evaluated_at,
            "evaluation_seconds": self._evaluation_seconds,
            "training_seconds": self._training_seconds(),
        }
        self._checkpoint.save(policy, [optimizer], state)
        self._forget()

    def _training_seconds(self) -> float:
        return time.perf_counter() - self._started - self._evaluation_seconds

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
