import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

from refrag_rl.envs import SelectiveExpansionEnv, as_chunks
from refrag_rl.errors import UserError
from refrag_rl.observation import CHUNK_FEATURES
from tests.toy_problem import EMBEDDING_SIZE, NUM_CHUNKS, toy_problem


def play(env: SelectiveExpansionEnv, actions: list[int]) -> tuple[list[float], dict[str, Any]]:
    """Take the actions; the last must end the episode, and no other."""
    rewards, info = [], {}
    for number, action in enumerate(actions, start=1):
        _, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        assert terminated == (number == len(actions))
        assert not truncated
    return rewards, info


def test_import_leaves_torch_alone() -> None:
    code = (
        "import sys, refrag_rl; assert 'torch' not in sys.modules; import refrag_rl.envs; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_terminal_reward_is_that_of_the_expanded_set() -> None:
    problem = toy_problem(3)
    env = SelectiveExpansionEnv(problem)
    env.reset(options={"window": 4})
    rewards, info = play(env, [5, 0, 2])
    expanded = np.array([1, 0, 1, 0, 0, 1], dtype=bool)
    log_perplexity = problem.log_perplexity([4], expanded[None])[0]
    assert rewards == [0, 0, pytest.approx(-log_perplexity)]
    assert info["log_perplexity"] == pytest.approx(log_perplexity)
    assert info["perplexity"] == pytest.approx(np.exp(log_perplexity))
    assert info["compression_rate"] == pytest.approx(24 / (3 + 3 * 4))
    np.testing.assert_array_equal(info["expanded"], expanded)
    assert (info["window"], info["window_key"], info["budget"]) == (4, "toy-4", 3)
    assert info["forbidden_actions"] == 0


@pytest.mark.parametrize("reward", ["neg_log_perplexity", "neg_perplexity"])
@pytest.mark.parametrize("actions", [[5, 0, 2], [5, 5, 5], [1, 1, 0], [0, 1, 1]])
def test_gains_sum_to_the_terminal_reward_less_that_of_nothing_expanded(
    reward: Any, actions: list[int]
) -> None:
    sums = {}
    for timing in ("terminal", "per_step"):
        for baseline in ("none", "compressed"):
            problem = toy_problem(3, reward=reward, reward_baseline=baseline)
            env = SelectiveExpansionEnv(problem, reward_timing=timing)  # type: ignore[arg-type]
            env.reset(options={"window": 0})
            rewards, info = play(env, actions)
            sums[timing, baseline] = sum(rewards)
            assert np.isfinite(info["log_perplexity"])
    constant = toy_problem(reward=reward).rewards([0], np.zeros((1, NUM_CHUNKS), dtype=bool))[0]
    expected = pytest.approx(sums["terminal", "none"] - constant, abs=1e-5)
    assert sums["per_step", "none"] == expected
    assert sums["per_step", "compressed"] == expected
    assert sums["terminal", "compressed"] == expected


def test_a_gain_comes_with_the_step_that_made_it() -> None:
    problem = toy_problem(2)
    env = SelectiveExpansionEnv(problem, reward_timing="per_step")
    env.reset(options={"window": 0})
    rewards, _ = play(env, [4, 1])
    sets = np.array([[0] * 6, [0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 1, 0]], dtype=bool)
    scored = problem.log_perplexity([0, 0, 0], sets).astype(np.float64)
    np.testing.assert_allclose(rewards, scored[:-1] - scored[1:], rtol=1e-5)


def test_forbidden_action_is_flagged_and_spends_a_step() -> None:
    env = SelectiveExpansionEnv(toy_problem(2))
    _, info = env.reset(options={"window": 2})
    assert "forbidden_action" not in info
    observation, _, terminated, _, info = env.step(5)
    assert info["forbidden_action"] is True
    assert observation["budget_left"] == [1]
    assert not observation["expanded"].any()
    assert not terminated
    _, _, terminated, _, info = env.step(0)
    assert info["forbidden_action"] is False
    assert terminated
    assert info["forbidden_actions"] == 1


def test_strict_raises_and_takes_no_step() -> None:
    env = SelectiveExpansionEnv(toy_problem(2), strict=True)
    env.reset(options={"window": 2})
    env.step(1)
    with pytest.raises(ValueError, match=r"Action 1 is forbidden.*\[0, 2, 3\]"):
        env.step(1)
    assert env.step(0)[2]


@pytest.mark.parametrize("action", [-1, NUM_CHUNKS, 0.5])
def test_action_that_is_no_chunk(action: Any) -> None:
    env = SelectiveExpansionEnv(toy_problem(2))
    env.reset()
    with pytest.raises(ValueError, match=r"no chunk|whole numbers"):
        env.step(action)


def test_step_outside_an_episode() -> None:
    env = SelectiveExpansionEnv(toy_problem(1))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset()
    env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(1)


@pytest.mark.parametrize("budget", [3, 0.5, [3, 3]])
def test_reset_pins_window_and_budget(budget: Any) -> None:
    env = SelectiveExpansionEnv(toy_problem(1))
    observation, info = env.reset(options={"window": 7, "budget": budget})
    assert (info["window"], info["budget"]) == (7, 3)
    assert observation["budget_left"] == [3]
    env.reset(seed=0)
    assert env.reset()[1]["budget"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"window": 12},
        {"window": -1},
        {"window": 1.5},
        {"window": [1]},
        {"window": True},
        {"budget": 0},
        {"seed": 1},
    ],
)
def test_reset_options_that_are_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        SelectiveExpansionEnv(toy_problem()).reset(options=options)


