"""Write the tables of README.md and RL.md from the JSON files of a folder.

    python experiments/selection/pages.py FOLDER

Each table stands between ``<!-- table: NAME -->`` and ``<!-- end: NAME -->``. In another folder
than this one, copies of the two pages are filled.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import curve_tables
import tables

HERE = Path(__file__).parent
PAGES = ("README.md", "RL.md")


def picture(folder: Path, file: str, title: str) -> str:
    """Return a figure that was drawn."""
    return f"![{title}]({file})" if (folder / file).exists() else ""


def fill(text: str, name: str, content: str) -> tuple[str, int]:
    """Return a text with what stands between a table's marks replaced, and how often."""
    first, last = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    block = re.compile(re.escape(first) + ".*?" + re.escape(last), re.DOTALL)
    return block.subn(lambda _: f"{first}\n{content or tables.NOT_MEASURED}\n{last}", text)


def read(path: Path, nothing: Any) -> Any:
    """Return the content of a JSON file, or of one that is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else nothing


def main() -> None:
    """Fill the tables in.

    Raises:
        ValueError: The marks of a table are on neither page, or on both.
    """
    parser = argparse.ArgumentParser(description="Fill the tables of README.md and RL.md.")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    results, curves = (read(options.folder / f"{n}.json", {}) for n in ("results", "curves"))
    makers: dict[str, Callable[[], str]] = {
        "cells": lambda: tables.cells_table(results),
        "copies": lambda: tables.copies_table(read(options.folder / "copies.json", [])),
        "validation": lambda: tables.validation_table(results),
        "overall": lambda: tables.overall_table(results),
        "pairs": lambda: tables.pairs_table(results),
        "improvements": lambda: tables.improvements_table(results),
        "levels": lambda: tables.levels_table(results),
        "inputs": lambda: tables.inputs_table(results),
        "budgets": lambda: tables.budgets_table(results),
        "table-13": lambda: tables.table_13(read(options.folder / "table13.json", [])),
        "figure-3": lambda: picture(options.folder, "figure3.png", "Figure 3"),
        "curves": lambda: picture(options.folder, "curves.png", "gain over decoder evaluations"),
        "agents": lambda: curve_tables.agents_table(curves),
        "recommendation": lambda: curve_tables.recommendation(curves),
        "efficiency": lambda: curve_tables.efficiency_table(curves),
    }
    pages = {page: (HERE / page).read_text(encoding="utf-8") for page in PAGES}
    for name, make in makers.items():
        filled = {page: fill(text, name, make()) for page, text in pages.items()}
        if sum(count for _, count in filled.values()) != 1:
            raise ValueError(f"the marks of {name} must stand once on one of {', '.join(PAGES)}")
        pages = {page: text for page, (text, _) in filled.items()}
    for page, text in pages.items():
        (options.folder / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
