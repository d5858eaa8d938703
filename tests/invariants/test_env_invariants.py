"""Invariants 3 and 4 of the design, and what 2 and 6 ask of the environment."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrag_rl.envs import SelectiveExpansionEnv, SelectiveExpansionVectorEnv
from refrag_rl.envs.sb3 import SelectiveExpansionVecEnv
from tests.toy_problem import NUM_CHUNKS, toy_problem

NUM_ENVS = 3
EPISODES = 4


class Episode(NamedTuple):
    window: int
    budget: int
    rewards: list[float]
    actions: list[int]
    expanded: list[bool]
    log_perplexity: float
    observations: list[dict[str, np.ndarray]]


def choose(mask: np.ndarray, rng: np.random.Generator, obey: bool) -> int:
    return int(rng.choice(np.flatnonzero(mask)) if obey else rng.integers(NUM_CHUNKS))


class Recorder:
    """Collects the episodes of one sub-environment; its actions depend on nothing else."""

    def __init__(self, row: int, obey: bool) -> None:
        self.rng = np.random.default_rng([9, row])
        self.obey = obey
        self.episodes: list[Episode] = []
        self._rewards: list[float] = []
        self._actions: list[int] = []
        self._observations: list[dict[str, np.ndarray]] = []

    def act(self, observation: dict[str, Any], mask: np.ndarray) -> int:
        self._observations.append({key: np.array(value) for key, value in observation.items()})
        self._actions.append(choose(mask, self.rng, self.obey))
        return self._actions[-1]

    def see(self, reward: float, info: dict[str, Any], ended: bool) -> None:
        self._rewards.append(float(reward))
        if ended:
            self.episodes.append(
                Episode(
                    window=int(info["window"]),
                    budget=int(info["budget"]),
                    rewards=self._rewards,
                    actions=self._actions,
                    expanded=np.asarray(info["expanded"]).tolist(),
                    log_perplexity=float(info["log_perplexity"]),
                    observations=self._observations,
                )
            )
            self._rewards, self._actions, self._observations = [], [], []


def row_of(batch: dict[str, Any], row: int) -> dict[str, Any]:
    return {key: value[row] for key, value in batch.items()}


def single_episodes(seed: int, obey: bool, options: dict[str, Any]) -> list[list[Episode]]:
    recorders = [Recorder(row, obey) for row in range(NUM_ENVS)]
    for row, recorder in enumerate(recorders):
        env = SelectiveExpansionEnv(toy_problem(), **options)
        first_seed: int | None = seed + row
        while len(recorder.episodes) < EPISODES:
            observation, _ = env.reset(seed=first_seed)
            first_seed, ended = None, False
            while not ended:
                action = recorder.act(observation, env.action_masks())
                observation, reward, ended, _, info = env.step(action)
                recorder.see(reward, info, ended)
    return [recorder.episodes[:EPISODES] for recorder in recorders]


def vector_episodes(
    seed: int, obey: bool, options: dict[str, Any], mode: str
) -> list[list[Episode]]:
    recorders = [Recorder(row, obey) for row in range(NUM_ENVS)]
    env = SelectiveExpansionVectorEnv(toy_problem(), NUM_ENVS, autoreset_mode=mode, **options)
    observation, _ = env.reset(seed=seed)
    restarting = np.zeros(NUM_ENVS, dtype=bool)
    while min(len(recorder.episodes) for recorder in recorders) < EPISODES:
        masks = env.action_masks()
        actions = [
            0 if restarting[row] else recorder.act(row_of(observation, row), masks[row])
            for row, recorder in enumerate(recorders)
        ]
        observation, rewards, ended, _, infos = env.step(np.array(actions))
        final = infos.get("final_info", infos) if mode == "SameStep" else infos
        for row, recorder in enumerate(recorders):
            if not restarting[row]:
                recorder.see(rewards[row], row_of(final, row) if ended[row] else {}, ended[row])
        restarting = ended if mode == "NextStep" else np.zeros(NUM_ENVS, dtype=bool)
    return [recorder.episodes[:EPISODES] for recorder in recorders]


def sb3_episodes(seed: int, obey: bool, options: dict[str, Any]) -> list[list[Episode]]:
    recorders = [Recorder(row, obey) for row in range(NUM_ENVS)]
    env = SelectiveExpansionVecEnv(toy_problem(), NUM_ENVS, **options)
    env.seed(seed)
    observation: Any = env.reset()
    while min(len(recorder.episodes) for recorder in recorders) < EPISODES:
        masks = env.env_method("action_masks")
        actions = [
            recorder.act(row_of(observation, row), masks[row])
            for row, recorder in enumerate(recorders)
        ]
        observation, rewards, ended, infos = env.step(np.array(actions))
        for row, recorder in enumerate(recorders):
            recorder.see(rewards[row], infos[row], bool(ended[row]))
    return [recorder.episodes[:EPISODES] for recorder in recorders]


def assert_same(left: list[list[Episode]], right: list[list[Episode]]) -> None:
    for mine, other in zip(left, right, strict=True):
        for one, two in zip(mine, other, strict=True):
            assert (one.window, one.budget, one.actions) == (two.window, two.budget, two.actions)
            assert one.expanded == two.expanded
            assert one.log_perplexity == pytest.approx(two.log_perplexity, abs=1e-4)
            np.testing.assert_allclose(one.rewards, two.rewards, atol=1e-4)
            for seen, other_seen in zip(one.observations, two.observations, strict=True):
                assert seen.keys() == other_seen.keys()
                for key in seen:
                    np.testing.assert_array_equal(seen[key], other_seen[key])


OPTIONS = [
    {"budget": [1, 4]},
    {"budget": "2x", "reward_timing": "per_step", "reward": "neg_perplexity"},
    {"budget": [1, 6], "reward_baseline": "compressed"},
]


@pytest.mark.parametrize("obey", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_3_all_views_give_the_same_episodes(options: dict[str, Any], obey: bool) -> None:
    single = single_episodes(17, obey, options)
    assert len({episode.window for episodes in single for episode in episodes}) > 3
    assert_same(single, vector_episodes(17, obey, options, "NextStep"))
    assert_same(single, vector_episodes(17, obey, options, "SameStep"))
    assert_same(single, sb3_episodes(17, obey, options))


def test_6_the_same_seed_gives_the_same_episodes_and_another_gives_others() -> None:
    options = OPTIONS[0]
    assert_same(sb3_episodes(3, True, options), sb3_episodes(3, True, options))
    with pytest.raises(AssertionError):
        assert_same(sb3_episodes(3, True, options), sb3_episodes(4, True, options))


@given(seed=st.integers(0, 10_000), obey=st.booleans())
@settings(max_examples=25, deadline=None)
def test_4_padding_is_never_expanded_and_the_budget_is_met(seed: int, obey: bool) -> None:
    problem = toy_problem()
    for episodes in vector_episodes(seed, obey, {"budget": [1, 6]}, "NextStep"):
        for episode in episodes:
            valid = problem.chunk_masks([episode.window])[0]
            expanded = np.array(episode.expanded)
            assert not np.any(expanded & ~valid)
            assert len(episode.actions) == episode.budget <= valid.sum()
            chosen = {action for action in episode.actions if valid[action]}
            assert set(np.flatnonzero(expanded)) == chosen
            if obey:
                assert len(chosen) == episode.budget


@given(order=st.permutations(range(4)), window=st.integers(0, 11), companions=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_2_the_reward_does_not_depend_on_order_or_companions(
    order: list[int], window: int, companions: int
) -> None:
    alone = SelectiveExpansionEnv(toy_problem(4))
    alone.reset(options={"window": window})
    batch = SelectiveExpansionVectorEnv(toy_problem(4), 1 + companions)
    batch.reset(seed=window, options={"window": [window, *range(companions)]})
    for step, action in enumerate(order):
        _, reward, _, _, _ = alone.step(step)
        others = batch.action_masks()[1:].argmax(axis=1)
        _, rewards, _, _, _ = batch.step(np.array([action, *others]))
    assert rewards[0] == pytest.approx(reward, abs=1e-4)
    assert reward != 0
