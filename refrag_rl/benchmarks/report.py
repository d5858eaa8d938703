"""The rows of a measurement as a table of at most 80 columns and as ``benchmark.json``.

Measurements that take long write the rows they have: one that is stopped leaves those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refrag_rl.atomic import write_text
from refrag_rl.run_folder import create_run_folder, shown

ROWS_FILE = "benchmark.json"


class Column(NamedTuple):
    """One column of the table.

    Attributes:
        title: Heads the column.
        key: Of the row.
        form: Python format of the value.
        scale: What a number is multiplied by first, to be shown in another unit.
    """

    title: str
    key: str
    form: str
    scale: float | None = None

    def text(self, row: Mapping[str, Any]) -> str:
        """Return a row's value as it is shown; ``-`` where it has none."""
        value = row[self.key]
        if value is None:
            return "-"
        return self.form.format(value if self.scale is None else value * self.scale)


def write_rows(
    rows: Sequence[Mapping[str, Any]], folder: Path, config: DictConfig, *, command: str
) -> None:
    """Write ``benchmark.json``, and the run's folder where there is none yet.

    Args:
        rows: Of the measurement, so far.
        folder: From ``choose_run_folder``.
        config: Of the run.
        command: Stands in ``metadata.json``.

    Raises:
        UserError: The folder cannot be made.
    """
    if not (folder / ROWS_FILE).exists():
        create_run_folder(folder, config, command=command)
    write_text(folder / ROWS_FILE, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def finish(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    folder: Path,
    config: DictConfig,
    *,
    command: str,
    title: str,
    note: str,
) -> None:
    """Write all rows, and print the table.

    Args:
        rows: Of the measurement.
        columns: Of the table.
        folder: From ``choose_run_folder``.
        config: Of the run.
        command: Stands in ``metadata.json``.
        title: Above the table.
        note: Below it.

    Raises:
        UserError: The folder cannot be made.
    """
    write_rows(rows, folder, config, command=command)
    table = Table(
        title=Text(title),
        title_justify="left",
        caption=Text(note),
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(column.text(row) for column in columns))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"results: {shown(folder)}", soft_wrap=True, markup=False)
