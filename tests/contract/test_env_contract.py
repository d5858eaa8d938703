"""The environment keeps Gymnasium's contract and Stable-Baselines3's, without a warning.

Warnings are errors here; Gymnasium's go through its logger, which the fixture turns into errors.
"""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import refrag_rl  # noqa: F401  (registers the environment)
from refrag_rl.envs import SelectiveExpansionEnv, SelectiveExpansionVectorEnv
from tests.toy_problem import toy_problem

ENV_ID = "refrag_rl/SelectiveExpansion-v0"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"budget": [1, 4], "reward_timing": "per_step"},
    {"budget": 1, "reward": "neg_perplexity", "reward_baseline": "compressed"},
    {"budget": "2x", "render_mode": "ansi"},
]


@pytest.fixture(autouse=True)
def gymnasium_warnings_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: str, *args: Any, **kwargs: Any) -> None:
        raise AssertionError(message % args if args else message)

    monkeypatch.setattr("gymnasium.logger.warn", fail)


@pytest.mark.parametrize("options", OPTIONS)
def test_gymnasium_check_env(options: dict[str, Any]) -> None:
    env = gymnasium.make(ENV_ID, problem=toy_problem(), **options)
    check_gymnasium_env(env.unwrapped)


@pytest.mark.parametrize("options", OPTIONS)
def test_stable_baselines3_check_env(options: dict[str, Any]) -> None:
    check_sb3_env(gymnasium.make(ENV_ID, problem=toy_problem(), **options))
    check_sb3_env(SelectiveExpansionEnv(toy_problem(), **options), skip_render_check=False)


def test_layout_with_rows_passes_gymnasiums_check_too() -> None:
    check_gymnasium_env(gymnasium.make(ENV_ID, problem=toy_problem(), flat=False).unwrapped)


def test_the_warning_catcher_catches() -> None:
    class Seeded(SelectiveExpansionEnv):
        def reset(self, *, seed: int | None = 0, options: dict[str, Any] | None = None) -> Any:
            return super().reset(seed=seed, options=options)

    with pytest.raises(AssertionError, match="default seed argument"):
        check_gymnasium_env(Seeded(toy_problem()))


def test_make_takes_the_problem_itself_and_so_do_copies_of_the_spec() -> None:
    problem = toy_problem()
    env = gymnasium.make(ENV_ID, problem=problem)
    assert env.unwrapped.problem is problem  # type: ignore[attr-defined]
    assert env.spec is not None
    again = env.spec.make()
    assert again.unwrapped.problem is problem  # type: ignore[attr-defined]


def test_make_vec_is_natively_batched_by_default() -> None:
    problem = toy_problem()
    for mode in ("vector_entry_point", None):
        env = gymnasium.make_vec(ENV_ID, num_envs=8, vectorization_mode=mode, problem=problem)
        assert isinstance(env, SelectiveExpansionVectorEnv)
        assert env.num_envs == 8
        assert env.problem is problem
        assert env.spec is not None
        assert gymnasium.make_vec(env.spec).num_envs == 8


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("timing", ["terminal", "per_step"])
def test_vector_view_equals_gymnasiums_own_vectorisation(mode: str, timing: Any) -> None:
    options: dict[str, Any] = {"budget": [1, 3], "reward_timing": timing}
    ours = SelectiveExpansionVectorEnv(toy_problem(), 5, autoreset_mode=mode, **options)
    theirs = SyncVectorEnv(
        [lambda: SelectiveExpansionEnv(toy_problem(), **options)] * 5,
        autoreset_mode=AutoresetMode(mode),
    )
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    assert ours.observation_space == theirs.observation_space
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.action_space
    assert_same(ours.reset(seed=11), theirs.reset(seed=11))
    rng = np.random.default_rng(0)
    for number in range(30):
        actions = rng.integers(6, size=5)
        outcome = ours.step(actions)
        assert outcome[0] in ours.observation_space
        assert_same(outcome, theirs.step(actions))
        if number == 20:
            assert outcome[2].any(), "no episode has just ended"
            assert_same(ours.reset(), theirs.reset())


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, tuple) or (isinstance(left, np.ndarray) and left.dtype == object):
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=1e-5)
    else:
        assert left == right


def test_vector_view_returns_new_data_at_every_call() -> None:
    env = SelectiveExpansionVectorEnv(toy_problem(3), 2, autoreset_mode="SameStep")
    kept = [env.reset(seed=0)[0]]
    kept += [env.step(env.action_masks().argmax(axis=1))[0] for _ in range(7)]
    for number, one in enumerate(kept):
        for other in kept[number + 1 :]:
            for key in one:
                assert not np.shares_memory(one[key], other[key])
