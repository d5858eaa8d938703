"""From scores to the rows of a comparison: means, differences to the best heuristic, intervals.

1. Per domain and budget, a row is a selector's mean log-perplexity with its interval, and the mean
   of its window-by-window differences to the best heuristic there with theirs.
2. The best heuristic of a cell is the one with the lowest mean over the cell's windows.
3. Reference rows stand once a domain.
4. With an oracle, its bounds are rows too, marked by ``sees_output``, and each selection says which
   share of the gap between ``random`` and them it closes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.errors import UserError
from refrag_rl.evaluation.gap import NO_SHARES, gap_shares
from refrag_rl.evaluation.interfaces import Column, Row
from refrag_rl.evaluation.multiplicity import adjust_p_values
from refrag_rl.evaluation.statistics import (
    bootstrap_mean,
    bootstrap_test,
    resampling_unit,
)

ALL_DOMAINS = "all"

Scores = NDArray[np.float64]
"""(N,) log-perplexities, nats per token, one a window."""


class _Cell(NamedTuple):
    """Where a row stands.

    Attributes:
        domain: Its name.
        mask: (N,) bool, the windows of the domain.
        compression_rate: Effective, of a reference or a column.
        budget: In chunks.
    """

    domain: str
    mask: NDArray[np.bool_]
    compression_rate: float | None
    budget: int | None


class Rows:
    """Makes the rows of comparisons on the same windows at the same budgets.

    Args:
        source: Says of which kind and shape the windows are.
        windows: All of them.
        columns: Budgets that are compared.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        UserError: One domain of several has the name of all of them.
    """

    def __init__(
        self,
        source: WindowSource,
        windows: Sequence[Window],
        columns: Sequence[Column],
        *,
        seed: int,
        resamples: int,
    ) -> None:
        self._source = source
        self._columns = columns
        self._bootstrap = {"seed": seed, "resamples": resamples}
        self._document_ids = np.array([window.document_id for window in windows])
        self._domains = np.array([window.domain for window in windows])
        if ALL_DOMAINS in self._domains and (self._domains != ALL_DOMAINS).any():
            raise UserError(
                f"the name {ALL_DOMAINS} of a domain is that of all domains together; "
                "rename the file or the rows' domain"
            )

    def of(
        self,
        references: Mapping[str, Scores],
        scores: Mapping[tuple[str, int], Scores],
        *,
        heuristics: Sequence[str],
        bounds: Sequence[str] | None,
    ) -> list[Row]:
        """Return per domain the references, then per budget all that was scored.

        Args:
            references: By name.
            scores: By name and position of the budget in the columns; those of heuristics and
                bounds among them.
            heuristics: Names of those that the others are compared with.
            bounds: Names of the oracle's rows; ``None`` without one.
        """
        rows: list[Row] = []
        for domain in self._domain_names():
            rows += self._references(domain, references)
            for position, column in enumerate(self._columns):
                at_budget = {name: found for (name, at), found in scores.items() if at == position}
                rows += self._selections(domain, column, at_budget, heuristics, bounds)
        adjust_p_values(rows)
        return rows

    def _domain_names(self) -> list[str]:
        names = sorted(set(self._domains.tolist()))
        return names if len(names) == 1 else [*names, ALL_DOMAINS]

    def _mask(self, domain: str) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = (self._domains == domain) | (domain == ALL_DOMAINS)
        return mask

    def _references(self, domain: str, references: Mapping[str, Scores]) -> Iterator[Row]:
        for name, values in references.items():
            rate, chunks = _reference_cell(name, self._source)
            yield self._row(name, _Cell(domain, self._mask(domain), rate, chunks), values, None)

    def _selections(
        self,
        domain: str,
        column: Column,
        scores: Mapping[str, Scores],
        heuristics: Sequence[str],
        bounds: Sequence[str] | None,
    ) -> Iterator[Row]:
        """Give the rows of one domain and budget."""
        mask = self._mask(domain)
        cell = _Cell(domain, mask, column.compression_rate, column.chunks)
        candidates = [scores[name] for name in heuristics]
        best = min(candidates, key=lambda values: float(values[mask].mean()), default=None)
        for name, values in scores.items():
            row = self._row(name, cell, values, best)
            if bounds is not None:
                row["sees_output"] = name in bounds
                row |= gap_shares(
                    values[mask],
                    scores["random"][mask] if "random" in heuristics else None,
                    [scores[bound][mask] for bound in bounds],
                    self._document_ids[mask].tolist(),
                    **self._bootstrap,
                )
            yield row

    def _row(self, name: str, cell: _Cell, values: Scores, best: Scores | None) -> Row:
        document_ids = self._document_ids[cell.mask].tolist()
        level = bootstrap_mean(values[cell.mask], document_ids, **self._bootstrap)
        delta, p_value = None, None
        if best is not None:
            lead = (values - best)[cell.mask]
            delta, p_value = bootstrap_test(lead, document_ids, **self._bootstrap)
        return Row(
            selector=name,
            domain=cell.domain,
            windows=self._source.kind,
            compression_rate=cell.compression_rate,
            budget=cell.budget,
            count=int(cell.mask.sum()),
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


def _reference_cell(name: str, windows: WindowSource) -> tuple[float | None, int | None]:
    """Return (compression rate, expanded chunks) of a reference row."""
    if name == "compressed":
        return float(windows.chunk_size), 0
    if name == "full_context":
        return 1.0, windows.num_chunks
    return None, None
