"""The environment on a real, tiny, random REFRAG."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import refrag_rl  # noqa: F401  (registers the environment)
from refrag_rl.corpora.windows import Window
from refrag_rl.envs import ExpansionProblem, SelectiveExpansionEnv, SelectiveExpansionVectorEnv
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.reward import RewardModel
from tests.tiny_models import CHUNK_SIZE, byte_level_tokenizer, random_window, tiny_refrag
from tests.toy_problem import with_output

ENV_ID = "refrag_rl/SelectiveExpansion-v0"


class RandomWindows:
    num_chunks = 6
    chunk_size = CHUNK_SIZE
    kind = "contiguous"

    def __init__(self, *, other_output: bool = False) -> None:
        self.other_output = other_output

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Window:
        window = random_window(index, padding_chunks=index % 3, prompt_length=5 if index % 2 else 0)
        return with_output(window, window.context_ids[0]) if self.other_output else window


def real_reward_model() -> RewardModel:
    tokenizer = ChunkTokenizer(byte_level_tokenizer(), start_token_id=1)
    return RewardModel(tiny_refrag(), tokenizer)


@pytest.fixture(scope="module")
def problem() -> ExpansionProblem:
    return ExpansionProblem(RandomWindows(), real_reward_model(), [1, 3])


def test_checkers(problem: ExpansionProblem) -> None:
    env = gymnasium.make(ENV_ID, problem=problem)
    check_gymnasium_env(env.unwrapped)
    check_sb3_env(env)


def test_vector_rewards_equal_single_rewards(problem: ExpansionProblem) -> None:
    vector = SelectiveExpansionVectorEnv(problem, 4, budget=2)
    _, infos = vector.reset(seed=0)
    vector.step(np.full(4, 1))
    _, rewards, ended, _, _ = vector.step(np.full(4, 3))
    assert ended.all()
    fresh = ExpansionProblem(RandomWindows(), real_reward_model(), 2)
    for row, window in enumerate(infos["window"]):
        env = SelectiveExpansionEnv(fresh)
        env.reset(options={"window": int(window)})
        env.step(3)
        assert env.step(1)[1] == pytest.approx(rewards[row], abs=1e-4)
    assert len(set(rewards.tolist())) > 1


def test_gains_sum_to_the_baselined_terminal_reward(problem: ExpansionProblem) -> None:
    totals = []
    for timing in ("terminal", "per_step"):
        env = SelectiveExpansionEnv(
            problem,
            budget=3,
            reward_baseline="compressed",
            reward_timing=timing,  # type: ignore[arg-type]
        )
        env.reset(options={"window": 1})
        totals.append(sum(env.step(action)[1] for action in (4, 4, 0)))
    assert totals[0] == pytest.approx(totals[1], abs=1e-4)
    assert abs(totals[0]) > 1e-4


def test_the_output_does_not_leak_into_the_observation() -> None:
    # Two reward models, so that neither finds the other's windows in its cache.
    plain = ExpansionProblem(RandomWindows(), real_reward_model(), 2)
    other = ExpansionProblem(RandomWindows(other_output=True), real_reward_model(), 2)
    indices, nothing = np.arange(8), np.zeros((8, 6), dtype=bool)
    for key, value in plain.observe(indices).items():
        np.testing.assert_allclose(value, other.observe(indices)[key], atol=1e-5)  # type: ignore[literal-required]
    assert not np.allclose(
        plain.log_perplexity(indices, nothing), other.log_perplexity(indices, nothing), atol=0.01
    )


def test_make_without_a_problem_composes_one(tiny_checkpoint: Path, tiny_corpus: Path) -> None:
    parts = {
        "corpus": "files",
        "windows": "contiguous",
        "refrag": str(tiny_checkpoint),
        "count": 5,
        "overrides": (
            f"corpus.path={tiny_corpus}",
            "windows.context_length=64",
            "windows.prompt_length=8",
            "windows.output_length=16",
        ),
    }
    env = gymnasium.make(ENV_ID, budget="2x", render_mode="ansi", **parts)
    _, info = env.reset(seed=0)
    assert info["action_mask"].shape == (8,)
    assert info["budget"] == 3
    assert str(info["window_key"]) in str(env.render())
    vector = gymnasium.make_vec(ENV_ID, num_envs=2, budget="2x", **parts)
    assert vector.reset(seed=0)[1]["window"][0] == info["window"]
