"""Tints: probabilities add up to the budget, scores fill 0 to 1, padding has none."""

from __future__ import annotations

import numpy as np
import pytest

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.page.tints import tint_of
from tests.toy_problem import toy_problem

INDICES = np.arange(12)
BUDGET = np.full(12, 2)


@pytest.mark.parametrize("name", HEURISTICS)
def test_tints_of_heuristics(name: str) -> None:
    problem = toy_problem()
    selector = HEURISTICS[name]()
    observation = problem.observe(INDICES, BUDGET)
    held = problem.chunk_masks(INDICES)
    expanded = selector.select(observation, BUDGET, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    kind, values = tint_of(selector, observation, BUDGET, expanded, rng)
    assert values.shape == held.shape
    assert values.min() >= 0
    assert values.max() <= 1
    assert (values[~held] == 0).all()
    if name == "random":
        assert kind == "probability"
        np.testing.assert_allclose(values.sum(axis=1), BUDGET)
    elif kind == "score":
        # No compressed chunk has a higher score than an expanded one.
        lowest = np.where(expanded, values, np.inf).min(axis=1)
        assert (np.where(held & ~expanded, values, -np.inf).max(axis=1) <= lowest).all()


def test_a_selector_that_only_selects() -> None:
    class First:
        name = "first"

        def select(self, *_: object) -> None: ...

    problem = toy_problem()
    expanded = np.arange(6)[None] < BUDGET[:, None]
    observation = problem.observe(INDICES, BUDGET)
    rng = np.random.default_rng(0)
    kind, values = tint_of(First(), observation, BUDGET, expanded, rng)  # type: ignore[arg-type]
    assert kind == "selection"
    np.testing.assert_array_equal(values, expanded)
