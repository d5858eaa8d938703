"""Print what the steps of ``run.sh`` cost, in sets that the decoder reads and in hours.

Called by ``run.sh plan``, which gives the sizes.
"""

from __future__ import annotations

import argparse

NUM_CHUNKS = 32
SIZES = (
    "rewards",
    "count",
    "oracle-count",
    "swap-rounds",
    "eval-every",
    "validation-count",
    "agents",
    "evaluated",
    "seeds",
    "cells",
    "inputs",
    "input-seeds",
    "input-cells",
)
BUDGETS = (2, 6, 15)
"""Chunks expanded of 32 at the effective compression rates 8, 4 and 2."""
HEURISTICS, REFERENCES, DOMAINS_TRAINED = 9, 4, 3
ORACLE_SEARCHES = 2.5
"""Greedy searches a window: on all tokens and on each half, which share their first sets."""


def oracle_sets(swap_rounds: int) -> float:
    """Return the sets a window that the oracle reads over all budgets, about."""
    greedy = sum(sum(NUM_CHUNKS - i for i in range(budget)) for budget in BUDGETS)
    swaps = sum(budget * (NUM_CHUNKS - budget) for budget in BUDGETS)
    return ORACLE_SEARCHES * (greedy + min(swap_rounds, 4) * swaps)


def plan(sizes: argparse.Namespace) -> dict[str, float]:
    """Return the sets of each step."""
    points = sizes.rewards // sizes.eval_every
    validation = DOMAINS_TRAINED * sizes.validation_count * len(BUDGETS)
    a_training = sizes.rewards + validation * (points + HEURISTICS)
    a_selector = sizes.count * len(BUDGETS)
    references = sizes.count * REFERENCES
    runs = sizes.inputs * sizes.input_seeds
    budget_runs = len(BUDGETS) * sizes.seeds
    return {
        "train": sizes.agents * sizes.seeds * a_training,
        "evaluate": sizes.cells
        * (
            HEURISTICS * a_selector
            + sizes.evaluated * sizes.seeds * a_selector
            + (1 + sizes.evaluated) * references
        ),
        "oracle": sizes.cells * sizes.oracle_count * oracle_sets(sizes.swap_rounds),
        "inputs": runs * a_training
        + sizes.input_cells * (runs * a_selector + sizes.inputs * references),
        "budgets": budget_runs * a_training
        + sizes.input_cells * (budget_runs * sizes.count + len(BUDGETS) * references),
    }


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, required=True, help="sets a second, of one core")
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int, required=True)
    sizes = parser.parse_args()
    steps = plan(sizes)
    print(f"{'step':10}{'sets':>12}{'hours':>8}   at {sizes.rate:g} sets/s")
    for name, sets in [*steps.items(), ("all", sum(steps.values()))]:
        print(f"{name:10}{sets:12,.0f}{sets / sizes.rate / 3600:8.1f}")


if __name__ == "__main__":
    main()
