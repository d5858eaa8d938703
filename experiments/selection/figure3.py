"""The paper's Figure 3 with intervals and the baselines that it lacks: ``figure3.png``.

    python experiments/selection/figure3.py OUTPUT

Contiguous windows without a prompt, log-perplexity against the effective compression rate, one
panel a domain, from ``OUTPUT/results.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

KIND = "contiguous"


def lines_of(cell: dict[str, Any], best: str | None) -> dict[str, list[float | None]]:
    """Return mean and ends of everything that the figure shows of a cell."""
    lines = dict(cell["heuristics"])
    if best in cell["policies"]:
        lines[f"{best} (learned)"] = cell["policies"][best]["level"]
    if cell["room"] is not None:
        # It searched some of the windows only: its lead there, below the best heuristic's level.
        level = cell["heuristics"][cell["best_heuristic"]][0]
        lines["oracle, split half (a bound)"] = [
            None if end is None else level + end for end in cell["room"]
        ]
    return lines


def main(output: Path) -> None:
    """Draw the figure from what was measured."""
    path = output / "results.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": []}
    cells = [cell for cell in found["cells"] if cell["kind"] == KIND]
    if not cells:
        print("figure 3: no contiguous cells yet")
        return
    domains = list(dict.fromkeys(cell["domain"] for cell in cells))
    figure, axes = plt.subplots(
        1, len(domains), figsize=(3.6 * len(domains) + 2, 4), layout="constrained", squeeze=False
    )
    for axis, domain in zip(axes[0], domains, strict=True):
        of_domain = sorted((c for c in cells if c["domain"] == domain), key=lambda c: c["rate"])
        names = list(dict.fromkeys(n for c in of_domain for n in lines_of(c, found["chosen"])))
        for number, name in enumerate(names):
            points = [
                (cell["rate"], lines_of(cell, found["chosen"])[name])
                for cell in of_domain
                if name in lines_of(cell, found["chosen"])
            ]
            means = [line[0] for _, line in points]
            below = [line[0] - (line[0] if line[1] is None else line[1]) for _, line in points]
            above = [(line[0] if line[2] is None else line[2]) - line[0] for _, line in points]
            # Shifted a little, so that the intervals do not hide each other.
            places = [rate * (1 + 0.006 * (number - len(names) / 2)) for rate, _ in points]
            learned = name.endswith("(learned)")
            axis.errorbar(
                places,
                means,
                yerr=[below, above],
                label=name,
                color="black" if learned else f"C{number % 10}",
                linewidth=2.5 if learned else 1.2,
                linestyle=":" if "bound" in name else "-",
                elinewidth=0.6,
                marker=".",
            )
        rates = [cell["rate"] for cell in of_domain]
        axis.set_xscale("log", base=2)
        axis.set_xticks(rates, [f"{rate:.3g}" for rate in rates])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(f"{domain} (n = {of_domain[0]['count']})")
        axis.set_xlabel("effective compression rate")
    axes[0, 0].set_ylabel("log-perplexity (nats per token)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.savefig(output / "figure3.png", dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
