"""Share of the planted chunks that each selector expands, and what that is worth.

    python experiments/first_light/planted.py --count 150 --output FILE RUN_FOLDER...

Held-out `recall` windows of `docs` (split `test`), budget 5. `planted` expands the planted chunks
and nothing else; `full` everything; `none` nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.loading import load_selector
from refrag_rl.default_problem import default_problem

BUDGET = 5


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*", help="run folders of trained policies")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    problem = default_problem(
        windows="recall", split="test", count=options.count, seed=options.seed, budget=BUDGET
    )
    indices = np.arange(options.count)
    budgets = np.full(options.count, BUDGET)
    observation = problem.observe(indices, budgets)
    planted = np.stack([problem.window(index).planted for index in indices])
    selectors = [kind() for kind in HEURISTICS.values()]
    selectors += [load_selector(run, problem.embedding_size) for run in options.runs]

    chosen = {
        selector.name: selector.select(observation, budgets, np.random.default_rng(options.seed))
        for selector in selectors
    }
    chosen |= {
        "planted": planted,
        "full": np.ones_like(planted),
        "none": np.zeros_like(planted),
    }
    rows = []
    for name, expanded in chosen.items():
        share = (expanded & planted).sum(1) / planted.sum(1)
        losses = problem.log_perplexity(indices, expanded)
        rows.append(
            {
                "selector": name,
                "windows": options.count,
                "seed": options.seed,
                "planted_share": round(float(share.mean()), 4),
                "log_perplexity": round(float(losses.mean()), 4),
            }
        )
        print(f"{name:16} {share.mean():6.1%} {losses.mean():8.3f}")
    options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
