"""The gains measured so far: they stay true while the policy that is fitted to them changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refrag_rl.agents.gains import Gains, join_gains

_MOST_CHUNKS = 2**20
"""Of a window; more would be a damaged file."""


class GainHistory:
    """Measured gains, window by window, to be drawn from again."""

    def __init__(self) -> None:
        self._windows: list[Gains] = []

    def __len__(self) -> int:
        """Return how many windows were measured, repetitions counted."""
        return len(self._windows)

    def __iter__(self) -> Iterator[Gains]:
        """Give the gains of each window, in the order in which they were measured."""
        return iter(self._windows)

    def add(self, measured: Gains) -> None:
        """Keep the gains of an update."""
        for row in range(len(measured.indices)):
            here = measured.rows == row
            window = slice(row, row + 1)
            self._windows.append(
                Gains(
                    measured.indices[window],
                    measured.budgets[window],
                    measured.bases[window],
                    np.zeros(int(here.sum()), dtype=np.int64),
                    measured.chunks[here],
                    measured.gains[here],
                    scored=0,
                )
            )

    def draw(self, windows: int, rng: np.random.Generator) -> Gains:
        """Return the gains of windows drawn without repetition, at most as many as there are."""
        count = min(windows, len(self._windows))
        drawn = rng.choice(len(self._windows), count, replace=False)
        return join_gains([self._windows[i] for i in drawn])

    def to_json(self) -> list[dict[str, Any]]:
        """Return what JSON can hold, a window each; ``from_json`` reads it back to the bit."""
        return [
            {
                "index": int(each.indices[0]),
                "budget": int(each.budgets[0]),
                "chunks_of_window": int(each.bases.shape[1]),
                "base": np.flatnonzero(each.bases[0]).tolist(),
                "chunks": each.chunks.tolist(),
                "gains": each.gains.tolist(),
            }
            for each in self._windows
        ]

    @classmethod
    def from_json(cls, kept: object) -> GainHistory:
        """Make a history of what ``to_json`` returned.

        Raises:
            ValueError: It is something else.
        """
        if not isinstance(kept, list):
            raise ValueError(f"its gains are {type(kept).__name__}, no list")
        history = cls()
        history._windows = [_window(entry) for entry in kept]
        return history


def _window(kept: object) -> Gains:
    """Return the gains of a window, or raise ``ValueError``."""
    entry: Mapping[str, Any] = kept if isinstance(kept, dict) else {}
    size: Any = entry.get("chunks_of_window")
    gains: Any = entry.get("gains")
    whole = [entry.get("index"), entry.get("budget")]
    if (
        type(size) is not int
        or not 0 < size <= _MOST_CHUNKS
        or not all(type(value) is int and 0 <= value < 2**40 for value in whole)
        or not all(_are_chunks(entry.get(name), size) for name in ("base", "chunks"))
        or not isinstance(gains, list)
        or not all(isinstance(gain, float) and math.isfinite(gain) for gain in gains)
        or len(gains) != len(entry["chunks"])
    ):
        raise ValueError(f"its gains hold {str(kept)[:80]}")
    base = np.zeros((1, size), dtype=np.bool_)
    base[0, entry["base"]] = True
    return Gains(
        indices=np.array([entry["index"]], dtype=np.int64),
        budgets=np.array([entry["budget"]], dtype=np.int64),
        bases=base,
        rows=np.zeros(len(gains), dtype=np.int64),
        chunks=np.array(entry["chunks"], dtype=np.int64),
        gains=np.array(gains, dtype=np.float64),
        scored=0,
    )


def _are_chunks(values: object, size: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < size for v in values)
