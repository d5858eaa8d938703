from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from rich.console import Console

from refrag_rl.evaluation.gap import NO_SHARES
from refrag_rl.evaluation.interfaces import Row
from refrag_rl.evaluation.report import COLUMNS, write_comparison
from refrag_rl.evaluation.tables import comparison_tables

SELECTORS = ("random", "[bold]recency[/bold]", "a_policy_with_a_rather_long_name_of_its_own")


def row(selector: str, domain: str, rate: float | None, budget: int | None, **other: Any) -> Row:
    values: dict[str, Any] = {
        "selector": selector,
        "domain": domain,
        "windows": "retrieved",
        "compression_rate": rate,
        "budget": budget,
        "count": 200,
        "documents": 40,
        "log_perplexity": 13.1234,
        "ci_low": 12.9,
        "ci_high": 13.4,
        "delta_to_best_heuristic": None if budget in (None, 0, 32) else -0.0123,
        "delta_ci_low": None if budget in (None, 0, 32) else -0.02,
        "delta_ci_high": None if budget in (None, 0, 32) else 0.004,
        "delta_p_value": None,
        "delta_p_holm": None,
        "sees_output": False,
        "resampled": "documents",
        **NO_SHARES,
    }
    return Row(**{**values, **other})


def comparison(*domains: str) -> list[Row]:
    rows = []
    for domain in domains:
        rows += [row("no_context", domain, None, None), row("last_tokens", domain, None, None)]
        rows += [row("compressed", domain, 16, 0), row("full_context", domain, 1, 32)]
        for rate, budget in ((8.0, 2), (4.0, 6), (2.0, 15)):
            rows += [row(selector, domain, rate, budget) for selector in SELECTORS]
    return rows


def printed(rows: list[Row]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    for table in comparison_tables(rows, SELECTORS[2:]):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_table_fits_80_columns_with_every_figure_whole() -> None:
    lines = printed(comparison("docs"))
    assert max(len(line) for line in lines) <= 80
    figures = [line for line in lines if "13.1234 [12.900, 13.400]" in line]
    assert len(figures) == 4 + 3 * 3
    assert sum("-0.0123 [-0.020, +0.004]" in line for line in figures) == 9


def test_the_table_says_what_was_resampled() -> None:
    few = [row("random", "docs", 4.0, 6, documents=3, resampled="windows")]
    assert "over windows" in " ".join(printed(few))
    assert "over documents" in " ".join(printed(comparison("docs")))


def test_names_are_shown_as_they_are_and_never_read_as_markup() -> None:
    assert any("[bold]recency[/bold]" in line for line in printed(comparison("[red]docs")))


@pytest.mark.parametrize("domains", [("docs",), ("a", "b", "all"), ("$x_{", "[red]")])
def test_the_three_files_hold_every_row(tmp_path: Path, domains: tuple[str, ...]) -> None:
    rows = comparison(*domains)
    write_comparison(tmp_path, rows, SELECTORS[2:])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".json", ".png"]
    assert json.loads((tmp_path / "comparison.json").read_text()) == rows
    with (tmp_path / "comparison.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [line["selector"] for line in read] == [line["selector"] for line in rows]
    assert tuple(read[0]) == COLUMNS
    assert read[0]["budget"] == ""
    pixels = imread(tmp_path / "comparison.png")
    assert pixels.std() > 0.01


def test_one_window_leaves_intervals_out(tmp_path: Path) -> None:
    alone = row("random", "docs", 4.0, 6, count=1, ci_low=None, ci_high=None)
    alone = Row(**{**alone, "delta_ci_low": None, "delta_ci_high": None})
    write_comparison(tmp_path, [alone])
    assert any("13.1234  " in line for line in printed([alone]))


def test_what_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_comparison(tmp_path, [row("random", "docs", 4.0, 6, log_perplexity=float("nan"))])


def test_bounds_are_marked_and_the_shares_of_the_gap_stand_in_a_table_of_their_own() -> None:
    shares = {"gap_closed": 0.61, "gap_closed_low": 0.5, "gap_closed_high": 0.7}
    corrected = {f"gap_closed_split_half{end}": 0.8 for end in ("", "_low", "_high")}
    rows = [
        row("compressed", "docs", 16, 0),
        row("policy", "docs", 4.0, 6, **shares, **corrected),
        row("oracle", "docs", 4.0, 6, sees_output=True, **shares, **corrected),
    ]
    lines = printed(rows)
    assert max(len(line) for line in lines) <= 80
    assert sum(line.startswith("oracle*") for line in lines) == 1
    assert "* chose by the output itself" in " ".join(lines)
    assert sum("0.61 [0.50, 0.70]" in line and "0.80 [0.80, 0.80]" in line for line in lines) == 1
    assert not any("share of the gap" in line for line in printed(comparison("docs")))


def test_rows_of_an_older_release_can_still_be_shown() -> None:
    older = row("random", "docs", 4.0, 6)
    for key in ("delta_p_value", "delta_p_holm", "sees_output", *NO_SHARES):
        del older[key]  # type: ignore[misc]
    assert any("13.1234" in line for line in printed([older]))
