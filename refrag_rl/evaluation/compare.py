"""Selectors on the same windows at the same budgets.

1. Every selector picks chunks of every window at every budget; the frozen decoder scores the picks.
2. Per domain and budget, a row is a selector's mean log-perplexity with its interval, and the mean
   of its window-by-window differences to the best heuristic there with theirs.
3. The best heuristic of a cell is the one with the lowest mean over the cell's windows.
4. Reference rows, one a domain, are no selection: ``no_context``, ``last_tokens`` (the last ``s/k``
   tokens of the context), ``compressed`` (nothing expanded), ``full_context`` (all expanded).
5. With an oracle, its bounds are rows too, marked by ``sees_output``, and each selection says which
   share of the gap between ``random`` and them it closes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import WindowSource
from refrag_rl.evaluation.gap import NO_SHARES, gap_shares
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
from refrag_rl.evaluation.multiplicity import adjust_p_values
from refrag_rl.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    bootstrap_p_value,
    resampling_unit,
)
from refrag_rl.observation import inputs_of

ALL_DOMAINS = "all"

Scores = NDArray[np.float64]


class Comparator:
    """Compares selectors on the windows of a problem, again and again in the course of a training.

    Heuristics, references and the oracle do not change, so they are scored at the first comparison
    only.

    Args:
        problem: Windows and their log-perplexity under the frozen decoder.
        decoder: Reads the references that hold no chunks.
        heuristics: Selectors that the others are compared with.
        columns: Budgets that are compared.
        oracle: Bounds to compare with; dear: see ``refrag_rl.agents.oracle``.
        seed: Of the random selectors and of the bootstrap.
        resamples: Of the bootstrap.
        batch_size: Windows scored in one call.

    Raises:
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
        seed: int = 0,
        resamples: int = 5000,
        batch_size: int = 64,
    ) -> None:
        windows = [problem.windows[index] for index in range(len(problem.windows))]
        if not windows or not columns:
            raise ValueError(f"{len(windows)} windows and {len(columns)} budgets to compare")
        self.problem = problem
        self.decoder = decoder
        self.heuristics = list(heuristics)
        self.columns = list(columns)
        self.oracle = oracle
        self.seed = seed
        self.resamples = resamples
        self.batch_size = batch_size
        self._windows = windows
        self._document_ids = np.array([window.document_id for window in windows])
        self._domains = np.array([window.domain for window in windows])
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
        return selectors * len(self.columns) + (0 if self._references else len(REFERENCES))

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
        rows = [row for domain in self._domain_names() for row in self._rows(domain, scores)]
        adjust_p_values(rows)
        return rows

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

    def _domain_names(self) -> list[str]:
        names = sorted(set(self._domains.tolist()))
        return names if len(names) == 1 else [*names, ALL_DOMAINS]

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        indices = np.arange(len(self._domains))
        for start in range(0, len(indices), self.batch_size):
            yield indices[start : start + self.batch_size]

    def _score_references(self, progress: Callable[[str], None]) -> dict[str, Scores]:
        scores = {}
        for name in REFERENCES:
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
        selectors are compared.
        """
        return np.random.default_rng([self.seed, position, zlib.crc32(selector.name.encode())])

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
        expanded = selector.select(observation, chunks, rng)
        picked = (expanded & chunk_mask).sum(axis=1)
        if (picked != np.minimum(chunks, chunk_mask.sum(axis=1))).any() or (
            expanded & ~chunk_mask
        ).any():
            raise ValueError(
                f"selector {selector.name} picked {picked.tolist()} chunks of text where the "
                f"budgets are {chunks.tolist()}"
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

    def _rows(self, domain: str, scores: dict[tuple[str, int], Scores]) -> Iterator[Row]:
        mask = (self._domains == domain) | (domain == ALL_DOMAINS)
        for name, values in self._references.items():
            rate, chunks = _reference_cell(name, self.problem.windows)
            yield self._row(name, domain, mask, rate, chunks, values, None)
        for position, column in enumerate(self.columns):
            best = self._best_heuristic(mask, position)
            for name in dict.fromkeys(name for name, _ in scores):
                row = self._row(
                    name,
                    domain,
                    mask,
                    column.compression_rate,
                    column.chunks,
                    scores[name, position],
                    best,
                )
                if self.oracle is not None:
                    row["sees_output"] = name in self.oracle.names
                    bounds = [self._bounds[bound, position] for bound in self.oracle.names]
                    row |= gap_shares(
                        scores[name, position][mask],
                        scores["random", position][mask] if self._has_random() else None,
                        [bound[mask] for bound in bounds],
                        self._document_ids[mask].tolist(),
                        seed=self.seed,
                        resamples=self.resamples,
                    )
                yield row

    def _has_random(self) -> bool:
        return any(heuristic.name == "random" for heuristic in self.heuristics)

    def _best_heuristic(self, mask: NDArray[np.bool_], position: int) -> Scores | None:
        candidates = [self._heuristic_scores[h.name, position] for h in self.heuristics]
        return min(candidates, key=lambda values: float(values[mask].mean()), default=None)

    def _row(
        self,
        name: str,
        domain: str,
        mask: NDArray[np.bool_],
        compression_rate: float | None,
        budget: int | None,
        values: Scores,
        best: Scores | None,
    ) -> Row:
        document_ids = self._document_ids[mask].tolist()
        level = self._interval(values[mask], document_ids)
        delta, p_value = None, None
        if best is not None:
            delta = self._interval((values - best)[mask], document_ids)
            p_value = bootstrap_p_value(
                (values - best)[mask], document_ids, seed=self.seed, resamples=self.resamples
            )
        return Row(
            selector=name,
            domain=domain,
            windows=self.problem.windows.kind,
            compression_rate=compression_rate,
            budget=budget,
            count=int(mask.sum()),
            documents=len(set(document_ids)),
            log_perplexity=level.mean,
            ci_low=level.low,
            ci_high=level.high,
            delta_to_best_heuristic=None if delta is None else delta.mean,
            delta_ci_low=None if delta is None else delta.low,
            delta_ci_high=None if delta is None else delta.high,
            delta_p_value=p_value,
            delta_p_holm=None,
            sees_output=False,
            resampled=resampling_unit(document_ids),
            **NO_SHARES,
        )

    def _interval(self, values: Scores, document_ids: Sequence[str]) -> Interval:
        return bootstrap_mean(values, document_ids, seed=self.seed, resamples=self.resamples)


def _reference_cell(name: str, windows: WindowSource) -> tuple[float | None, int | None]:
    """Return (compression rate, expanded chunks) of a reference row."""
    if name == "compressed":
        return float(windows.chunk_size), 0
    if name == "full_context":
        return 1.0, windows.num_chunks
    return None, None
