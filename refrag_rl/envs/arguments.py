"""From the arguments of an environment to its problem."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from refrag_rl.envs.budget import BudgetSpec
from refrag_rl.envs.options import BaselineName, RewardName
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.errors import UserError

COMPOSED_FROM = (
    "corpus",
    "windows",
    "refrag",
    "split",
    "count",
    "seed",
    "features",
    "chunk_embeddings",
    "overrides",
)
"""Arguments that the default problem is composed of: those of ``default_problem``."""


def resolve_problem(
    problem: ExpansionProblem | None,
    *,
    budget: BudgetSpec | None,
    reward: RewardName | None,
    reward_baseline: BaselineName | None,
    composition: Mapping[str, Any],
) -> ExpansionProblem:
    """Return the problem that the arguments of an environment describe.

    Args:
        problem: A problem, or ``None`` to compose the default one.
        budget: Overrides the problem's; ``None`` leaves it. So do the next two.
        reward: Overrides the problem's.
        reward_baseline: Overrides the problem's.
        composition: What the default problem is composed of (``corpus``, ``windows``, ...).

    Raises:
        TypeError: There is no such argument. In Python's own words, by which TorchRL's ``GymEnv``
            finds out what an environment takes.
        UserError: Both a problem and parts to compose one of are given, or a value is wrong.
    """
    for name in composition:
        if name not in COMPOSED_FROM:
            raise TypeError(
                f"__init__() got an unexpected keyword argument '{name}'\n"
                f"without problem=, these are known, too: {', '.join(COMPOSED_FROM)}"
            )
    options: dict[str, Any] = {
        "budget": budget,
        "reward": reward,
        "reward_baseline": reward_baseline,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if problem is None:
        # By name: composing is the commands' business, and costs the import of torch.
        composer = importlib.import_module("refrag_rl.default_problem")
        return composer.default_problem(**composition, **given)
    if not isinstance(problem, ExpansionProblem):
        raise UserError(f"problem must be an ExpansionProblem, not {type(problem).__name__}.")
    if composition:
        raise UserError(
            f"With problem=, these arguments say nothing: {', '.join(composition)}.\n"
            "Leave them out, or leave out problem= to have one composed."
        )
    return problem.variant(**given) if given else problem
