"""Write the tables of README.md from the JSON files beside it.

python experiments/first_light/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARK = "<!-- tables -->"
REFERENCES = ("no_context", "last_tokens", "compressed", "full_context")

Row = dict[str, Any]


def main() -> None:
    """Replace everything after the mark."""
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").partition(MARK)[0]
    parts = [planted(json.loads((HERE / "planted.json").read_text(encoding="utf-8")))]
    for name in (
        "docs-recall",
        "docs-retrieved-random",
        "docs-contiguous-random",
        "docs-retrieved",
        "docs-contiguous",
        "files-retrieved",
        "files-contiguous",
    ):
        rows = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        for domain in dict.fromkeys(row["domain"] for row in rows):
            if domain != "all":
                chosen = [row for row in rows if row["domain"] == domain]
                parts.append(table(name, domain, chosen))
        parts.append(f"![{name}]({name}.png)\n")
    readme.write_text(head + MARK + "\n\n" + "\n".join(parts), encoding="utf-8")


def planted(rows: list[Row]) -> str:
    """Return the table of the planted chunks."""
    lines = [
        f"## Planted chunks expanded: recall, docs, budget 5, {rows[0]['windows']} windows",
        "",
        "| selector | share of the planted chunks | log-perplexity |",
        "|---|---|---|",
    ]
    for row in rows:
        share, loss = row["planted_share"], row["log_perplexity"]
        lines.append(f"| {row['selector']} | {share:.1%} | {loss:.3f} |")
    return "\n".join([*lines, ""])


def table(name: str, domain: str, rows: list[Row]) -> str:
    """Return one domain's comparison."""
    kind = name.partition("-")[2]
    budgets = list(dict.fromkeys(r["budget"] for r in rows if r["selector"] not in REFERENCES))
    rates = {r["budget"]: r["compression_rate"] for r in rows}
    first = rows[0]
    lines = [
        f"## {kind}, {domain}: {first['count']} windows of {first['documents']} documents",
        "",
        "; ".join(
            f"{r['selector']} {r['log_perplexity']:.3f}"
            for r in rows
            if r["selector"] in REFERENCES
        ),
        "",
        "| selector | "
        + " | ".join(f"rate {rates[b]:.3g}: {b} expanded | to best heuristic" for b in budgets)
        + " |",
        "|---|" + "---|---|" * len(budgets),
    ]
    for selector in dict.fromkeys(r["selector"] for r in rows):
        if selector in REFERENCES:
            continue
        cells = []
        for budget in budgets:
            (row,) = (r for r in rows if r["selector"] == selector and r["budget"] == budget)
            low, high = row["delta_ci_low"], row["delta_ci_high"]
            cells += [
                f"{row['log_perplexity']:.3f}",
                f"{row['delta_to_best_heuristic']:+.3f} [{low:+.3f}, {high:+.3f}]",
            ]
        lines.append(f"| {selector} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
