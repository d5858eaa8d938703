r"""The statistics of all cells: from the scores of single windows to ``results.json``.

    python experiments/selection/results.py CELLS VALIDATION results.json \
        --agents NAME... --candidates NAME... [--pairs NAME=OTHER...] [--after NAME=OTHER...]

1. A cell (domain, kind of windows, rate) has room where the oracle's split-half correction is below
   the best heuristic of the cell with its interval below 0, on the windows that it searched.
2. Of each policy: interquartile mean over training seeds, with intervals over seeds and documents,
   of its log-perplexity and of its paired difference to every heuristic; p-values of the latter,
   adjusted by Holm's method over all heuristics and all cells with room.
3. The chosen agent, one for all cells, is that of the candidates which is lowest on validation
   windows (VALIDATION/NAME.parquet): the cells play no part in it.
4. Share of the gap between random and oracle that is closed: interquartile mean over the seeds over
   the mean of the gap, on the same windows.
5. Two agents are compared by the difference of their interquartile means, the seeds of both
   resampled (``--pairs``, and inputs and budgets); where each run of one went on from that of the
   other with its seed, run by run (``--after``).
6. How often a run of the chosen agent is better than one of another, over all cells.
7. Documents are resampled, or windows in cells of few documents: ``resampled`` says which.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scores import Cell, Scores, read_cells

from refrag_rl.evaluation.multiplicity import holm
from refrag_rl.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    resampling_unit,
)
from refrag_rl.evaluation.training_seeds import (
    interquartile_difference,
    interquartile_mean,
    interquartile_ratio,
    interquartile_test,
    probability_of_improvement,
)

INPUTS_OF_PAPER = "inputs_embeddings"
RAW, CORRECTED = "oracle", "oracle_split_half"
RESAMPLES = 20_000


def ends(interval: Interval | None) -> list[float | None] | None:
    """Return mean, lower and upper end, ready for JSON."""
    return None if interval is None else [interval.mean, interval.low, interval.high]


def is_below(interval: list[float | None] | None, limit: float = 0.0) -> bool:
    """Return whether a whole interval lies below a limit."""
    return interval is not None and interval[2] is not None and interval[2] < limit


def measure(cell: Cell, agents: list[str]) -> dict[str, Any]:
    """Return the figures of a cell and of the agents in it, their p-values not yet adjusted."""
    best = cell.heuristics[cell.best]
    row: dict[str, Any] = {
        "domain": cell.domain,
        "kind": cell.kind,
        "rate": cell.rate,
        "count": len(cell.windows),
        "documents": len(set(cell.documents)),
        "resampled": resampling_unit(cell.documents),
        "best_heuristic": cell.best,
        "heuristics": {
            name: ends(bootstrap_mean(scores, cell.documents, resamples=RESAMPLES))
            for name, scores in cell.heuristics.items()
        },
        "room": None,
        "policies": {
            name: _policy(cell, scores) for name, scores in cell.policies.items() if name in agents
        },
    }
    if cell.bounds:
        documents = [cell.documents[place] for place in cell.searched]
        row["oracle_count"] = len(documents)
        row["oracle_resampled"] = resampling_unit(documents)
        row["oracle"] = {
            name: ends(bootstrap_mean(cell.bounds[name], documents, resamples=RESAMPLES))
            for name in (RAW, CORRECTED)
        }
        room = cell.bounds[CORRECTED] - best[cell.searched]
        row["room"] = ends(bootstrap_mean(room, documents, resamples=RESAMPLES))
    row["has_room"] = is_below(row["room"])
    return row


def _policy(cell: Cell, scores: Scores) -> dict[str, Any]:
    """Return the figures of one agent, ``scores`` (S, N)."""
    count = scores.shape[1]
    of_windows = cell.documents[:count]
    figures: dict[str, Any] = {
        "seeds": len(scores),
        "count": count,
        "level": ends(interquartile_mean(scores, of_windows, resamples=RESAMPLES)),
        "to_heuristics": {},
        "gap_closed": None,
        "gap_closed_split_half": None,
    }
    for name, of_heuristic in cell.heuristics.items():
        difference = scores - of_heuristic[:count]
        interval, p_value = interquartile_test(difference, of_windows, resamples=RESAMPLES)
        figures["to_heuristics"][name] = {
            "difference": ends(interval),
            "p_value": p_value,
            "p_holm": None,
        }
    if cell.bounds:
        documents = [cell.documents[place] for place in cell.searched]
        gained = cell.bounds["random"] - scores[:, cell.searched]
        for key, bound in (("gap_closed", RAW), ("gap_closed_split_half", CORRECTED)):
            gap = cell.bounds["random"] - cell.bounds[bound]
            figures[key] = ends(interquartile_ratio(gained, gap, documents, resamples=RESAMPLES))
    return figures


def adjust(rows: list[dict[str, Any]]) -> None:
    """Adjust each policy's p-values over all heuristics of all cells that have room."""
    of_policies: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["has_room"]:
            for name, figures in row["policies"].items():
                tests = figures["to_heuristics"].values()
                known = [test for test in tests if test["p_value"] is not None]
                of_policies.setdefault(name, []).extend(known)
    for tests in of_policies.values():
        for test, value in zip(tests, holm([t["p_value"] for t in tests]), strict=True):
            test["p_holm"] = float(value)


