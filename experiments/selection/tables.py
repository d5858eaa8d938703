"""The tables of README.md, in Markdown, from what the JSON files of a folder hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOT_MEASURED = "Not measured yet."
Ends = Sequence[float | None] | None

DEFAULT = "default"
INPUTS = ["position", "prompt", "statistics", "lexical", DEFAULT, "projector", "each_pick"]
"""In the order of the table, the paper's left out."""
LEADS = {("docs", "strong"): 0.02, ("docs", "weak"): 0.02, ("*", "recall"): 0.2}
"""Lead over the best heuristic that was aimed at, nats per token; at rates 8 and 4."""
SHARES = {("docs", "strong"): 0.5, ("docs", "weak"): 0.5, ("*", "recall"): 0.9}
"""Share of the split-half-corrected gap (recall: of the raw one) that was aimed at."""


def signed(ends: Ends) -> str:
    """Return a difference with its interval."""
    if ends is None:
        return ""
    mean, low, high = ends
    text = f"{mean:+.3f}"
    return text if low is None or high is None else f"{text} [{low:+.3f}, {high:+.3f}]"


def level(ends: Ends) -> str:
    """Return a level with its interval."""
    return signed(ends).replace("+", "") if ends is not None else ""


def marked(text: str, resampled: str | None) -> str:
    """Return an interval, with a star where windows were resampled and not documents."""
    return f"{text}*" if resampled == "windows" else text


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; nothing for no rows."""
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def aim(limits: dict[tuple[str, str], float], cell: dict[str, Any]) -> float | None:
    """Return what was aimed at in a cell."""
    return limits.get((cell["domain"], cell["kind"]), limits.get(("*", cell["kind"])))


def name_of(cell: dict[str, Any]) -> list[str]:
    """Return the first columns of a cell's row."""
    return [cell["domain"], cell["kind"], f"{cell['rate']:.3g}"]


def yes(holds: bool) -> str:
    """Return a verdict as a word."""
    return "yes" if holds else "no"


def is_below_all(figures: dict[str, Any]) -> bool:
    """Return whether a policy is better than every heuristic, intervals below 0."""
    tests = figures["to_heuristics"].values()
    return all(t["difference"][2] is not None and t["difference"][2] < 0 for t in tests)


def cells_table(results: dict[str, Any]) -> str:
    """Return room, best heuristic and the chosen policy of every cell, and the verdicts."""
    best = results.get("chosen")
    rows, claims = [], {"beats every heuristic": [], "worse than the best heuristic": []}
    leads, shares = [], []
    for cell in results.get("cells", []):
        figures = cell["policies"].get(best)
        if figures is None:
            continue
        to_best = figures["to_heuristics"][cell["best_heuristic"]]
        share = "gap_closed" if cell["kind"] == "recall" else "gap_closed_split_half"
        p_values = [t["p_holm"] for t in figures["to_heuristics"].values()]
        worst = None if None in p_values else max(p_values)
        is_below = is_below_all(figures)
        difference = to_best["difference"]
        rows.append(
            [
                *name_of(cell),
                f"{figures['count']} of {cell['documents']}",
                cell["best_heuristic"],
                marked(signed(cell["room"]), cell.get("oracle_resampled")),
                yes(cell["has_room"]),
                marked(signed(difference), cell["resampled"]),
                yes(is_below) if cell["has_room"] else "-",
                "" if worst is None else marked(f"{worst:.3f}", cell["resampled"]),
                level(figures[share]),
            ]
        )
        where = " ".join(name_of(cell))
        if cell["has_room"] and not is_below:
            claims["beats every heuristic"].append(where)
        if difference[1] is not None and difference[1] > 0:
            claims["worse than the best heuristic"].append(where)
        limit = aim(LEADS, cell)
        if limit is not None and cell["rate"] in (8, 4) and difference[0] > -limit:
            leads.append(where)
        limit = aim(SHARES, cell)
        measured = limit is not None and figures[share] is not None
        if measured and figures[share][0] < limit:
            shares.append(where)
    if not rows:
        return ""
    head = ["domain", "windows", "rate", "n of documents", "best heuristic", "room", "has room"]
    head += [f"{best} - best heuristic", "beats every heuristic", "largest p (Holm)", "gap closed"]

    def failing(cells: list[str]) -> str:
        return "; ".join(cells) or "none"

    verdicts = [
        "- Cells with room where it is not better than every heuristic (interval): "
        + failing(claims["beats every heuristic"]),
        "- Cells where it is worse than the best heuristic beyond the interval: "
        + failing(claims["worse than the best heuristic"]),
        "- Cells with a smaller lead than was aimed at: " + failing(leads),
        "- Cells with a smaller share of the gap than was aimed at, where the oracle searched: "
        + failing(shares),
    ]
    return table(head, rows) + "\n\n" + "\n".join(verdicts)


def validation_table(results: dict[str, Any]) -> str:
    """Return the log-perplexity of the agents on validation windows, by which one is chosen."""
    rows = [
        [name, level(figures["level"]), signed(figures["to_lowest"])]
        for name, figures in results.get("validation", {}).items()
    ]
    return table(["agent", "log-perplexity, validation", "difference to the lowest"], rows)