def test_both_layouts_hold_the_same_numbers() -> None:
    flat, _ = SelectiveExpansionEnv(toy_problem()).reset(seed=3)
    rows, _ = SelectiveExpansionEnv(toy_problem(), flat=False).reset(seed=3)
    assert flat["features"].shape == (NUM_CHUNKS * len(CHUNK_FEATURES),)
    assert rows["features"].shape == (NUM_CHUNKS, len(CHUNK_FEATURES))
    assert rows["chunk_embeddings"].shape == (NUM_CHUNKS, EMBEDDING_SIZE)
    for observation in (flat, rows):
        for key, value in as_chunks(observation).items():
            np.testing.assert_array_equal(value, rows[key])


def test_action_masks_say_what_the_rules_allow() -> None:
    env = SelectiveExpansionEnv(toy_problem(2))
    observation, info = env.reset(options={"window": 2})
    for _ in range(2):
        mask = env.action_masks()
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, observation["action_mask"])
        np.testing.assert_array_equal(mask, info["action_mask"])
        action = env.action_space.sample(info["action_mask"])
        observation, _, _, _, info = env.step(action)
        assert info["forbidden_action"] is False


@pytest.mark.parametrize(
    "options",
    [
        {"reward_timing": "never"},
        {"render_mode": "human"},
        {"reward": "accuracy"},
        {"budget": "9x"},
        {"corpus": "docs"},
        {"strict": "no"},
        {"flat": 1},
    ],
)
def test_wrong_arguments_are_user_errors(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        SelectiveExpansionEnv(toy_problem(), **options)


def test_problem_must_be_one() -> None:
    with pytest.raises(UserError, match="ExpansionProblem"):
        SelectiveExpansionEnv("docs")  # type: ignore[arg-type]


def test_render() -> None:
    env = SelectiveExpansionEnv(toy_problem(2), render_mode="ansi")
    env.reset(options={"window": 0})
    env.step(3)
    text = env.render()
    assert text is not None
    assert "[+]   3  chunk 3" in text
    assert SelectiveExpansionEnv(toy_problem()).render() is None


@pytest.mark.parametrize("baseline", ["successor", "best_heuristic"])
def test_gains_of_steps_have_no_heuristic_as_baseline(baseline: Any) -> None:
    problem = toy_problem(2, reward_baseline=baseline)
    with pytest.raises(UserError, match="reward_timing=per_step gives gains over nothing expanded"):
        SelectiveExpansionEnv(problem, reward_timing="per_step")
