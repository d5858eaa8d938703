"""The embedded checkpoint uses its context: what every comparison of selectors rests on.

Held-out documents of ``docs`` only; some of their text is copied in others that the model has read
(docs/concepts.md).
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.shipped import FOLDER, find_shipped
from refrag_rl.default_problem import default_problem
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.modeling.checkpoint import load_refrag
from refrag_rl.modeling.fingerprint import fingerprint
from refrag_rl.observation import inputs_of
from refrag_rl.reward import RewardModel

pytestmark = pytest.mark.slow

Losses = NDArray[np.floating]


def held_out(windows: str, count: int) -> ExpansionProblem:
    return default_problem(windows=windows, split="test", count=count, budget=5)


def full_and_none(problem: ExpansionProblem) -> tuple[Losses, Losses]:
    indices = np.arange(len(problem))
    full = problem.log_perplexity(indices, problem.chunk_masks(indices))
    model = problem.reward_model
    assert isinstance(model, RewardModel)
    windows = [problem.window(index) for index in indices]
    return full, model.log_perplexity_of_last_tokens(windows, 0)


def upper_end(difference: Losses) -> float:
    """Return the upper end of the 95 % interval of the mean, by the normal approximation."""
    return float(difference.mean() + 1.96 * difference.std(ddof=1) / np.sqrt(len(difference)))


def test_full_context_halves_the_log_perplexity_of_recall() -> None:
    full, none = full_and_none(held_out("recall", 64))
    assert full.mean() <= 0.5 * none.mean()


def test_retrieved_passages_help() -> None:
    full, none = full_and_none(held_out("retrieved", 96))
    assert (full - none).mean() <= -0.1
    assert upper_end(full - none) < 0


def test_more_random_chunks_are_better_on_recall() -> None:
    problem = held_out("recall", 64)
    indices = np.arange(len(problem))
    rng = np.random.default_rng(0)
    order = np.argsort(rng.random((4, len(indices), problem.num_chunks)), axis=-1)
    rank = np.argsort(order, axis=-1)
    means = [
        np.mean([problem.log_perplexity(indices, draw < count).mean() for draw in rank])
        for count in (0, 4, 8, 16, 32)
    ]
    assert all(more < fewer for fewer, more in pairwise(means)), means


def test_planted_chunks_are_worth_more_than_as_many_others() -> None:
    problem = held_out("recall", 64)
    indices = np.arange(len(problem))
    planted = np.stack([problem.window(index).planted for index in indices])
    others = np.roll(planted, planted.shape[1] // 2, axis=1) & ~planted
    difference = problem.log_perplexity(indices, planted) - problem.log_perplexity(indices, others)
    assert difference.mean() < -0.5
    assert upper_end(difference) < 0


@pytest.mark.parametrize("windows", ["contiguous", "retrieved", "recall"])
def test_checkers_pass_without_warnings(
    windows: str, recwarn: pytest.WarningsRecorder, checked: Callable[..., None]
) -> None:
    checked(windows)
    assert not [str(warning.message) for warning in recwarn]


@pytest.fixture
def checked() -> Callable[..., None]:
    def check(windows: str) -> None:
        import gymnasium
        from gymnasium.utils.env_checker import check_env
        from stable_baselines3.common.env_checker import check_env as check_env_sb3

        import refrag_rl  # noqa: F401  (registers the environment)

        env = gymnasium.make(
            "refrag_rl/SelectiveExpansion-v0", windows=windows, count=50, split="test"
        )
        check_env(env.unwrapped)
        check_env_sb3(env.unwrapped)

    return check


def test_each_policy_of_the_package_is_for_its_model_as_it_is_now() -> None:
    folders = sorted(path.parent for path in FOLDER.glob("*/*/policy.json"))
    assert folders
    for folder in folders:
        model = load_refrag(folder.parent.name).model
        policy = PolicySelector.load(folder)
        policy.require_model(model.embedding_size, fingerprint(model))
        assert (folder / "README.md").is_file()


def test_the_default_policy_beats_the_best_heuristic_where_few_chunks_may_be_expanded() -> None:
    problem = held_out("recall", 48)
    fingerprint_of_model = problem.refrag
    assert fingerprint_of_model is not None
    policy = PolicySelector.load(find_shipped("policy:default", fingerprint_of_model))
    indices, budgets = np.arange(len(problem)), np.full(len(problem), 2)
    losses = []
    for selector in (policy, HEURISTICS["successor"]()):
        observation = problem.observe(indices, budgets, inputs_of(selector))
        expanded = selector.select(observation, budgets, np.random.default_rng(0))
        losses.append(problem.log_perplexity(indices, expanded))
    assert upper_end(losses[0] - losses[1]) < 0
