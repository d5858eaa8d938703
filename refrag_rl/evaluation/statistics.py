"""Means with bootstrap intervals over documents.

Windows of one document resemble each other, so an interval over windows is too narrow. Documents
are resampled instead, each with all of its windows (a clustered bootstrap). Differences between two
selectors are taken window by window first, so that the difficulty of the windows cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

Unit = Literal["documents", "windows"]

MIN_DOCUMENTS = 5
"""With fewer documents than this, windows are resampled: few clusters give no interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its interval.

    Attributes:
        mean: Mean over windows.
        low: Lower end; ``None`` where there is one unit only and nothing can be resampled.
        high: Upper end; ``None`` as ``low``.
    """

    mean: float
    low: float | None
    high: float | None


def resampling_unit(document_ids: Sequence[str]) -> Unit:
    """Return what the intervals of these windows are bootstrapped over.

    Args:
        document_ids: (N,) document of each window.

    Returns:
        ``"documents"``, or ``"windows"`` where there are fewer than ``MIN_DOCUMENTS`` documents.
    """
    return "documents" if len(set(document_ids)) >= MIN_DOCUMENTS else "windows"


def bootstrap_mean(
    values: ArrayLike,
    document_ids: Sequence[str],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> Interval:
    """Return the mean over windows with its percentile bootstrap interval.

    A resample draws documents with replacement and takes the mean over all of their windows: the
    sum of the documents' sums over the sum of their counts. The percentile interval is used because
    it is defined, with width zero, for values that are all equal, where BCa is not.

    Args:
        values: (N,) one finite number a window, N >= 1.
        document_ids: (N,) document of each window.
        seed: The same seed gives the same interval.
        confidence: Share of the distribution inside the interval.
        resamples: How many resamples are drawn.

    Returns:
        The mean and the interval, in the unit of ``values``.

    Raises:
        ValueError: ``values`` is empty, not finite, or not as long as ``document_ids``.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or array.size != len(document_ids):
        raise ValueError(f"values of shape {array.shape} for {len(document_ids)} document ids")
    if not np.isfinite(array).all():
        raise ValueError("values hold NaN or infinity")
    mean = float(array.mean())
    sums, counts = _sums_by_unit(array, document_ids)
    if sums.size == 1:
        return Interval(mean, None, None)
    interval = bootstrap(
        (sums, counts),
        _ratio_of_sums,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        # Resamples are drawn in blocks, so that memory does not grow with the number of windows.
        batch=500,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high))


def _sums_by_unit(
    values: NDArray[np.float64], document_ids: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if resampling_unit(document_ids) == "windows":
        return values, np.ones_like(values)
    _, unit = np.unique(np.asarray(document_ids), return_inverse=True)
    return (
        np.bincount(unit, weights=values).astype(np.float64),
        np.bincount(unit).astype(np.float64),
    )


def _ratio_of_sums(
    sums: NDArray[np.float64], counts: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = sums.sum(axis=axis) / counts.sum(axis=axis)
    return ratio
