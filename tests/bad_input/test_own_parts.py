"""Classes of somebody's own that cannot be made, or that would take another's place."""

from __future__ import annotations

from typing import Any

import pytest

from refrag_rl.agents.heuristics import HEURISTICS
from tests.cli.running import InProcess


class Random:
    """A selector of somebody's own that has the name of a heuristic."""

    name = "random"

    def select(self, observation: Any, budget: Any, rng: Any) -> Any:
        return HEURISTICS["lead"]().select(observation, budget, rng)


class Reference(Random):
    """One that has the name of a reference row."""

    name = "full_context"


class Bound(Random):
    """One that has the name of the oracle's row."""

    name = "oracle"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (Random, "agent name random is taken by a heuristic"),
        (Reference, "agent name full_context is taken"),
        (Bound, "agent name oracle is taken"),
    ],
)
def test_a_selector_of_ones_own_does_not_take_the_place_of_another_row(
    in_process: InProcess, tiny: tuple[str, ...], own: type, said: str
) -> None:
    target = f"agent._target_={own.__module__}.{own.__qualname__}"
    outcome = in_process("train", "agent=random", target, *tiny)
    assert outcome.code == 2
    assert said in outcome.err


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("tests.bad_input.no_such_module.Agent", "set PYTHONPATH"),
        ("tests.bad_input.own_parts_that_fail.Agent", "unknown chunk feature 'positon'"),
    ],
)
def test_why_ones_own_class_cannot_be_made_is_said(
    in_process: InProcess, tiny: tuple[str, ...], target: str, reason: str
) -> None:
    outcome = in_process("train", "agent=random", f"agent._target_={target}", *tiny)
    assert outcome.code == 2
    assert f"agent._target_={target}: " in outcome.err and reason in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 2
