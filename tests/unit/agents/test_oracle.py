"""The greedy oracle finds what is planted, and meets its budget."""

from itertools import combinations

import numpy as np

from refrag_rl.agents.oracle import greedy_oracle
from refrag_rl.envs.problem import ExpansionProblem
from tests.planted import PlantedRewardModel, PlantedWindows


def planted_problem(**options: int | bool) -> ExpansionProblem:
    return ExpansionProblem(PlantedWindows(**options), PlantedRewardModel(), 3)


def test_planted_chunks_are_found() -> None:
    problem = planted_problem(count=20)
    indices = np.arange(20)
    expanded = greedy_oracle(problem, indices, np.full(20, 3))
    planted = np.stack([problem.window(index).planted for index in indices])
    assert (expanded == planted).all()


def test_budget_is_met_and_padding_spared() -> None:
    problem = planted_problem(count=12, padding=True)
    indices, budgets = np.arange(12), np.array([1, 5, 40] * 4)
    expanded = greedy_oracle(problem, indices, budgets)
    masks = problem.chunk_masks(indices)
    assert not (expanded & ~masks).any()
    assert (expanded.sum(1) == np.minimum(budgets, masks.sum(1))).all()


def test_no_set_is_better_where_worth_is_additive() -> None:
    problem = planted_problem(count=3, passages=2)
    for index in range(3):
        rows = np.array([index])
        found = problem.log_perplexity(rows, greedy_oracle(problem, rows, np.array([3])))
        sets = np.zeros((0, problem.num_chunks), dtype=bool)
        for chosen in combinations(range(problem.num_chunks), 3):
            one = np.zeros((1, problem.num_chunks), dtype=bool)
            one[0, list(chosen)] = True
            sets = np.concatenate([sets, one])
        best = problem.log_perplexity(np.full(len(sets), index), sets).min()
        # The toy's noise is not additive, so the greedy set may miss the best by as much.
        assert found[0] <= best + 0.1
