"""The files a comparison leaves: ``comparison.json``, ``comparison.csv``, ``comparison.png``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from refrag_rl.atomic import replacing
from refrag_rl.evaluation.interfaces import Row
from refrag_rl.evaluation.plots import comparison_figure

ROWS_FILE = "comparison.json"
LAST_FILE = "comparison.png"
"""Written last: where it is, the comparison is complete."""

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
