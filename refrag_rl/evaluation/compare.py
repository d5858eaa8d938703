"""Selectors on the same windows at the same budgets.

1. Every selector picks chunks of every window at every budget; the frozen decoder scores the picks.
2. References are no selection: ``no_context``, ``last_tokens`` (the last ``s/k`` tokens of the
   context), ``compressed`` (nothing expanded), ``full_context`` (all expanded).
3. An oracle's bounds are scored too, where there is one.
4. What the scores say is in ``refrag_rl.evaluation.rows``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import WindowCheck
from refrag_rl.errors import UserError
from refrag_rl.evaluation.interfaces import (
    REFERENCES,
    Bound,
    Column,
    PlainDecoder,
    Row,
    ScoredProblem,
    Selector,
    WindowScore,
)
from refrag_rl.evaluation.rows import Rows, Scores
from refrag_rl.observation import inputs_of


class Comparator:
    """Compares selectors on the windows of a problem, again and again in the course of a training.

    Heuristics, references and the oracle do not change, so they are scored at the first comparison
    only.

    Args:
        problem: Windows and their log-perplexity under the frozen decoder.
        decoder: Reads the references that hold no chunks.
        heuristics: Selectors that the others are compared with.
        columns: Budgets that are compared.
        oracle: Bounds to compare with; expensive: see ``refrag_rl.agents.oracle``.
        references: Whether the references are scored and have rows.
        seed: Of the random selectors and of the bootstrap.
        first: Windows left out before these, where a comparison is made in parts; for the random
            selectors, which pick anew in each.
        resamples: Of the bootstrap.
        batch_size: Windows scored in one call.

    Raises:
        UserError: A window cannot be scored; see ``WindowCheck``.
        ValueError: There are no windows or no budgets.
    """

    def __init__(
        self,
        problem: ScoredProblem,
        decoder: PlainDecoder,
        heuristics: Sequence[Selector],
        columns: Sequence[Column],
        *,
        oracle: Bound | None = None,
        references: Sequence[str] = REFERENCES,
        seed: int = 0,
        first: int = 0,
        resamples: int = 5000,
        batch_size: int = 64,
    ) -> None:
        check = WindowCheck()
        windows = [check(problem.windows[index]) for index in range(len(problem.windows))]
        if not windows or not columns:
            raise ValueError(f"{len(windows)} windows and {len(columns)} budgets to compare")
        self.problem = problem
        self.decoder = decoder
        self.heuristics = list(heuristics)
        self.columns = list(columns)
        self.oracle = oracle
        self.seed = seed
        self.first = first
        self.batch_size = batch_size
        self._windows = windows
        self._rows = Rows(problem.windows, windows, self.columns, seed=seed, resamples=resamples)
        self._wanted_references = tuple(references)
        self._references: dict[str, Scores] = {}
        self._heuristic_scores: dict[tuple[str, int], Scores] = {}
        self._bounds: dict[tuple[str, int], Scores] = {}
        self._compared: dict[tuple[str, int], Scores] = {}
        self._expanded: dict[tuple[str, int], NDArray[np.bool_]] = {}

    def reports(self, selectors: int) -> int:
        """Return how often ``compare`` will report progress, given that many selectors."""
        if not self._heuristic_scores:
            selectors += len(self.heuristics)
        if self.oracle is not None and not self._bounds:
            selectors += 1
        references = 0 if self._references else len(self._wanted_references)
        return selectors * len(self.columns) + references

    def compare(
        self,
        selectors: Sequence[Selector] = (),
        progress: Callable[[str], None] = lambda what: None,
    ) -> list[Row]:
        """Score and compare.

        Args:
            selectors: Selectors besides the heuristics; names must be unique.
            progress: Called with the name of what was just scored.

        Returns:
            Rows: per domain the references, then per budget the selectors, the heuristics and the
            oracle's bounds.

        Raises:
            ValueError: Two selectors have one name.
        """
        bounds = [] if self.oracle is None else self.oracle.names
        names = [*(selector.name for selector in (*selectors, *self.heuristics)), *bounds]
        if len(set(names)) < len(names):
            raise ValueError(f"two selectors have the same name: {', '.join(names)}")
        if not self._references:
            self._references = self._score_references(progress)
        if not self._heuristic_scores:
            self._heuristic_scores = self._score(self.heuristics, progress)
        if self.oracle is not None and not self._bounds:
            self._bounds = self._score_bounds(self.oracle, progress)
        scores = self._score(selectors, progress) | self._heuristic_scores | self._bounds
        self._compared = scores
        return self._rows.of(
            self._references,
            scores,
            heuristics=[heuristic.name for heuristic in self.heuristics],
            bounds=None if self.oracle is None else self.oracle.names,
        )

    def window_scores(self) -> list[WindowScore]:
        """Return what the last comparison found on each window, references left out."""
        return [
            WindowScore(
                selector=name,
                budget=self.columns[position].chunks,
                compression_rate=self.columns[position].compression_rate,
                window=window.key,
                document=window.document_id,
                domain=window.domain,
                log_perplexity=float(score),
            )
            for (name, position), scores in self._compared.items()
            for window, score in zip(self._windows, scores, strict=True)
        ]

    def expanded(self, selector: Selector, position: int) -> NDArray[np.bool_]:
        """Return what a selector expanded in all windows when it was last compared, (N, L).

        Args:
            selector: One that was compared.
            position: Of the budget in ``columns``.
        """
        return self._expanded[selector.name, position]

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        indices = np.arange(len(self._windows))
        for start in range(0, len(indices), self.batch_size):
            yield indices[start : start + self.batch_size]

    def _score_references(self, progress: Callable[[str], None]) -> dict[str, Scores]:
        scores = {}
        for name in self._wanted_references:
            parts = [self._reference(name, batch) for batch in self._batches()]
            scores[name] = np.concatenate(parts).astype(np.float64)
            progress(name)
        return scores

    def _reference(self, name: str, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        if name in ("no_context", "last_tokens"):
            windows = [self._windows[index] for index in indices]
            tokens = 0 if name == "no_context" else self.problem.windows.num_chunks
            return self.decoder.log_perplexity_of_last_tokens(windows, tokens)
        chunk_mask = self.problem.chunk_masks(indices)
        expanded = chunk_mask if name == "full_context" else np.zeros_like(chunk_mask)
        return self.problem.log_perplexity(indices, expanded)

    def _score(
        self, selectors: Sequence[Selector], progress: Callable[[str], None]
    ) -> dict[tuple[str, int], Scores]:
        scores = {}
        for selector in selectors:
            for position, column in enumerate(self.columns):
                rng = self._rng(selector, position)
                parts = []
                expanded = []
                for batch in self._batches():
                    expanded.append(self._picked(selector, column, batch, rng))
                    parts.append(self.problem.log_perplexity(batch, expanded[-1]))
                self._expanded[selector.name, position] = np.concatenate(expanded)
                scores[selector.name, position] = np.concatenate(parts).astype(np.float64)
                progress(selector.name)
        return scores

    def _rng(self, selector: Selector, position: int) -> np.random.Generator:
        """Return the generator of a selector at a budget.

        The seed holds the name, so that a random selector's picks do not depend on which other
        selectors are compared, and the place of the part, so that no two parts have the same ones.
        """
        part = [self.first] if self.first else []
        name = zlib.crc32(selector.name.encode())
        return np.random.default_rng([self.seed, position, name, *part])

    def picks(self, selector: Selector, position: int, count: int) -> NDArray[np.bool_]:
        """Return what a selector expands in the first windows, (count, L), as in a comparison.

        Args:
            selector: Any.
            position: Of the budget in ``columns``.
            count: Windows, at most as many as are scored in one call.
        """
        first = next(self._batches())
        expanded = self._picked(
            selector, self.columns[position], first, self._rng(selector, position)
        )
        return expanded[:count]

    def _picked(
        self,
        selector: Selector,
        column: Column,
        indices: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.bool_]:
        chunk_mask = self.problem.chunk_masks(indices)
        chunks = column.chunks_of(chunk_mask.sum(axis=1))
        observation = self.problem.observe(indices, chunks, inputs_of(selector))
        expanded = np.asarray(selector.select(observation, chunks, rng))
        if expanded.shape != chunk_mask.shape or expanded.dtype != np.bool_:
            raise UserError(
                f"selector {selector.name} returned {expanded.dtype} of shape {expanded.shape}: "
                f"select() has to return bool of shape {chunk_mask.shape}"
            )
        picked = (expanded & chunk_mask).sum(axis=1)
        wrong = (picked != np.minimum(chunks, chunk_mask.sum(axis=1))) | (
            expanded & ~chunk_mask
        ).any(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(
                f"selector {selector.name} expanded {int(expanded[row].sum())} chunks where the "
                f"budget is {int(chunks[row])} of {int(chunk_mask[row].sum())} chunks of text: "
                "select() has to\nexpand as many as the budget, or all where there are fewer, and "
                "no padding"
            )
        return expanded

    def _score_bounds(
        self, oracle: Bound, progress: Callable[[str], None]
    ) -> dict[tuple[str, int], Scores]:
        scores = {}
        for position, column in enumerate(self.columns):
            parts = [
                oracle.log_perplexity(
                    batch, column.chunks_of(self.problem.chunk_masks(batch).sum(axis=1))
                )
                for batch in self._batches()
            ]
            for name in oracle.names:
                scores[name, position] = np.concatenate([part[name] for part in parts])
            progress(oracle.names[0])
        return scores
