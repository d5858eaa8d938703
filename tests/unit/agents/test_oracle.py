"""The oracle's searches against each other, and its split-half correction."""

import numpy as np
import pytest
import torch

from refrag_rl.agents.oracle import (
    ALL,
    EVEN,
    ODD,
    HalvedScores,
    Oracle,
    exhaustive,
    greedy_order,
    improve_by_swaps,
)
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.policies.plackett_luce import expanded_from
from tests.planted import PlantedRewardModel, PlantedWindows

L = 7


class Worth:
    """Losses with additive worths and, per window, worths of pairs."""

    def __init__(self, windows: int, pairs: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.single = rng.normal(size=(windows, L))
        self.pair = pairs * rng.normal(size=(windows, L, L))
        self.calls = 0

    def __call__(self, indices, expanded):
        self.calls += 1
        x = expanded.astype(float)
        additive = (self.single[indices] * x).sum(1)
        return -additive - np.einsum("ni,nij,nj->n", x, self.pair[indices], x)


class Noise:
    """A problem without signal: every chunk moves every token by noise of its own."""

    def __init__(self, windows: int, tokens: int) -> None:
        self.noise = np.random.default_rng(0).normal(size=(windows, tokens, L))

    def chunk_masks(self, indices):
        return np.ones((len(indices), L), dtype=bool)

    def token_log_likelihood(self, indices, expanded):
        return [
            (self.noise[i] @ row - 3).astype(np.float32)
            for i, row in zip(indices, expanded, strict=True)
        ]


def as_sets(order, num_chunks):
    return expanded_from(torch.from_numpy(order), num_chunks).numpy()


def search(losses, windows: int, budget: int, rounds: int = 20):
    indices, held = np.arange(windows), np.ones((windows, L), dtype=bool)
    greedy = as_sets(greedy_order(indices, held, np.full(windows, budget), losses), L)
    swapped = improve_by_swaps(indices, held, greedy, losses, rounds)
    best = exhaustive(indices, held, np.full(windows, budget), losses)
    return [losses(indices, found) for found in (greedy, swapped, best)]


def planted_problem(budget: int = 3, **options: int | bool) -> ExpansionProblem:
    return ExpansionProblem(PlantedWindows(**options), PlantedRewardModel(), budget)


@pytest.mark.parametrize("budget", [1, 3, L])
def test_greedy_is_exact_where_worth_is_additive(budget):
    greedy, swapped, best = search(Worth(40, pairs=0.0), 40, budget)
    np.testing.assert_allclose(greedy, best)
    np.testing.assert_allclose(swapped, best)


@pytest.mark.parametrize("budget", [2, 3, 4])
def test_swaps_never_harm_and_mostly_reach_the_best_of_all_sets(budget):
    greedy, swapped, best = search(Worth(100, pairs=1.0), 100, budget)
    assert (swapped <= greedy).all()
    assert (best <= swapped + 1e-12).all()
    exact = [np.isclose(found, best).mean() for found in (greedy, swapped)]
    assert exact[1] > 0.85
    assert exact[1] > exact[0]


def test_rounds_of_swaps_are_limited_and_end_by_themselves():
    one, many = Worth(30, pairs=1.0), Worth(30, pairs=1.0)
    indices, held = np.arange(30), np.ones((30, L), dtype=bool)
    start = held & (np.arange(L) < 3)
    first = improve_by_swaps(indices, held, start, one, rounds=1)
    assert one.calls == 2
    assert ((first ^ start).sum(1) <= 2).all()
    improve_by_swaps(indices, held, start, many, rounds=1000)
    assert many.calls < 15
    assert (improve_by_swaps(indices, held, start, one, rounds=0) == start).all()


def test_a_redundant_pair_is_not_taken_twice_and_a_hidden_pair_is_the_known_limit():
    redundant, hidden = Worth(1, pairs=0.0), Worth(1, pairs=0.0)
    redundant.single[0] = [1.0, 1.0, 0.6, 0.5, 0, 0, 0]
    redundant.pair[0, 0, 1] = -1.0
    hidden.single[0] = [0.4, 0.3, 0, 0, 0, 0, 0]
    hidden.pair[0, 5, 6] = 2.0
    assert search(redundant, 1, 2)[0] == pytest.approx(-1.6)
    greedy, swapped, best = search(hidden, 1, 2)
    assert (greedy, swapped, best) == pytest.approx((-0.7, -0.7, -2.0))


def test_an_exhaustive_search_of_too_much_is_refused():
    held = np.ones((1, 40), dtype=bool)
    with pytest.raises(ValueError, match="too many"):
        exhaustive(np.array([0]), held, np.array([20]), lambda *_: np.zeros(1))


def test_planted_chunks_are_found_and_the_order_is_by_marginal_gain():
    problem = planted_problem(count=20)
    indices, held = np.arange(20), problem.chunk_masks(np.arange(20))
    order = greedy_order(indices, held, np.full(20, 3), problem.log_perplexity)
    planted = np.stack([problem.window(index).planted for index in indices])
    assert (as_sets(order, problem.num_chunks) == planted).all()
    prefixes = [as_sets(order[:, :n], problem.num_chunks) for n in range(4)]
    levels = np.stack([problem.log_perplexity(indices, sets) for sets in prefixes])
    gains = levels[:-1] - levels[1:]
    assert (np.diff(gains, axis=0) <= 1e-5).all()


def test_budget_is_met_and_padding_spared():
    problem = planted_problem(count=12, padding=True)
    indices, budgets = np.arange(12), np.array([1, 5, 40] * 4)
    masks = problem.chunk_masks(indices)
    expanded = Oracle(problem).choose(indices, budgets, problem.log_perplexity)
    assert not (expanded & ~masks).any()
    assert (expanded.sum(1) == np.minimum(budgets, masks.sum(1))).all()


def test_the_correction_removes_what_is_fitted_to_noise():
    problem = Noise(windows=60, tokens=31)
    indices, budgets = np.arange(60), np.full(60, 2)
    bounds = Oracle(problem).log_perplexity(indices, budgets)
    # A set chosen without the output is worth 3 nats on average; the raw oracle seems better.
    assert bounds["oracle"].mean() < 2.7
    assert bounds["oracle_split_half"].mean() == pytest.approx(3.0, abs=0.12)


def test_the_correction_keeps_what_is_true_of_both_halves():
    problem = planted_problem(count=20)
    bounds = Oracle(problem).log_perplexity(np.arange(20), np.full(20, 3))
    planted = np.stack([problem.window(index).planted for index in range(20)])
    best = problem.log_perplexity(np.arange(20), planted)
    assert bounds["oracle"].mean() == pytest.approx(best.mean(), abs=0.05)
    assert bounds["oracle_split_half"].mean() == pytest.approx(best.mean(), abs=0.35)
    assert (bounds["oracle"] <= bounds["oracle_split_half"] + 1e-6).mean() > 0.8


@pytest.mark.parametrize("tokens", [2, 5, 8])
def test_each_token_is_scored_once_under_the_set_of_the_other_half(tokens):
    problem = Noise(windows=3, tokens=tokens)
    indices = np.arange(3)
    a, b = np.eye(L, dtype=bool)[:3], np.eye(L, dtype=bool)[3:6]
    halves = HalvedScores(problem)
    under_a, under_b = (np.stack(problem.token_log_likelihood(indices, s)) for s in (a, b))
    mixed = np.where(np.arange(tokens) % 2 == 0, under_b, under_a)
    found = halves.cross_fitted(indices, chosen_on_even=a, chosen_on_odd=b)
    np.testing.assert_allclose(found, -mixed.mean(1), rtol=1e-5)
    scores = halves.scores(indices, a)
    np.testing.assert_allclose(scores[:, ALL], -under_a.mean(1), rtol=1e-5)
    np.testing.assert_allclose(scores[:, EVEN], -under_a[:, ::2].mean(1), rtol=1e-5)
    np.testing.assert_allclose(scores[:, ODD], -under_a[:, 1::2].mean(1), rtol=1e-5)


def test_no_set_is_read_twice():
    problem = planted_problem(count=6)
    read = []
    score = problem.token_log_likelihood
    problem.token_log_likelihood = lambda indices, expanded: (
        read.extend((int(i), row.tobytes()) for i, row in zip(indices, expanded, strict=True))
        or score(indices, expanded)
    )
    Oracle(problem).log_perplexity(np.arange(6), np.full(6, 3))
    assert len(read) == len(set(read)) > 6 * problem.num_chunks


def test_wrong_arguments_are_user_errors():
    for rounds in (-1, 1.5, True):
        with pytest.raises(UserError, match="oracle="):
            Oracle(planted_problem(count=2), rounds)
    with pytest.raises(UserError, match="output_length"):
        HalvedScores(Noise(1, tokens=1)).scores(np.array([0]), np.ones((1, L), dtype=bool))
