"""Several claims at once: p-values that hold for all of them together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refrag_rl.evaluation.interfaces import Row


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted by Holm's step-down method.

    Rejecting where the adjusted value is at most ``alpha`` keeps the probability of any false
    rejection at most ``alpha``, however the tests depend on each other (Holm 1979, Scandinavian
    Journal of Statistics 6, 65-70). With ``m`` values in rising order, the ``i``-th of them, from
    1, becomes the largest of ``(m - j + 1) p_j`` over ``j <= i``, and at most 1.

    Args:
        p_values: (m,) from 0 to 1.

    Returns:
        (m,) in the order given.

    Raises:
        ValueError: A value is outside 0 to 1, or they are not in one row.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values {values.tolist()}: give a row of numbers from 0 to 1")
    order = np.argsort(values, kind="stable")
    steps = (values.size - np.arange(values.size)) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def adjust_p_values(rows: Sequence[Row]) -> None:
    """Fill in each selector's p-values, adjusted over its cells."""
    cells: dict[str, list[tuple[Row, float]]] = {}
    for row in rows:
        if row["delta_p_value"] is not None:
            cells.setdefault(row["selector"], []).append((row, row["delta_p_value"]))
    for of_selector in cells.values():
        adjusted = holm([p_value for _, p_value in of_selector])
        for (row, _), value in zip(of_selector, adjusted.tolist(), strict=True):
            row["delta_p_holm"] = value