def read_validation(folder: Path, agents: list[str]) -> Cell:
    """Return the agents' scores on validation windows of all rates as one cell.

    Agents that were not measured there are left out.

    Raises:
        ValueError: They were measured on different windows.
    """
    scores: dict[str, Scores] = {}
    windows: list[str] | None = None
    documents: list[str] = []
    for name in agents:
        if not (folder / f"{name}.parquet").exists():
            continue
        frame = pd.read_parquet(folder / f"{name}.parquet")
        of_seeds = [part for _, part in frame.groupby("selector", sort=False)]
        for part in of_seeds:
            own = (part.window + " " + part.budget.astype(str)).tolist()
            if windows is not None and own != windows:
                raise ValueError(f"{name} was measured on other validation windows")
            windows, documents = own, part.document.tolist()
        scores[name] = np.stack([part.log_perplexity.to_numpy() for part in of_seeds])
    return Cell("validation", "mixed", None, windows or [], documents, {}, scores)


def validated(cell: Cell) -> dict[str, dict[str, list[float | None] | None]]:
    """Return the agents' interquartile means on validation windows, and how far from the lowest."""
    scores, documents = cell.policies, cell.documents
    levels = {
        name: interquartile_mean(each, documents, resamples=RESAMPLES)
        for name, each in scores.items()
    }
    lowest = min(levels, key=lambda name: levels[name].mean, default="")
    return {
        name: {
            "level": ends(levels[name]),
            "to_lowest": ends(
                interquartile_difference(each, scores[lowest], documents, resamples=RESAMPLES)
            ),
        }
        for name, each in scores.items()
    }


def choose(
    validation: dict[str, dict[str, list[float | None] | None]], candidates: list[str]
) -> str | None:
    """Return the candidate of the lowest log-perplexity, none if none of them was measured."""
    levels: dict[str, float] = {}
    for name in candidates:
        level = validation[name]["level"] if name in validation else None
        if level is not None and level[0] is not None:
            levels[name] = level[0]
    return min(levels, key=lambda name: levels[name], default=None)


def paired(
    cells: list[Cell], pairs: list[tuple[str, str]], *, by_run: bool = False
) -> list[dict[str, Any]]:
    """Return the paired differences of agents to what they are compared with, cell by cell.

    Args:
        cells: Of any kind; those that lack one of two agents are left out.
        pairs: The agent, and the other.
        by_run: Whether each run of the agent went on from the other's run in the same place.

    Raises:
        ValueError: ``by_run``, and the two have different numbers of runs.
    """
    rows = []
    for cell in cells:
        for name, other in pairs:
            if name not in cell.policies or other not in cell.policies:
                continue
            of_name, of_other = cell.policies[name], cell.policies[other]
            count = min(of_name.shape[1], of_other.shape[1])
            first, second, of_windows = (
                of_name[:, :count],
                of_other[:, :count],
                cell.documents[:count],
            )
            if not by_run:
                interval = interquartile_difference(first, second, of_windows, resamples=RESAMPLES)
            elif len(first) == len(second):
                interval = interquartile_mean(first - second, of_windows, resamples=RESAMPLES)
            else:
                raise ValueError(f"{name} has {len(first)} runs, {other} {len(second)}")
            rows.append(
                {
                    "domain": cell.domain,
                    "kind": cell.kind,
                    "rate": cell.rate,
                    "policy": name,
                    "to": other,
                    "count": count,
                    "difference": ends(interval),
                }
            )
    return rows


