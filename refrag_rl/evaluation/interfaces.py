"""What evaluation asks of the others, and the row that it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.evaluation.statistics import Unit
from refrag_rl.observation import Inputs, Observation

REFERENCES: tuple[str, ...] = ("no_context", "last_tokens", "compressed", "full_context")
"""Rows of a comparison that are no selection."""


class Selector(Protocol):
    """What evaluation knows of an agent or a heuristic."""

    name: str

    def select(
        self,
        observation: Observation,
        budget: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.bool_]:
        """Return the expanded chunks (B, L), ``budget`` (B,) of them a row."""
        ...


class ScoredProblem(Protocol):
    """What evaluation knows of ``refrag_rl.envs.problem.ExpansionProblem``."""

    @property
    def windows(self) -> WindowSource:
        """The windows."""
        ...

    def observe(
        self,
        indices: NDArray[np.int64],
        budgets: NDArray[np.int64] | None = None,
        inputs: Inputs | None = None,
    ) -> Observation:
        """Return the observations of windows (B,) with budgets (B,), nothing expanded."""
        ...

    def chunk_masks(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (B, L), true for the chunks that hold text."""
        ...

    def log_perplexity(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return (B,) nats per token of windows (B,) with chunks ``expanded`` (B, L)."""
        ...


class PlainDecoder(Protocol):
    """What evaluation knows of ``refrag_rl.reward.RewardModel``."""

    def log_perplexity_of_last_tokens(
        self, windows: Sequence[Window], tokens: int
    ) -> NDArray[np.float32]:
        """Return (B,) nats per token with the last ``tokens`` of the context and nothing else."""
        ...


class Bound(Protocol):
    """What evaluation knows of ``refrag_rl.agents.oracle.Oracle``: what no selector can beat.

    Attributes:
        names: Of its rows: the bound as it is, and corrected for what it fits to noise.
    """

    names: tuple[str, str]

    def log_perplexity(
        self, indices: NDArray[np.int64], budgets: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return (B,) nats per token for each name, of windows (B,) with budgets (B,)."""
        ...


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Attributes:
        compression_rate: The effective compression rate that was asked for; a whole number of
            chunks makes one that is near it (2 of 32 chunks of 16 tokens for 8: 8.26). Of a column
            that is given in chunks: theirs, in a full window.
        chunks: Expanded chunks in a full window.
        chunks_of: Gives the budgets (B,) of windows with that many chunks of text (B,).
    """

    compression_rate: float
    chunks: int
    chunks_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]


class Row(TypedDict):
    """One row of ``comparison.json``.

    Attributes:
        selector: Name of the selector or of the reference.
        domain: Domain of the windows, or ``all`` where there are several.
        windows: Kind of the windows.
        compression_rate: As of ``Column``; ``None`` where nothing is compressed because context is
            left out.
        budget: Expanded chunks in a full window; ``None`` as above.
        count: Windows.
        documents: Documents they come from.
        log_perplexity: Mean, nats per token.
        ci_low: Lower end of its 95 % interval; ``None`` with one window.
        ci_high: Upper end.
        delta_to_best_heuristic: Mean paired difference, nats per token; below 0 is better than the
            best heuristic of the domain and budget. That is the best on these windows, so a little
            lucky: of selectors that are alike in truth, the others look worse. ``None`` in
            reference rows and where no heuristic was compared.
        delta_ci_low: Lower end of its 95 % interval.
        delta_ci_high: Upper end.
        delta_p_value: Two-sided, of a mean difference of 0; ``None`` as the interval.
        delta_p_holm: The same, adjusted by Holm's method over all cells (domain and budget) of
            this selector in the comparison: below 0.05 in several cells, the difference is there
            in every one of them.
        sees_output: Whether the row is a bound that chose by the output itself: no competitor.
        resampled: What the intervals are bootstrapped over.
        gap_closed: Share of the gap between ``random`` (0) and the oracle (1) that the selector
            closes, ratio of means; negative where it is worse than random. ``None`` where there is
            no gap, and, like all keys below, where no oracle was compared with.
        gap_closed_low: Lower end of its 95 % interval; ``None`` where it has none.
        gap_closed_high: Upper end.
        gap_closed_split_half: The same against the oracle's split-half correction.
        gap_closed_split_half_low: Lower end of its 95 % interval.
        gap_closed_split_half_high: Upper end.
    """

    selector: str
    domain: str
    windows: str
    compression_rate: float | None
    budget: int | None
    count: int
    documents: int
    log_perplexity: float
    ci_low: float | None
    ci_high: float | None
    delta_to_best_heuristic: float | None
    delta_ci_low: float | None
    delta_ci_high: float | None
    delta_p_value: float | None
    delta_p_holm: float | None
    sees_output: bool
    resampled: Unit
    gap_closed: float | None
    gap_closed_low: float | None
    gap_closed_high: float | None
    gap_closed_split_half: float | None
    gap_closed_split_half_low: float | None
    gap_closed_split_half_high: float | None


class WindowScore(TypedDict):
    """One row of ``window_scores.parquet``: what differences and intervals are computed from.

    Attributes:
        selector: Name of the selector or of the bound.
        budget: Expanded chunks in a full window.
        compression_rate: As of ``Column``.
        window: Key of the window.
        document: The document it comes from.
        domain: Of the document.
        log_perplexity: Nats per token.
    """

    selector: str
    budget: int
    compression_rate: float
    window: str
    document: str
    domain: str
    log_perplexity: float
