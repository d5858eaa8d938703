"""The files a comparison leaves: ``comparison.json``, ``.csv``, ``.png``; the scores it is from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from refrag_rl.atomic import replacing
from refrag_rl.evaluation.interfaces import Row, WindowScore
from refrag_rl.evaluation.plots import comparison_figure

ROWS_FILE = "comparison.json"
LAST_FILE = "comparison.png"
"""Written last: where it is, the comparison is complete."""

SCORES_FILE = "window_scores.parquet"

COLUMNS: tuple[str, ...] = tuple(Row.__annotations__)


def write_comparison(folder: Path, rows: Sequence[Row], highlighted: Iterable[str] = ()) -> None:
    """Write the three files into a folder that exists.

    Args:
        folder: Where to.
        rows: Rows of a comparison; missing values are ``null`` in JSON and empty in CSV.
        highlighted: Selectors drawn thick, such as the policy just trained.

    Raises:
        ValueError: A row holds NaN or infinity, which JSON cannot hold.
    """
    text = json.dumps(list(rows), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / ROWS_FILE).write_text(text + "\n", encoding="utf-8")
    with (folder / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with replacing(folder / LAST_FILE) as fresh:
        comparison_figure(rows, highlighted).savefig(fresh, format="png")


def write_window_scores(folder: Path, scores: Sequence[WindowScore]) -> None:
    """Write the scores of single windows, for statistics over several comparisons or seeds."""
    # Imported here: only this file needs it, and it is large.
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dict(score) for score in scores]), folder / SCORES_FILE)
