"""The comparison as a table of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from refrag_rl.evaluation.interfaces import REFERENCES, Row


def comparison_tables(rows: Sequence[Row], highlighted: Iterable[str] = ()) -> list[Table]:
    """Return one table a domain: the references, then a section a budget.

    Args:
        rows: Rows of a comparison.
        highlighted: Selectors printed bold, such as the policy just trained.

    Returns:
        Tables for ``rich.console.Console.print``. In a section, the lowest log-perplexity is first.
    """
    bold = set(highlighted)
    return [_table(list(group), bold) for _, group in groupby(rows, key=lambda row: row["domain"])]


def _table(rows: list[Row], bold: set[str]) -> Table:
    first = rows[0]
    table = Table(
        title=Text(f"{first['domain']}, {first['windows']} windows"),
        caption=Text(
            f"{first['count']} windows of {first['documents']} documents; log-perplexity in nats "
            f"per token, lower is better; 95 % intervals bootstrapped over {first['resampled']}; "
            "differences window by window."
        ),
        caption_justify="left",
        title_justify="left",
        pad_edge=False,
        padding=(0, 1),
        box=None,
    )
    table.add_column("selector", overflow="fold", max_width=22)
    table.add_column("log-perplexity", justify="right", no_wrap=True)
    table.add_column("to best heuristic", justify="right", no_wrap=True)
    references = [row for row in rows if row["selector"] in REFERENCES]
    selections = [row for row in rows if row["selector"] not in REFERENCES]
    for row in references:
        table.add_row(*_cells(row))
    for (rate, budget), group in groupby(selections, key=_column):
        table.add_section()
        table.add_row(Text(f"rate {rate:.3g}: {budget} expanded", style="italic"))
        for row in sorted(group, key=lambda row: row["log_perplexity"]):
            table.add_row(*_cells(row), style="bold" if row["selector"] in bold else "")
    return table


def _column(row: Row) -> tuple[float, int]:
    rate, budget = row["compression_rate"], row["budget"]
    assert rate is not None and budget is not None
    return rate, budget


def _cells(row: Row) -> tuple[Text, Text, Text]:
    # Text, not str: a selector's name is shown as it is, never read as markup.
    return (
        Text(row["selector"]),
        Text(_with_interval(row["log_perplexity"], row["ci_low"], row["ci_high"], "")),
        Text(
            _with_interval(
                row["delta_to_best_heuristic"], row["delta_ci_low"], row["delta_ci_high"], "+"
            )
        ),
    )


def _with_interval(mean: float | None, low: float | None, high: float | None, sign: str) -> str:
    if mean is None:
        return ""
    if low is None or high is None:
        return f"{mean:{sign}.4f}"
    return f"{mean:{sign}.4f} [{low:{sign}.3f}, {high:{sign}.3f}]"