def copies_table(rows: list[dict[str, Any]]) -> str:
    """Return differences on ``docs`` with and without the windows whose output is copied."""
    lines = [
        [
            row["kind"],
            f"{row['rate']:.3g}",
            f"{row['copied']} of {row['count']}",
            signed(row["all"]),
            signed(row["own"]),
        ]
        for row in rows
    ]
    head = ["windows", "rate", "copied outputs", "difference, all windows", "without them"]
    return table(head, lines)


def overall_table(results: dict[str, Any]) -> str:
    """Return how far each selector is from the best heuristic of a cell, over all cells."""
    cells = results.get("cells", [])
    distances: dict[str, list[float]] = {}
    for cell in cells:
        best = cell["best_heuristic"]
        for name, level in cell["heuristics"].items():
            distances.setdefault(name, []).append(level[0] - cell["heuristics"][best][0])
        for name, figures in cell["policies"].items():
            difference = figures["to_heuristics"][best]["difference"]
            distances.setdefault(name, []).append(difference[0])
    rows = [
        (name, sum(found) / len(found), min(found), max(found))
        for name, found in distances.items()
        if len(found) == len(cells)
    ]
    rows.sort(key=lambda row: row[1])
    head = ["selector", "mean over cells", "best cell", "worst cell"]
    return table(head, [[name, *(f"{value:+.3f}" for value in of_name)] for name, *of_name in rows])


def pairs_table(results: dict[str, Any]) -> str:
    """Return agents less others: over all cells, and which cells are beyond their intervals."""
    groups: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
    for row in results.get("pairs", []):
        groups.setdefault((row["policy"], row["to"], row["by_run"]), []).append(row)
    lines = []
    for (name, other, by_run), rows in groups.items():
        cells = [row for row in rows if row["rate"] is not None]
        on_validation = [signed(row["difference"]) for row in rows if row["rate"] is None]
        means = [row["difference"][0] for row in cells]
        sides: dict[str, list[str]] = {"better": [], "worse": []}
        for row in cells:
            mean, low, high = row["difference"]
            if low is not None and (high < 0 or low > 0):
                where = f"{' '.join(name_of(row))} {signed(row['difference'])}"
                sides["better" if mean < 0 else "worse"].append(where)
        counts = sorted({row["count"] for row in cells})
        lines.append(
            [
                f"`{name}` - `{other}`" + (", run by run" if by_run else ""),
                " or ".join(map(str, counts)),
                f"{sum(means) / len(means):+.4f}" if means else "",
                "; ".join(sides["better"]) or "none",
                "; ".join(sides["worse"]) or "none",
                *(on_validation or [""]),
            ]
        )
    head = ["", "windows a cell", "mean over cells", "cells better (interval)"]
    return table([*head, "cells worse (interval)", "validation windows"], lines)


def improvements_table(results: dict[str, Any]) -> str:
    """Return how probable it is that a run of the chosen agent is better than one of another."""
    rows = [[other, level(ends)] for other, ends in results.get("improvements", {}).items()]
    return table(
        ["the other", f"probability that a run of {results.get('chosen')} is better"], rows
    )


def levels_table(results: dict[str, Any]) -> str:
    """Return the log-perplexity of everything that was compared on all windows of a cell."""
    rows = []
    for cell in results.get("cells", []):
        found = {
            **cell["heuristics"],
            **{
                name: figures["level"]
                for name, figures in cell["policies"].items()
                if figures["count"] == cell["count"]
            },
        }
        ordered = sorted(found.items(), key=lambda item: item[1][0])
        rows.append([*name_of(cell), "; ".join(f"{n} {e[0]:.3f}" for n, e in ordered)])
    return table(["domain", "windows", "rate", "log-perplexity, lowest first"], rows)


def inputs_table(results: dict[str, Any]) -> str:
    """Return what each set of inputs gains on the paper's, a column a domain and kind."""
    found: dict[str, dict[str, str]] = {}
    for row in results.get("inputs", []):
        cell = f"{row['domain']} {row['kind']}"
        _, variant, name = row["policy"].rpartition("inputs_")
        found.setdefault(name if variant else DEFAULT, {})[cell] = signed(row["difference"])
    cells = list(dict.fromkeys(cell for of_name in found.values() for cell in of_name))
    ordered = sorted(found, key=lambda name: INPUTS.index(name))
    return table(
        ["inputs", *cells],
        [[f"`{name}`", *(found[name].get(cell, "") for cell in cells)] for name in ordered],
    )


def budgets_table(results: dict[str, Any]) -> str:
    """Return the policy of any budget less the one trained for each."""
    rows = [[*name_of(row), signed(row["difference"])] for row in results.get("budgets", [])]
    return table(["domain", "windows", "rate", "difference"], rows)


def table_13(rows: list[dict[str, Any]]) -> str:
    """Return chunks of 16 with a policy against chunks of 8."""
    lines = [
        [
            row["domain"],
            f"{row['count']} of {row['documents']}",
            level(row["small_chunks"]),
            level(row["policy"]),
            signed(row["difference"]),
        ]
        for row in rows
    ]
    head = ["domain", "windows of documents", "k = 8, nothing expanded", "k = 16 + policy, rate 8"]
    return table([*head, "difference"], lines)
