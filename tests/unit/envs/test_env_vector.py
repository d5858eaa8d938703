from typing import Any

import numpy as np
import pytest

from refrag_rl.envs import SelectiveExpansionVectorEnv
from refrag_rl.errors import UserError
from tests.toy_problem import toy_problem


def first_allowed(masks: np.ndarray) -> np.ndarray:
    return masks.argmax(axis=1)


@pytest.mark.parametrize("baseline", ["none", "compressed"])
def test_episodes_that_end_together_are_scored_in_one_call(baseline: Any) -> None:
    problem = toy_problem(2, reward_baseline=baseline)
    env = SelectiveExpansionVectorEnv(problem, 8)
    env.reset(seed=0)
    calls: list[int] = problem.reward_model.calls  # type: ignore[attr-defined]
    _, _, ended, _, _ = env.step(first_allowed(env.action_masks()))
    assert not ended.any()
    assert calls == []
    _, _, ended, _, _ = env.step(first_allowed(env.action_masks()))
    assert ended.all()
    assert len(calls) == 1


def test_per_step_rewards_take_one_call_a_step() -> None:
    problem = toy_problem([1, 4])
    env = SelectiveExpansionVectorEnv(problem, 8, reward_timing="per_step")
    env.reset(seed=0)
    for step in range(1, 7):
        env.step(first_allowed(env.action_masks()))
        assert len(problem.reward_model.calls) == step  # type: ignore[attr-defined]


def test_next_step_autoreset_ignores_the_action_and_starts_anew() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem(1), 2)
    env.reset(seed=0, options={"window": [0, 1]})
    observation, rewards, ended, truncated, infos = env.step(np.array([3, 2]))
    assert ended.all()
    assert not truncated.any()
    assert (rewards != 0).all()
    assert observation["expanded"].argmax(axis=1).tolist() == [3, 2]
    np.testing.assert_allclose(rewards, -infos["log_perplexity"])
    assert infos["_log_perplexity"].all()
    observation, rewards, ended, _, infos = env.step(np.array([99, -1]))
    assert not ended.any()
    assert not rewards.any()
    assert not observation["expanded"].any()
    assert "log_perplexity" not in infos


def test_same_step_autoreset_keeps_the_last_observation_and_info() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem([1, 2]), 6, autoreset_mode="SameStep")
    env.reset(seed=0)
    observation, rewards, ended, _, infos = env.step(first_allowed(env.action_masks()))
    assert 0 < ended.sum() < 6
    np.testing.assert_array_equal(infos["_final_info"], ended)
    np.testing.assert_allclose(rewards[ended], -infos["final_info"]["log_perplexity"][ended])
    for row in np.flatnonzero(ended):
        assert infos["final_obs"][row]["expanded"].sum() == 1
        assert not observation["expanded"][row].any()
    assert (observation["expanded"][~ended].sum(axis=1) == 1).all()
    assert (observation["budget_left"] > 0).all()


def test_infos_are_arrays_with_a_row_for_each_environment() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem(1), 3)
    _, infos = env.reset(options={"window": [5, 2, 5], "budget": 1})
    assert infos["window"].tolist() == [5, 2, 5]
    assert infos["window_key"].tolist() == ["toy-5", "toy-2", "toy-5"]
    np.testing.assert_array_equal(infos["action_mask"], env.action_masks())


def test_seeds() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem([1, 6]), 4)
    windows = [env.reset(seed=seed)[1]["window"].tolist() for seed in (7, [7, 8, 9, 10], 8)]
    assert windows[0] == windows[1]
    assert windows[0][1:] == windows[2][:3]
    with pytest.raises(UserError, match="seeds"):
        env.reset(seed=[1, 2])


def test_strict_takes_no_step_anywhere() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem(2), 2, strict=True)
    env.reset(options={"window": [0, 2]})
    with pytest.raises(ValueError, match="environment 1"):
        env.step(np.array([0, 5]))
    observation, _, _, _, _ = env.step(np.array([0, 0]))
    assert observation["budget_left"].tolist() == [[1], [1]]


@pytest.mark.parametrize(
    "actions", [np.array([0]), np.array([0, 6]), np.array([0.0, 1.0]), np.array([[0, 1]])]
)
def test_actions_that_are_none(actions: np.ndarray) -> None:
    env = SelectiveExpansionVectorEnv(toy_problem(2), 2)
    env.reset()
    with pytest.raises(ValueError, match=r"no chunk|whole numbers"):
        env.step(actions)


@pytest.mark.parametrize(
    "options",
    [{"num_envs": 0}, {"num_envs": "3"}, {"num_envs": 2.0}, {"autoreset_mode": "Disabled"}],
)
def test_wrong_arguments_are_user_errors(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        SelectiveExpansionVectorEnv(toy_problem(), **options)


def test_reset_options_that_are_wrong() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem(), 2)
    with pytest.raises(UserError, match="3 windows"):
        env.reset(options={"window": [0, 1, 2]})


def test_render() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem(), 2, render_mode="ansi")
    env.reset(options={"window": [4, 5]})
    texts = env.render()
    assert texts is not None
    assert ["toy-4" in texts[0], "toy-5" in texts[1]] == [True, True]
