"""Several training seeds of one agent: what to say of the agent and not of one lucky seed.

1. The interquartile mean over the seeds is the level: the mean of the middle half, which one failed
   or lucky seed of four or more moves no further than to the next one's (Agarwal et al. 2021,
   arXiv 2108.13264, section 4.3); of fewer it is the mean of all.
2. Its interval resamples both, seeds and documents: the same windows are scored under every seed,
   so the two are crossed, and each is drawn independently of the other (the pigeonhole bootstrap,
   Owen 2007, arXiv 0712.1111). It errs on the wide side where documents matter most, and few seeds
   that differ much make it too narrow, and p-values too small: 5 of them hold the true level in
   0.89 of cases in place of 0.95, two in 0.51 (``experiments/selection/coverage.py``).
3. Of two agents both sets of seeds are resampled, each for itself, and the documents they share.
   Where each run of one went on from a run of the other, their difference is one run's: it is
   taken run by run, and what has one interval is the interquartile mean of the differences.
4. The probability of improvement says how often a run of one agent beats a run of another (the
   paper's section 4.3). One run is scored in all cells, so a resample draws runs once for all of
   them: drawn anew in each cell, as where every task has runs of its own, the interval would take
   many cells for many runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import trim_mean

from refrag_rl.evaluation.statistics import (
    Interval,
    p_value_of,
    percentile_interval,
    ratio_interval,
    sums_by_unit,
)

TRIMMED = 0.25
"""Share of the seeds left out at each end by the interquartile mean."""

BLOCK = 500
"""Resamples drawn at once: bounds the memory."""


def interquartile_mean(
    values: ArrayLike,
    document_ids: Sequence[str],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> Interval:
    """Return the interquartile mean over training seeds of their means over windows.

    Args:
        values: (S, N) of each training seed on each window, such as paired differences to one
            heuristic; finite.
        document_ids: (N,) document of each window.
        seed: Of the resampling; the same seed gives the same interval.
        confidence: Share of the distribution inside the interval.
        resamples: How many resamples are drawn.

    Returns:
        The level and its percentile interval over seeds and documents; without ends where there is
        one seed or one document only.

    Raises:
        ValueError: ``values`` is empty, not finite, or does not fit ``document_ids``.
    """
    return interquartile_test(
        values, document_ids, seed=seed, confidence=confidence, resamples=resamples
    )[0]


def interquartile_difference(
    first: ArrayLike,
    second: ArrayLike,
    document_ids: Sequence[str],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> Interval:
    """Return how much one agent's interquartile mean is above another's, on the same windows.

    Args:
        first: (S, N) of each training seed on each window; finite.
        second: (R, N) of the other agent's seeds.
        document_ids: (N,) document of each window.
        seed: Of the resampling; the same seed gives the same interval.
        confidence: Share of the distribution inside the interval.
        resamples: How many resamples are drawn.

    Returns:
        The difference and its percentile interval over both agents' seeds and the documents;
        without ends where there is one seed of an agent or one document only.

    Raises:
        ValueError: An array is empty, not finite, or does not fit ``document_ids``.
    """
    arrays = [_checked(values, document_ids) for values in (first, second)]
    difference = _level(arrays[0]) - _level(arrays[1])
    resampled = _resampled_levels(arrays, document_ids, seed, resamples)
    if resampled is None:
        return Interval(difference, None, None)
    return percentile_interval(difference, resampled[0] - resampled[1], confidence)


def interquartile_test(
    values: ArrayLike,
    document_ids: Sequence[str],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> tuple[Interval, float | None]:
    """Return the interquartile mean and the two-sided p-value of its being 0, of one resampling.

    Arguments and errors as ``interquartile_mean``. The p-value is from its resamples as that of
    ``bootstrap_test``; to be adjusted by ``holm`` where a
    claim is made of several cells. ``None`` where nothing can be resampled.
    """
    array = _checked(values, document_ids)
    resampled = _resampled_levels([array], document_ids, seed, resamples)
    if resampled is None:
        return Interval(_level(array), None, None), None
    units = len(sums_by_unit(array[0], document_ids)[0])
    interval = percentile_interval(_level(array), resampled[0], confidence)
    return interval, p_value_of(resampled[0], units)


def interquartile_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    document_ids: Sequence[str],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> Interval | None:
    """Return the ratio of the seeds' interquartile mean to a mean over the same windows.

    For shares of a gap, as ``bootstrap_ratio``, of several training seeds.

    Args:
        numerators: (S, N) of each training seed on each window; finite.
        denominators: (N,) finite.
        document_ids: (N,) document of each window.
        seed: Of the resampling; the same seed gives the same interval.
        confidence: Share of the distribution inside the interval.
        resamples: How many resamples are drawn.

    Returns:
        The ratio and its percentile interval over seeds and documents; without ends where there is
        one seed or one document only, or where the resampled denominators are not all above 0.
        ``None`` where the mean denominator is not above 0: there is no gap to share.

    Raises:
        ValueError: An array is empty, not finite, or does not fit ``document_ids``.
    """
    above = _checked(numerators, document_ids)
    below = _checked(np.asarray(denominators)[None], document_ids)
    if below.mean() <= 0:
        return None
    ratio = _level(above) / float(below.mean())
    # The denominators once a seed: that all of these are equal leaves the documents' resampling.
    resampled = _resampled_levels(
        [above, np.repeat(below, len(above), axis=0)], document_ids, seed, resamples
    )
    if resampled is None:
        return Interval(ratio, None, None)
    return ratio_interval(ratio, resampled[0], resampled[1], confidence)


def _level(values: NDArray[np.float64]) -> float:
    return float(trim_mean(values.mean(axis=1), TRIMMED))


def _checked(values: ArrayLike, document_ids: Sequence[str]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or array.shape[1] != len(document_ids):
        raise ValueError(f"values of shape {array.shape} for {len(document_ids)} document ids")
    if not np.isfinite(array).all():
        raise ValueError("values hold NaN or infinity")
    return array


def _resampled_levels(
    agents: Sequence[NDArray[np.float64]],
    document_ids: Sequence[str],
    seed: int,
    resamples: int,
) -> NDArray[np.float64] | None:
    """Return interquartile means of resampled seeds and documents, (A, R) of A agents.

    Each agent's seeds are drawn for themselves, the documents are the same for all. None where
    there is one seed of an agent, or one document.
    """
    units = [[sums_by_unit(row, document_ids) for row in values] for values in agents]
    sums = [np.stack([of_row for of_row, _ in of_agent]) for of_agent in units]
    counts = units[0][0][1]
    documents = len(counts)
    if min(documents, *(len(of_agent) for of_agent in sums)) == 1:
        return None
    rng = np.random.default_rng(seed)
    levels: list[list[NDArray[np.float64]]] = [[] for _ in agents]
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        weights = rng.multinomial(documents, np.full(documents, 1 / documents), size=size)
        for of_agent, found in zip(sums, levels, strict=True):
            means = (weights @ of_agent.T) / (weights @ counts)[:, None]
            drawn = rng.integers(len(of_agent), size=(size, len(of_agent)))
            found.append(trim_mean(np.take_along_axis(means, drawn, axis=1), TRIMMED, axis=1))
    return np.stack([np.concatenate(found) for found in levels])


def probability_of_improvement(
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> Interval:
    """Return the probability that a run of one agent is better than a run of another.

    ``P(X > Y)`` averaged over the cells, ties counted as one half (Agarwal et al. 2021, section
    4.3: the Mann-Whitney statistic over the number of pairs). Better is a lower log-perplexity.

    Args:
        first: (S, C) log-perplexity of each run (training seed) in each cell (domain, kind of
            windows, rate), nats per token.
        second: (R, C) of the other agent's runs in the same cells.
        seed: Of the resampling; the same seed gives the same interval.
        confidence: Share of the distribution inside the interval.
        resamples: How many resamples are drawn.

    Returns:
        The probability and its percentile interval over runs; without ends where an agent has one
        run only.

    Raises:
        ValueError: An array is empty or not finite, or the cells differ in number.
    """
    ours, theirs = (np.asarray(values, dtype=np.float64) for values in (first, second))
    fits = ours.ndim == theirs.ndim == 2 and ours.shape[1:] == theirs.shape[1:]
    if not fits or ours.size == 0 or theirs.size == 0:
        raise ValueError(f"runs of shapes {ours.shape} and {theirs.shape}: give (runs, cells)")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("values hold NaN or infinity")
    wins = (ours[:, None] < theirs[None]) + 0.5 * (ours[:, None] == theirs[None])
    of_pairs = wins.mean(axis=2)
    level = float(of_pairs.mean())
    if min(of_pairs.shape) == 1:
        return Interval(level, None, None)
    rng = np.random.default_rng(seed)
    rows, columns = (
        rng.multinomial(runs, np.full(runs, 1 / runs), size=resamples) / runs
        for runs in of_pairs.shape
    )
    levels = np.einsum("ri,ij,rj->r", rows, of_pairs, columns)
    return percentile_interval(level, levels, confidence)
