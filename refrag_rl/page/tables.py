"""Tables of a page: the comparison, and what was run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.evaluation.tables import caption, gap_figures, row_figures, sections
from refrag_rl.page.html import escape


def comparison_html(rows: Sequence[Row], highlighted: Iterable[str] = ()) -> str:
    """Return the comparison as HTML, one table a domain, as on the terminal.

    Args:
        rows: Rows of a comparison.
        highlighted: Selectors in bold, such as the policy just trained.
    """
    bold = set(highlighted)
    tables = []
    for domain, group in groupby(rows, key=lambda row: row["domain"]):
        of_domain = list(group)
        tables.append(f"<h3>{escape(domain)}, {escape(of_domain[0]['windows'])} windows</h3>")
        tables.append(_domain_table(of_domain, bold))
    return "\n".join(tables)


def _domain_table(rows: list[Row], bold: set[str]) -> str:
    has_gap = any(row.get("gap_closed") is not None for row in rows)
    columns = ["log-perplexity", "to best heuristic"]
    if has_gap:
        columns += ["gap closed, raw", "gap closed, split half"]
    heads = "".join(f'<th scope="col">{column}</th>' for column in ("selector", *columns))
    lines = [_line(row, bold, has_gap) for row in rows if row["selector"] in REFERENCES]
    for title, of_budget in sections(rows):
        lines.append(f'<tr><th scope="rowgroup" colspan="{len(columns) + 1}">{title}</th></tr>')
        lines += [_line(row, bold, has_gap) for row in of_budget]
    note = escape(caption(rows))
    if has_gap:
        note += " Gap closed: 0 is random, 1 the oracle."
    return (
        f'<div class="wide" tabindex="0"><table><caption>{note}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _line(row: Row, bold: set[str], has_gap: bool) -> str:
    name, *figures = row_figures(row)
    if has_gap:
        figures += ["", ""] if row.get("sees_output") else gap_figures(row)
    cells = "".join(f'<td class="number">{figure}</td>' for figure in figures)
    kind = ' class="trained"' if row["selector"] in bold else ""
    return f'<tr{kind}><th scope="row">{escape(name)}</th>{cells}</tr>'


def circumstances_html(metadata: Mapping[str, Any], config: str) -> str:
    """Return what was run as HTML.

    Args:
        metadata: As in a run's ``metadata.json``.
        config: The run's ``config.yaml``.
    """
    lines = []
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {each}" for name, each in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        elif value is None:
            value = "unknown" if key == "commit" else "none"
        name = str(key).replace("_", " ")
        lines.append(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>')
    return (
        f'<div class="wide" tabindex="0"><table><tbody>{"".join(lines)}</tbody></table></div>\n'
        f"<details><summary>config.yaml</summary><pre>{escape(config)}</pre></details>"
    )