def improvements(cells: list[Cell], chosen: str, agents: list[str]) -> dict[str, Any]:
    """Return how probable it is that a run of the chosen agent is better than one of another.

    Over all cells, on the windows that both have. ``best heuristic``: that of each cell.
    """
    found = {}
    for other in ("best heuristic", *agents):
        levels = [levels_of_runs(cell, chosen, other) for cell in cells]
        known = [pair for pair in levels if pair is not None]
        if other != chosen and len(known) == len(cells):
            ours, theirs = (np.stack(side, axis=1) for side in zip(*known, strict=True))
            found[other] = ends(probability_of_improvement(ours, theirs))
    return found


def levels_of_runs(cell: Cell, name: str, other: str) -> tuple[Scores, Scores] | None:
    """Return the means of two agents' runs on the windows that both have; None: one has none."""
    first, second = cell.policies.get(name), cell.policies.get(other)
    if other == "best heuristic":
        # What does not learn has the same scores in every run.
        second = np.tile(cell.heuristics[cell.best], (2, 1))
    if first is None or second is None:
        return None
    count = min(first.shape[1], second.shape[1])
    return first[:, :count].mean(axis=1), second[:, :count].mean(axis=1)


def over_rates(cells: list[Cell]) -> list[Cell]:
    """Return one cell for each domain and kind: the means over its rates, window by window."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.domain, cell.kind), []).append(cell)
    joined = []
    for (domain, kind), group in groups.items():
        first = group[0]
        if any(cell.windows != first.windows for cell in group):
            raise ValueError(f"{domain}, {kind}: other windows at other rates")
        policies = {
            name: np.mean([cell.policies[name] for cell in group], axis=0)
            for name in first.policies
            if all(name in cell.policies for cell in group)
        }
        joined.append(Cell(domain, kind, None, first.windows, first.documents, {}, policies))
    return joined


def pair(text: str) -> tuple[str, str]:
    """Return the two names of ``NAME=OTHER``.

    Raises:
        ValueError: There are not two.
    """
    name, other = text.split("=")
    return name, other


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--agents", nargs="+", required=True, help="compared in the cells")
    parser.add_argument("--candidates", nargs="+", required=True, help="one of them is chosen")
    parser.add_argument("--studied", default="rloo_warm", help="trained over sampled budgets")
    parser.add_argument("--pairs", nargs="+", type=pair, default=[], help="NAME=OTHER, compared")
    parser.add_argument("--after", nargs="+", type=pair, default=[], help="NAME=OTHER, by run")
    options = parser.parse_args()
    cells = read_cells(options.cells)
    rows = [measure(cell, options.agents) for cell in cells]
    adjust(rows)
    names = {name for cell in cells for name in cell.policies}
    inputs = [name for name in sorted(names) if name.startswith("inputs_")]
    budgets = [(options.studied, name) for name in sorted(names) if name.startswith("budget_")]
    to_paper = [
        (name, INPUTS_OF_PAPER)
        for name in [*inputs, options.studied]
        if name != INPUTS_OF_PAPER and inputs
    ]
    validation = read_validation(options.validation, options.agents)
    on_validation = validated(validation)
    chosen = choose(on_validation, options.candidates)
    found = {
        "chosen": chosen,
        "validation": on_validation,
        "cells": rows,
        "pairs": [
            {"by_run": by_run, **row}
            for by_run, pairs in ((False, options.pairs), (True, options.after))
            for row in paired([*cells, validation], pairs, by_run=by_run)
        ],
        "improvements": improvements(cells, chosen, options.agents) if chosen else {},
        "inputs": [
            {name: value for name, value in row.items() if name != "rate"}
            for row in paired(over_rates(cells), to_paper)
        ],
        "budgets": paired(cells, budgets),
    }
    text = json.dumps(found, indent=1, allow_nan=False)
    options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
