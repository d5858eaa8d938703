"""Scores of single windows, as ``refrag_rl.evaluate`` left them, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HEURISTICS, ORACLE = "heuristics", "oracle"
"""What of a cell holds no policies."""

Scores = NDArray[np.float64]


@dataclass
class Cell:
    """What was compared on the same windows at one rate.

    Attributes:
        domain: Of the windows.
        kind: Of the windows, as ``run.sh`` names it.
        rate: Effective compression rate; ``None``: the mean over several.
        windows: (N,) keys.
        documents: (N,) of the windows.
        heuristics: Name -> (N,) nats per token.
        policies: Name of an agent or variant -> (S, n), one row a training seed, of the first n
            windows.
        bounds: ``random`` and the oracle's names -> (M,), of the windows in ``searched``.
        searched: (M,) places of the windows that the oracle searched.
    """

    domain: str
    kind: str
    rate: float | None
    windows: list[str]
    documents: list[str]
    heuristics: dict[str, Scores]
    policies: dict[str, Scores] = field(default_factory=dict)
    bounds: dict[str, Scores] = field(default_factory=dict)
    searched: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def best(self) -> str:
        """The heuristic of the lowest mean."""
        return min(self.heuristics, key=lambda name: float(self.heuristics[name].mean()))


def read_cells(folder: Path) -> list[Cell]:
    """Return the cells of ``folder/DOMAIN/KIND/WHAT.parquet``, by rate.

    Their later windows may be in further files, ``WHAT.FIRST.parquet``: from window FIRST on. A
    file behind windows that are missing is left out; so are cells without heuristics.
    """
    cells = []
    for path in sorted(folder.glob("*/*")):
        names = sorted({part.name.split(".")[0] for part in path.glob("*.parquet")})
        frames = {name: _numbered(_joined(path, name)) for name in names}
        if HEURISTICS in frames:
            for rate in sorted(frames[HEURISTICS].compression_rate.unique(), reverse=True):
                cells.append(_cell(path.parent.name, path.name, float(rate), frames))
    return cells


def _joined(path: Path, name: str) -> pd.DataFrame:
    """Return the windows of all files of one name, as far as there is no gap."""
    first = path / f"{name}.parquet"
    parts = [pd.read_parquet(first)]
    windows = _count(parts[0])
    while (later := path / f"{name}.{windows}.parquet").exists():
        parts.append(pd.read_parquet(later))
        windows += _count(parts[-1])
    return pd.concat(parts, ignore_index=True)


def _count(frame: pd.DataFrame) -> int:
    """Return how many windows each selector was compared on."""
    (count,) = set(frame.groupby(["selector", "budget"]).size())
    return int(count)


def _numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell windows apart that were drawn twice: a number behind their keys.

    All comparisons of a cell draw the same windows in the same order, some of them only the first.
    """
    again = frame.groupby(["selector", "budget", "window"]).cumcount().astype(str)
    return frame.assign(window=frame.window + "#" + again)


def _cell(domain: str, kind: str, rate: float, frames: dict[str, pd.DataFrame]) -> Cell:
    def at_rate(name: str) -> dict[str, pd.Series]:
        frame = frames[name]
        frame = frame[np.isclose(frame.compression_rate, rate)]
        return {
            str(selector): part.set_index("window").log_perplexity
            for selector, part in frame.groupby("selector", sort=False)
        }

    of_heuristics = at_rate(HEURISTICS)
    windows = next(iter(of_heuristics.values())).index
    documents = frames[HEURISTICS].drop_duplicates("window").set_index("window").document
    cell = Cell(
        domain,
        kind,
        rate,
        windows.tolist(),
        documents.loc[windows].tolist(),
        {name: scores.loc[windows].to_numpy() for name, scores in of_heuristics.items()},
    )
    for name in frames:
        found = at_rate(name)
        if name == ORACLE and found:
            searched = next(iter(found.values())).index
            cell.searched = windows.get_indexer(searched)
            if (cell.searched < 0).any():
                raise ValueError(f"{domain}, {kind}: the oracle searched other windows")
            cell.bounds = {key: scores.to_numpy() for key, scores in found.items()}
        elif name != HEURISTICS and found:
            # Windows that are missing raise: policies are compared on the same ones or not at all.
            compared = windows[: len(next(iter(found.values())))]
            rows = [scores.loc[compared].to_numpy() for scores in found.values()]
            cell.policies[name] = np.stack(rows)
    return cell
