"""The monitor of a training: TensorBoard, progress, and the comparisons in its course."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from refrag_rl.agents.selector import Selector
from refrag_rl.board import add_figure, add_sample
from refrag_rl.errors import StoppedError, UserError
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.event_files import ResumableWriter
from refrag_rl.full_disk import is_full_disk
from refrag_rl.progress import ProgressReport
from refrag_rl.score_caches import ScoreCaches
from refrag_rl.stopping import received
from refrag_rl.training_state import Checkpoint, CheckProgress, require_fields

_PROGRESS = {
    "done": int,
    "saved_at": int,
    "evaluated_at": int,
    "evaluation_seconds": float,
    "training_seconds": float,
    "events": dict,
}
"""What is kept beside the agent's own progress."""

_SHOWN = {"to best": "difference_to_best_heuristic", "reward": "mean"}
"""Beside the progress, the first that is known: name there -> the agent's figure."""

_SAMPLES = 2
"""Windows that are shown as text at each comparison."""


class TrainingMonitor:
    """Writes an agent's figures to TensorBoard, shows progress, compares it, keeps its state.

    TensorBoard's groups: what the agent reports (``reward/``, ``policy/``),
    ``comparison/<domain>/<rate>/<selector>`` (nats per token) with
    ``comparison/<domain>/<rate>/delta_to_best_heuristic``, and ``time/``; at each comparison its
    figure, and the texts of two windows with the expanded chunks marked. The horizontal axis is
    training rewards: selections scored so far.

    The state is kept every ``save_every`` rewards, at the end, and when a signal asks the run to
    stop, which then ends with ``StoppedError``. At the regular saves all caches of scores are
    emptied, here and when the training goes on from there. A save between two regular ones keeps
    the caches instead, because a training that was not stopped would not have emptied them.

    Args:
        folder: Where TensorBoard's events go.
        comparator: Validation windows and heuristics.
        eval_every: Training rewards between two comparisons; 0: none.
        checkpoint: Where the state is kept; from ``training_checkpoint``. If there is one, the
            training goes on from it, and what TensorBoard's events hold of the time after it no
            longer counts.
        save_every: Training rewards between two regular saves; 0: none before the end.
        caches: Of the scores that the training has computed.
        last_scored: Windows that were scored last; emptied after each update.

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
        caches: ScoreCaches,
        last_scored: deque[str],
    ) -> None:
        self.reference: Selector | None = None
        self.progress: ProgressReport | None = None
        self._resumed = checkpoint.exists()
        last = checkpoint.progress() if self._resumed else {}
        self._writer = ResumableWriter(
            folder, last.get("events", {}), purge_step=last.get("done", -1) + 1
        )
        self._comparator = comparator
        self._eval_every = eval_every
        self._evaluated_at = 0
        self._checkpoint = checkpoint
        self._save_every = save_every
        self._saved_at = 0
        self._recorded_at = 0
        self._total: int | None = None
        self._caches = caches
        self._last_scored = last_scored
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
        try:
            self._writer.close()
        except OSError as failure:
            # It cannot be closed on a full disk, which is what ended the run.
            if error is None or not is_full_disk(failure):
                raise

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
        self._last_scored.clear()
        self._recorded_at = step
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        training = self._training_seconds()
        self._writer.add_scalar("time/training_seconds", training, step)
        self._writer.add_scalar("time/rewards_per_second", step / max(training, 1e-9), step)

    def advance(self, done: int, total: int, scalars: Mapping[str, float]) -> None:
        """Show the progress with the lead over the best heuristic, or the mean reward.

        Raises:
            StoppedError: A signal asked for it in a warm start, of which nothing is kept.
        """
        self._total = total
        stop = received()
        if stop is not None and not (self._resumed or self._recorded_at):
            raise StoppedError(stop)
        if self.progress is not None:
            known = [(name, scalars[key]) for name, key in _SHOWN.items() if key in scalars]
            self.progress.advance(done, total, dict(known[:1]))

    def reached(self) -> dict[str, Any]:
        """Return how far the training is, in rewards, and how far its curves are written."""
        return {"done": self._recorded_at, "events": self._writer.position()}

    def should_evaluate(self, done: int) -> bool:
        """Return whether ``eval_every`` rewards have passed since the last comparison."""
        return self._eval_every > 0 and done - self._evaluated_at >= self._eval_every

    def evaluate(self, selector: Selector, done: int) -> None:
        """Compare the agent as it is now with the heuristics on the validation windows."""
        started = time.perf_counter()
        self._evaluated_at = done
        rows = self._comparator.compare([selector])
        self._write_comparison(rows, done, selector.name)
        add_figure(self._writer, rows, selector.name, done)
        self._add_samples(selector, done)
        self._evaluation_seconds += time.perf_counter() - started
        self._writer.add_scalar("time/evaluation_seconds", self._evaluation_seconds, done)
        self._writer.flush()

    def restore(self, policy: nn.Module, optimizer: Optimizer) -> Mapping[str, Any]:
        """Go on from the checkpoint, if there is one; see ``Monitor.restore``."""
        if not self._resumed:
            return {}
        caches = self._checkpoint.extra()
        saved = self._checkpoint.load(policy, [optimizer])
        try:
            self._caches.restore(caches)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RuntimeError,
        ) as error:
            raise UserError(
                f"{self._checkpoint.last_path()} cannot be resumed from (its caches: {error}). "
                "Give the folder of a run that this command made."
            ) from error
        self._saved_at, self._evaluated_at = saved["saved_at"], saved["evaluated_at"]
        self._evaluation_seconds = saved["evaluation_seconds"]
        before = saved["training_seconds"] + saved["evaluation_seconds"]
        self._started = time.perf_counter() - before
        if self.progress is not None:
            self.progress.begin_at(saved["done"])
        return saved

    def should_save(self, done: int) -> bool:
        """Return whether a regular save is due, or the run is to stop."""
        return self._is_due(done) or received() is not None

    def _is_due(self, done: int) -> bool:
        if self._total is not None and done >= self._total:
            return True
        return self._save_every > 0 and done - self._saved_at >= self._save_every

    def save(self, policy: nn.Module, optimizer: Optimizer, progress: Mapping[str, Any]) -> None:
        """Write the checkpoint; see ``Monitor.save``.

        Raises:
            OSError: The disk is full, or the like; the last checkpoint is as it was.
            StoppedError: A signal asked for it; the state is kept.
        """
        is_due = self._is_due(progress["done"])
        if is_due:
            self._saved_at = progress["done"]
            self._caches.clear()
        state = {
            **progress,
            "events": self._writer.position(),
            "saved_at": self._saved_at,
            "evaluated_at": self._evaluated_at,
            "evaluation_seconds": self._evaluation_seconds,
            "training_seconds": self._training_seconds(),
        }
        extra = {} if is_due else self._caches.tensors()
        self._checkpoint.save(policy, [optimizer], state, extra)
        stop = received()
        if stop is not None:
            raise StoppedError(stop)

    def _training_seconds(self) -> float:
        return time.perf_counter() - self._started - self._evaluation_seconds

    def _add_samples(self, selector: Selector, step: int) -> None:
        windows = self._comparator.problem.windows
        shown = min(_SAMPLES, len(windows))
        for position, column in enumerate(self._comparator.columns):
            picks = self._comparator.picks(selector, position, shown)
            for index, expanded in enumerate(picks):
                add_sample(self._writer, windows[index], expanded, column.chunks, step)

    def _write_comparison(self, rows: Sequence[Row], step: int, learned: str = "") -> None:
        for row in rows:
            if row["selector"] in REFERENCES:
                continue
            group = f"comparison/{row['domain']}/{row['compression_rate']:.3g}"
            self._writer.add_scalar(f"{group}/{row['selector']}", row["log_perplexity"], step)
            delta = row["delta_to_best_heuristic"]
            if row["selector"] == learned and delta is not None:
                self._writer.add_scalar(f"{group}/delta_to_best_heuristic", delta, step)


def training_checkpoint(
    folder: Path, keep: int, check_own: CheckProgress = lambda _: None
) -> Checkpoint:
    """Return the checkpoint of a training, in which only states that one can be in are sound.

    Args:
        folder: Where it lies.
        keep: How many states are kept.
        check_own: Of what the agent keeps; see ``LearningAgent.check_progress``.
    """

    def check(progress: Mapping[str, Any]) -> None:
        require_fields(progress, _PROGRESS)
        for name in ("saved_at", "evaluated_at"):
            if progress[name] > progress["done"]:
                raise ValueError(f"its {name} is {progress[name]}, after its end")
        check_own(progress)

    return Checkpoint(folder, keep=keep, check=check)


def best_selector(rows: Sequence[Row]) -> str | None:
    """Return the selector of the lowest mean log-perplexity over its rows; None without rows."""
    levels: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["selector"] not in REFERENCES:
            levels[row["selector"]].append(row["log_perplexity"])
    return min(levels, key=lambda name: float(np.mean(levels[name])), default=None)
