"""The VecEnv contract, and a learner of sb3-contrib on top of it."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from refrag_rl.envs import SelectiveExpansionEnv
from refrag_rl.envs.sb3 import SelectiveExpansionVecEnv
from tests.toy_problem import NUM_CHUNKS, ToyRewardModel, toy_problem


def assert_same_observations(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].dtype == right[key].dtype
        np.testing.assert_array_equal(left[key], right[key])


@pytest.mark.parametrize("timing", ["terminal", "per_step"])
def test_view_equals_the_dummy_vec_env_of_single_environments(timing: Any) -> None:
    options: dict[str, Any] = {"budget": [1, 3], "reward_timing": timing}
    ours = SelectiveExpansionVecEnv(toy_problem(), 4, **options)
    theirs = DummyVecEnv([lambda: SelectiveExpansionEnv(toy_problem(), **options)] * 4)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.seed(5) == theirs.seed(5)
    assert_same_observations(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.integers(NUM_CHUNKS, size=4)
        ours_step, theirs_step = ours.step(actions), theirs.step(actions)
        assert_same_observations(ours_step[0], theirs_step[0])
        for mine, other in zip(ours_step[1:3], theirs_step[1:3], strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_allclose(mine, other, rtol=1e-5)
        for mine, other in zip(ours_step[3], theirs_step[3], strict=True):
            assert mine.keys() == other.keys()
            np.testing.assert_array_equal(mine["action_mask"], other["action_mask"])
            if "terminal_observation" in mine:
                assert_same_observations(
                    mine["terminal_observation"], other["terminal_observation"]
                )
                assert mine["log_perplexity"] == pytest.approx(other["log_perplexity"])
        for mine, other in zip(ours.reset_infos, theirs.reset_infos, strict=True):
            assert mine["window"] == other["window"]


def test_episodes_that_end_together_are_scored_in_one_call() -> None:
    problem = toy_problem(1)
    env = SelectiveExpansionVecEnv(problem, 8)
    env.reset()
    env.step(np.zeros(8, dtype=np.int64))
    assert isinstance(problem.reward_model, ToyRewardModel)
    assert problem.reward_model.calls == [8]


def test_action_masks() -> None:
    env = SelectiveExpansionVecEnv(toy_problem(2), 3)
    assert is_masking_supported(env)
    env.set_options({"window": 2})
    env.reset()
    env.step(np.array([0, 1, 2]))
    masks = env.env_method("action_masks")
    assert [mask.shape for mask in masks] == [(NUM_CHUNKS,)] * 3
    assert all(mask.dtype == bool for mask in masks)
    expected = [[0, 1, 1, 1, 0, 0], [1, 0, 1, 1, 0, 0], [1, 1, 0, 1, 0, 0]]
    np.testing.assert_array_equal(get_action_masks(env), expected)
    np.testing.assert_array_equal(env.env_method("action_masks", indices=[2, 0])[0], expected[2])


def test_attributes_and_methods_of_sub_environments() -> None:
    problem = toy_problem()
    env = SelectiveExpansionVecEnv(problem, 3, render_mode="ansi")
    assert env.get_attr("problem") == [problem] * 3
    assert env.render_mode == "ansi"
    env.set_attr("colour", "red", indices=1)
    assert env.get_attr("colour", indices=[1]) == ["red"]
    assert not env.has_attr("colour")
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False] * 3
    env.set_options([{"window": index} for index in (4, 5, 6)])
    env.reset()
    texts = env.env_method("render")
    assert ["toy-4" in texts[0], "toy-5" in texts[1], "toy-6" in texts[2]] == [True] * 3
    env.close()


def test_options_and_seeds_hold_for_one_reset() -> None:
    env = SelectiveExpansionVecEnv(toy_problem(), 2)
    env.set_options({"window": 3, "budget": 1})
    env.reset()
    assert [info["window"] for info in env.reset_infos] == [3, 3]
    assert [info["budget"] for info in env.reset_infos] == [1, 1]
    env.reset()
    assert [info["budget"] for info in env.reset_infos] == [2, 2]
    env.seed(0)
    drawn = []
    for _ in range(6):
        env.reset()
        drawn.append(env.reset_infos[0]["window"])
    assert len(set(drawn)) > 1


@pytest.mark.parametrize("flat", [True, False])
def test_maskable_ppo_trains_and_never_picks_a_forbidden_chunk(
    flat: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path))
    env = VecMonitor(SelectiveExpansionVecEnv(toy_problem([1, 4]), 4, flat=flat, strict=True))
    model = MaskablePPO(
        "MultiInputPolicy",
        env,
        n_steps=8,
        batch_size=16,
        n_epochs=2,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [8]},
    )
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    # ``strict`` makes a forbidden action raise.
    model.learn(64, use_masking=True)
    assert model.num_timesteps == 64
    assert any(
        not old.equal(new) for old, new in zip(before, model.policy.parameters(), strict=True)
    )
    assert len(model.ep_info_buffer or []) > 4
