"""The share of the gap between random selection and the oracle that a selector closes.

``(random - selector) / (random - oracle)``, means over the windows of a cell: 0 is what chance
brings, 1 is the bound. Against the raw oracle it is too low for every selector, because the raw
oracle fits the noise of each output; against the split-half correction it may pass 1 by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from refrag_rl.evaluation.statistics import Interval, bootstrap_ratio

Scores = NDArray[np.float64]


class GapShares(TypedDict):
    """The keys of ``Row`` that ``gap_shares`` gives, as explained there."""

    gap_closed: float | None
    gap_closed_low: float | None
    gap_closed_high: float | None
    gap_closed_split_half: float | None
    gap_closed_split_half_low: float | None
    gap_closed_split_half_high: float | None


NO_SHARES = GapShares(
    gap_closed=None,
    gap_closed_low=None,
    gap_closed_high=None,
    gap_closed_split_half=None,
    gap_closed_split_half_low=None,
    gap_closed_split_half_high=None,
)
"""Of rows without an oracle to compare with."""


def gap_shares(
    scores: Scores,
    random: Scores | None,
    bounds: Sequence[Scores],
    document_ids: Sequence[str],
    *,
    seed: int,
    resamples: int,
) -> GapShares:
    """Return the shares that a selector closes of the gap to the oracle, raw and corrected.

    Args:
        scores: (N,) of the selector, nats per token.
        random: (N,) of random selection; None, where it was not compared, gives no shares.
        bounds: The oracle's, raw and corrected, (N,) each.
        document_ids: (N,) document of each window.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    raw, corrected = (
        None
        if random is None
        else bootstrap_ratio(
            random - scores, random - bound, document_ids, seed=seed, resamples=resamples
        )
        for bound in bounds
    )
    return GapShares(
        gap_closed=_level(raw),
        gap_closed_low=None if raw is None else raw.low,
        gap_closed_high=None if raw is None else raw.high,
        gap_closed_split_half=_level(corrected),
        gap_closed_split_half_low=None if corrected is None else corrected.low,
        gap_closed_split_half_high=None if corrected is None else corrected.high,
    )


def _level(share: Interval | None) -> float | None:
    return None if share is None else share.mean
