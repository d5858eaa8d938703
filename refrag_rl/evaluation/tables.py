"""The comparison as a table of at most 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.printable import printable


def comparison_tables(rows: Sequence[Row], highlighted: Iterable[str] = ()) -> list[Table]:
    """Return one table a domain: the references, then a section a budget.

    Where an oracle was compared with, a second one follows: the shares of the gap to it.

    Args:
        rows: Rows of a comparison.
        highlighted: Selectors printed bold, such as the policy just trained.

    Returns:
        Tables for ``rich.console.Console.print``. In a section, the lowest log-perplexity is first.
    """
    bold = set(highlighted)
    tables = []
    for _, group in groupby(rows, key=lambda row: row["domain"]):
        of_domain = list(group)
        tables.append(_table(of_domain, bold))
        if any(row.get("gap_closed") is not None for row in of_domain):
            tables.append(_gap_table(of_domain, bold))
    return tables


def caption(rows: Sequence[Row]) -> str:
    """Return what the figures of a domain's rows are."""
    first = rows[0]
    text = (
        f"{first['count']} windows of {first['documents']} documents; log-perplexity in nats "
        f"per token, lower is better; 95 % intervals bootstrapped over {first['resampled']}; "
        "differences window by window."
    )
    if any(_sees_output(row) for row in rows):
        text += " * chose by the output itself: a bound, not a selector."
    return text


def sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield a title and the rows of each budget, the lowest log-perplexity first."""
    selections = [row for row in rows if row["selector"] not in REFERENCES]
    for (rate, budget), group in groupby(selections, key=_column):
        title = f"rate {rate:.3g}: {budget} expanded"
        yield title, sorted(group, key=lambda row: row["log_perplexity"])


def _table(rows: list[Row], bold: set[str]) -> Table:
    first = rows[0]
    table = _empty_table(f"{first['domain']}, {first['windows']} windows", caption(rows))
    table.add_column("log-perplexity", justify="right", no_wrap=True)
    table.add_column("to best heuristic", justify="right", no_wrap=True)
    for row in rows:
        if row["selector"] in REFERENCES:
            table.add_row(*map(Text, row_figures(row)))
    _add_sections(table, rows, bold, row_figures)
    return table


def _gap_table(rows: list[Row], bold: set[str]) -> Table:
    first = rows[0]
    table = _empty_table(
        f"{first['domain']}, {first['windows']} windows: share of the gap closed",
        "0: random, 1: the oracle, which fits each output's noise too (raw), or corrected for that "
        f"by halves of the output; 95 % intervals bootstrapped over {first['resampled']}.",
    )
    table.add_column("raw", justify="right", no_wrap=True)
    table.add_column("split half", justify="right", no_wrap=True)
    selectors = [row for row in rows if not _sees_output(row)]
    _add_sections(
        table, selectors, bold, lambda row: [printable(row["selector"]), *gap_figures(row)]
    )
    return table


def _empty_table(title: str, caption: str) -> Table:
    table = Table(
        title=Text(printable(title)),
        caption=Text(caption),
        caption_justify="left",
        title_justify="left",
        pad_edge=False,
        padding=(0, 1),
        box=None,
    )
    table.add_column("selector", overflow="fold", max_width=22)
    return table


def _add_sections(
    table: Table,
    rows: Sequence[Row],
    bold: set[str],
    cells: Callable[[Row], Sequence[str]],
) -> None:
    """Add a section for each budget."""
    for title, of_budget in sections(rows):
        table.add_section()
        table.add_row(Text(title, style="italic"))
        for row in of_budget:
            # Text, not str: a selector's name is shown as it is, never read as markup.
            texts = [Text(cell) for cell in cells(row)]
            table.add_row(*texts, style="bold" if row["selector"] in bold else "")


def _sees_output(row: Row) -> bool:
    # Rows that an older release wrote do not say.
    return row.get("sees_output", False)


def _column(row: Row) -> tuple[float, int]:
    rate, budget = row["compression_rate"], row["budget"]
    assert rate is not None and budget is not None
    return rate, budget


def row_figures(row: Row) -> list[str]:
    """Return name, log-perplexity and difference to the best heuristic, as in a table."""
    return [
        printable(row["selector"]) + ("*" if _sees_output(row) else ""),
        _with_interval(row["log_perplexity"], row["ci_low"], row["ci_high"], ""),
        _with_interval(
            row["delta_to_best_heuristic"], row["delta_ci_low"], row["delta_ci_high"], "+"
        ),
    ]


def gap_figures(row: Row) -> list[str]:
    """Return the shares of the gap closed, raw and corrected, as in a table."""
    raw = (row.get("gap_closed"), row.get("gap_closed_low"), row.get("gap_closed_high"))
    corrected = (
        row.get("gap_closed_split_half"),
        row.get("gap_closed_split_half_low"),
        row.get("gap_closed_split_half_high"),
    )
    return [_share(*raw), _share(*corrected)]


def _share(level: float | None, low: float | None, high: float | None) -> str:
    if level is None:
        return ""
    if low is None or high is None:
        return f"{level:.2f}"
    return f"{level:.2f} [{low:.2f}, {high:.2f}]"


def _with_interval(mean: float | None, low: float | None, high: float | None, sign: str) -> str:
    if mean is None:
        return ""
    if low is None or high is None:
        return f"{mean:{sign}.4f}"
    return f"{mean:{sign}.4f} [{low:{sign}.3f}, {high:{sign}.3f}]"
