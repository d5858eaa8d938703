"""The paper's curriculum: short data points first, long ones later.

Source: arXiv 2509.01092, B.3, Table 8. For each number of chunks ``1, 2, 4, ..., L``, the
numbers of data points over the stages are a geometric sequence that is given by its first term and
its total; it falls for the short ones and rises for the long ones. The first terms fall by a factor
of four from size to size, and are 1 or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from refrag_rl.errors import UserError

STAGES = 9
"""Of the paper's Table 8."""
FIRST_TERM, FIRST_TERM_FALL = 1333, 4
"""First term of the shortest row of Table 8, and over that of the row after it."""


def geometric_counts(first: float, total: float, stages: int) -> NDArray[np.float64]:
    """Return the geometric sequence with a first term, a sum and a number of terms.

    Args:
        first: First term, ``0 < first <= total``.
        total: Sum of the terms.
        stages: Number of terms.

    Returns:
        (stages,) terms, not rounded.

    Raises:
        ValueError: There is no such sequence.
    """
    if not 0 < first <= total or stages < 1:
        raise ValueError(
            f"no geometric sequence of {stages} terms starts at {first} and sums to {total}"
        )
    if stages == 1:
        if not math.isclose(first, total):
            raise ValueError(f"one term of {first} does not sum to {total}")
        return np.array([total], np.float64)
    exponents = np.arange(stages)
    if math.isclose(first, total):
        return np.where(exponents == 0, float(total), 0.0)

    def excess(ratio: float) -> float:
        return float(np.sum(first * ratio**exponents) - total)

    upper = (total / first) ** (1 / (stages - 1)) + 1
    ratio = brentq(excess, 0.0, upper, xtol=1e-14)
    return first * ratio**exponents


def data_point_sizes(num_chunks: int, shortest: int = 1) -> list[int]:
    """Return the sizes of data points in chunks: 1, 2, 4, ... up to ``L``, ``L`` included.

    Args:
        num_chunks: ``L``.
        shortest: Sizes below it are left out.
    """
    sizes = {2**power for power in range(num_chunks.bit_length())} | {num_chunks}
    return sorted(size for size in sizes if shortest <= size <= num_chunks)


def curriculum_table(
    totals: Sequence[float], stages: int, first_terms: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Return the numbers of data points per size and stage.

    Args:
        totals: (sizes,) data points of each size over all stages, shortest first.
        stages: Number of stages.
        first_terms: (sizes,) data points of each size in the first stage. Default: the paper's
            1333, 333, 83, 20, 5, 1, 1, ...

    Returns:
        (sizes, stages) counts, not rounded; each row sums to its total.
    """
    if first_terms is None:
        first_terms = [max(FIRST_TERM // FIRST_TERM_FALL**place, 1) for place in range(len(totals))]
    return np.stack(
        [
            geometric_counts(first, total, stages)
            for first, total in zip(first_terms, totals, strict=True)
        ]
    )


class Curriculum:
    """The mix of data-point sizes at each moment of a training stage.

    1. Batches of so many windows follow the table: each of its stages lasts for its share of all
       data points, and within it the sizes get batches in proportion to their data points.
    2. Batches of so many decoder positions do so within a stage only: all stages last equally long,
       though the later ones of the table hold many times the tokens of the first. A departure from
       the table, which gives short data points more of the training than the paper does; the
       embedded checkpoints were trained so.
    3. One stage is no curriculum: the sizes of nine stages in the same mix, but in no order.

    Args:
        num_chunks: ``L``, chunks of the longest data point.
        totals: Data points per size; default: as in Table 8, the longer sizes more often.
        stages: Number of stages; 1 turns the curriculum off.
        min_chunks: Chunks of the shortest data point.

    Attributes:
        sizes: Data-point sizes in chunks.

    Raises:
        UserError: There is no chunk or no stage, or the shortest data point is the longer one.
    """

    def __init__(
        self,
        num_chunks: int,
        totals: Sequence[float] | None = None,
        stages: int = 9,
        min_chunks: int = 1,
    ) -> None:
        if not 1 <= min_chunks <= num_chunks or stages < 1:
            raise UserError(
                f"min_chunks={min_chunks} max_chunks={num_chunks} curriculum_stages={stages}: give "
                "1 or more of each, and min_chunks no larger than max_chunks."
            )
        self.sizes = data_point_sizes(num_chunks, min_chunks)
        if totals is None:
            totals = [
                2000.0 * 2 ** (3 * place // len(self.sizes)) for place in range(len(self.sizes))
            ]
        if len(totals) != len(self.sizes):
            raise ValueError(f"{len(totals)} totals for {len(self.sizes)} sizes {self.sizes}")
        self._has_order = stages > 1
        self._table = curriculum_table(totals, stages if self._has_order else STAGES)

    def shares_of_windows(self, progress: float) -> NDArray[np.float64]:
        """Return each size's share of the batches, (sizes,), where all have as many windows.

        Args:
            progress: Share of the training done, from 0 (inclusive) to 1 (exclusive).
        """
        if not self._has_order:
            totals: NDArray[np.float64] = self._table.sum(axis=1)
            return totals / totals.sum()
        data_points = self._table.sum(axis=0)
        ends = np.cumsum(data_points) / data_points.sum()
        stage = min(int(np.searchsorted(ends, progress, side="right")), len(ends) - 1)
        return self._table[:, stage] / data_points[stage]

    def shares_of_positions(
        self, progress: float, lengths: Sequence[float] | None = None
    ) -> NDArray[np.float64]:
        """Return each size's share of the batches, (sizes,), where all read as many positions.

        Args:
            progress: Share of the training done, from 0 (inclusive) to 1 (exclusive).
            lengths: (sizes,) decoder positions of a data point of each size; default: in proportion
                to its chunks.
        """
        tokens = self._table * np.array(self.sizes if lengths is None else lengths)[:, None]
        shares = tokens / tokens.sum(axis=0)
        if not self._has_order:
            return shares.mean(axis=1)
        stages = shares.shape[1]
        return shares[:, min(int(progress * stages), stages - 1)]
