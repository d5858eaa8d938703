"""The tables of RL.md, in Markdown, from what ``curves.json`` holds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from math import inf
from typing import Any

import tables


def rewards(values: Sequence[float | None]) -> str:
    """Return at how many sets the seeds reached something: their median, and how many did.

    A seed that never gets there is one of the latest: leaving it out would make agents that fail
    look fast.
    """
    there = sum(value is not None for value in values)
    if not there:
        return "never"
    middle = statistics.median(inf if value is None else value for value in values)
    text = "never" if middle == inf else f"{middle:,.0f}"
    return f"{text} ({there} of {len(values)} seeds)"


def agents_table(curves: dict[str, Any]) -> str:
    """Return what the curves say of every agent."""
    found = curves.get("agents", {})
    rows = []
    for name, figures in sorted(found.items(), key=lambda item: -item[1]["final_gain"]):
        interval = figures["final_gain_interval"] or [None, None]
        rows.append(
            [
                name,
                str(figures["seeds"]),
                f"{figures['rewards']:,.0f}",
                tables.signed([figures["final_gain"], *interval]),
                tables.signed(figures["lead_over_reference"]),
                rewards(figures["reaches_best_heuristic"]),
                rewards(figures["reaches_share_of_own"]),
            ]
        )
    lead = f"final gain less that of {curves.get('reference')}, seed by seed"
    head = [
        "agent",
        "seeds",
        "sets at the last comparison",
        "final gain",
        lead,
        "reaches the best heuristic",
    ]
    return tables.table([*head, "reaches 95 % of its own gain"], rows)


def recommendation(curves: dict[str, Any]) -> str:
    """Say which agent ends highest, which is first, and how RL stands beside regression."""
    longer = curves.get("longer", [])
    found = {name: f for name, f in curves.get("agents", {}).items() if name not in longer}
    if not found:
        return ""
    learned = {name: figures["final_gain"] for name, figures in found.items()}
    best = max(learned, key=lambda name: learned[name])
    lines = [f"- Ends highest: `{best}` ({learned[best]:+.4f} nats per token)."]
    first = {
        name: statistics.median(reached)
        for name, figures in found.items()
        if None not in (reached := figures["reaches_best_heuristic"])
    }
    fastest = min(first, key=lambda name: first[name]) if first else None
    lines.append(f"- First at the best heuristic, all seeds: {fastest or 'none'}.")
    for pair, lead in curves.get("alike", {}).items():
        with_rl, without = pair.split("=")
        lines.append(
            f"- The same network with RL and without, seed by seed: `{with_rl}` less `{without}` "
            f"{tables.signed(lead)}."
        )
    lines.append(f"- Recommended at this size: `{curves.get('recommended', best)}`.")
    return "\n".join(lines)


def efficiency_table(curves: dict[str, Any]) -> str:
    """Return decoder evaluations of the recommended agent against those of the paper's GRPO."""
    found = curves.get("efficiency")
    if not found:
        return ""
    agent, reference, of_mean = found["agent"], found["reference"], found["of_mean"]
    levels = {"to_agents_level": agent, "to_references_level": reference}
    rows = []
    for name in found["to_agents_level"]:
        cells = [f"`{name}`"]
        for level in levels:
            sets = of_mean[level][name]
            cells += ["never" if sets is None else f"{sets:,.0f}", rewards(found[level][name])]
        rows.append(cells)
    head = [""]
    for name in levels.values():
        of_seeds = f"mean of {of_mean['seeds']} seeds"
        head += [f"to 95 % of the gain of `{name}`, {of_seeds}", "seed by seed, median"]
    return tables.table(head, rows)
