"""Print what the steps of ``run.sh`` cost, in sets that the decoder reads and in hours.

Called by ``run.sh plan``, which gives the sizes.
"""

from __future__ import annotations

import argparse

NUM_CHUNKS = 32
SIZES = (
    "rewards",
    "grpo-long-rewards",
    "grpo-long-every",
    "grpo-long-seeds",
    "gains-rewards",
    "replay-rewards",
    "rloo-rewards",
    "choosing-count",
    "count",
    "input-count",
    "oracle-count",
    "swap-rounds",
    "eval-every",
    "validation-count",
    "agents",
    "seeds",
    "compared-seeds",
    "together-seeds",
    "together-size",
    "cells",
    "inputs",
    "input-seeds",
    "input-cells",
)
BUDGETS = {8: 2, 4: 6, 2: 15}
"""Chunks expanded of 32 at effective compression rates."""
HEURISTICS, DOMAINS_VALIDATED, DOMAINS_TRAINED_ON = 9, 2, 3
COMPARED = 4
"""Agents in every cell: those that ``run.sh`` names in ``evaluated``, but for ``together``."""
ORACLE_SEARCHES = 2.5
"""Greedy searches a window: on all tokens and on each half, which share their first sets."""


def oracle_sets(rates: list[int], swap_rounds: int) -> float:
    """Return the sets a window that the oracle reads at some rates, about."""
    budgets = [BUDGETS[rate] for rate in rates]
    # The search of a larger budget begins with that of a smaller one, and no set is read twice.
    greedy = sum(NUM_CHUNKS - i for i in range(max(budgets)))
    swaps = sum(budget * (NUM_CHUNKS - budget) for budget in budgets)
    return ORACLE_SEARCHES * (greedy + min(swap_rounds, 4) * swaps)


def plan(sizes: argparse.Namespace) -> dict[str, float]:
    """Return the sets of each step."""
    validation = DOMAINS_VALIDATED * sizes.validation_count * len(BUDGETS)

    def with_curve(rewards: int, every: int) -> int:
        return rewards + validation * (rewards // every + HEURISTICS)

    a_training = with_curve(sizes.rewards, sizes.eval_every)
    a_long_grpo = with_curve(sizes.grpo_long_rewards, sizes.grpo_long_every)
    a_selector = sizes.count * len(BUDGETS)
    an_input = sizes.input_count * len(BUDGETS)
    variants = sizes.inputs + 1  # and the studied agent as it is
    runs = variants * sizes.input_seeds
    budget_runs = len(BUDGETS) * sizes.input_seeds
    compared = COMPARED * sizes.compared_seeds + sizes.together_seeds
    parts = max(sizes.compared_seeds, sizes.together_seeds * sizes.together_size)
    return {
        "train": sizes.agents * sizes.seeds * a_training + sizes.grpo_long_seeds * a_long_grpo,
        "train_compared": parts * sizes.gains_rewards
        + sizes.compared_seeds
        * (sizes.gains_rewards + sizes.replay_rewards + sizes.rloo_rewards),  # members first
        "validate": DOMAINS_TRAINED_ON * sizes.choosing_count * len(BUDGETS) * compared,
        "evaluate": sizes.cells * (HEURISTICS + compared) * a_selector,
        "oracle": sizes.cells
        * sizes.oracle_count
        * oracle_sets(sizes.oracle_rates, sizes.swap_rounds),
        "inputs": runs * a_training + sizes.input_cells * runs * an_input,
        "budgets": budget_runs * a_training + sizes.input_cells * budget_runs * sizes.input_count,
    }


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, required=True, help="sets a second, of one core")
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--oracle-rates", type=int, nargs="+", choices=BUDGETS, required=True)
    sizes = parser.parse_args()
    steps = plan(sizes)
    print(f"{'step':14}{'sets':>12}{'hours':>8}   at {sizes.rate:g} sets/s")
    for name, sets in [*steps.items(), ("all", sum(steps.values()))]:
        print(f"{name:14}{sets:12,.0f}{sets / sizes.rate / 3600:8.1f}")


if __name__ == "__main__":
    main()
