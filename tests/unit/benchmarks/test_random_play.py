"""Random play through the views: as many steps as the budgets say, and only permitted ones."""

from __future__ import annotations

from typing import Any

import pytest

from refrag_rl.benchmarks.random_play import VIEWS
from refrag_rl.envs import dynamics
from tests.toy_problem import toy_problem


@pytest.mark.parametrize("view", VIEWS)
def test_steps_are_those_of_the_budgets(view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = []
    step = dynamics.step

    def watched(*arguments: Any) -> Any:
        after, refused = step(*arguments)
        forbidden.append(refused.any())
        return after, refused

    monkeypatch.setattr(dynamics, "step", watched)
    played = VIEWS[view](toy_problem(3), 4, "terminal", 10, 0)
    # All episodes have one length here, so those side by side end together.
    assert played.episodes == (10 if view == "single" else 12)
    assert played.steps == 3 * played.episodes
    assert forbidden
    assert not any(forbidden)
